"""Warnings: what is allowed and probably not meant."""

from __future__ import annotations

from collections.abc import Iterator

from controller.spec.faults import Fault
from controller.spec.model import AppSpec, Recreate
from controller.spec.values import render_duration


def find_doubts(spec: AppSpec) -> Iterator[Fault]:
    """Yield a fault with a message for each thing that a person should look at twice."""
    yield from _doubt_volumes(spec)
    yield from _doubt_times(spec)
    yield from _doubt_health(spec)
    for key, value in spec.environment.items():
        if value is None:
            message = 'has no value and is unset in the container; for an empty one write ""'
            yield Fault(at=("environment", key), message=message)
    hosts = {route.host for route in spec.routes}
    canonical = spec.proxy.canonical_host
    if canonical is not None and canonical not in hosts and not any(host is None or "*" in host for host in hosts):
        yield Fault(at=("proxy", "canonical_host"), message=f"no route of this app has the host {canonical}")


def _doubt_volumes(spec: AppSpec) -> Iterator[Fault]:
    if not spec.runs_two_releases:
        return
    for index, volume in enumerate(spec.volumes):
        if volume.source and not volume.read_only:
            yield Fault(
                at=("volumes", index),
                message=f"two releases write to {volume.source} at once with strategy {spec.strategy.type}; "
                "if it has to have a single writer, use strategy recreate",
            )


def _doubt_times(spec: AppSpec) -> Iterator[Fault]:
    strategy = spec.strategy
    if spec.before is not None and isinstance(strategy, Recreate) and spec.before.timeout > strategy.hold:
        yield Fault(
            at=("before", "timeout"),
            message=f"{render_duration(spec.before.timeout)} is longer than hold ({render_duration(strategy.hold)}): "
            "requests that wait while `before` runs would get 503",
        )
    if spec.health.start_period >= spec.deadline:
        yield Fault(
            at=("health", "start_period"),
            message=f"is not shorter than deadline ({render_duration(spec.deadline)}): "
            "a slow start fails before it is over",
        )


def _doubt_health(spec: AppSpec) -> Iterator[Fault]:
    if spec.health.command is not None and spec.health.path is not None:
        yield Fault(at=("health", "path"), message="is not asked, because health.command is set")
