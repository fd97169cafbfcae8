"""How an app moves from one release to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from controller.spec.base import Part
from controller.spec.faults import Fault, allowed, faulty
from controller.spec.hosts import Host
from controller.spec.values import Duration, PositiveDuration, Rate, Share, Whole, count_of

STRATEGIES = ("rolling", "blue_green", "canary", "recreate")


class Rolling(Part):
    """Replaces replicas in waves; never fewer ready than replicas - max_unavailable."""

    type: Literal["rolling"] = "rolling"
    max_surge: Share = 1
    """How many more than `replicas` may start or serve at once; a percentage is rounded up."""
    max_unavailable: Share = 0
    """How many fewer than `replicas` may be ready; a percentage is rounded down."""

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if count_of(self.max_surge, 100, round_up=True) == 0 == count_of(self.max_unavailable, 100, round_up=True):
            raise faulty(
                [Fault(at=("max_unavailable",), allowed="above 0 where max_surge is 0, or nothing could move")]
            )
        return self

    def limits(self, replicas: int) -> tuple[int, int]:
        """Return surge and unavailable as counts; never both 0, as in Kubernetes."""
        surge = count_of(self.max_surge, replicas, round_up=True)
        unavailable = min(replicas, count_of(self.max_unavailable, replicas, round_up=False))
        # 0 and 25% of two replicas would round to 0 and 0: the rollout could not take its first step.
        return (surge, unavailable) if surge or unavailable else (0, 1)


class BlueGreen(Part):
    """Starts all of the new release, then moves all traffic in one switch."""

    type: Literal["blue_green"] = "blue_green"
    promote: Literal["auto", "manual"] = "auto"
    """auto: switch once all are ready; manual: wait for `oton promote`."""
    promote_after: Duration = 0.0
    """auto: switch only after all were ready for this long; manual: switch by itself after this, 0s: never."""
    keep_old: Duration = 30.0
    """How long the old release stays warm after the switch, ready to take traffic back."""
    preview_host: Host | None = None
    """A host that leads to the new release before the switch. Needs `port`."""


class CanaryStep(Part):
    """One share of the traffic, for a time."""

    weight: Whole = Field(ge=1, le=100)
    """Percent of the requests that go to the new release."""
    hold: Duration = 30.0
    """How long this share is watched."""

    @model_validator(mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        weight = value.get("weight") if isinstance(value, Mapping) else None
        if isinstance(weight, str) and weight.removesuffix("%").isdecimal() and len(weight) <= 4:
            return {**value, "weight": int(weight.removesuffix("%"))}
        return value


class AbortOn(Part):
    """What ends a canary; null switches a limit off."""

    error_rate: Rate | None = 0.05
    """Share of answers from 500 up, beyond which it is undone."""
    p95: PositiveDuration | None = 2.0
    """95th percentile of the time to the response head, beyond which it is undone."""
    min_requests: Whole = Field(default=20, ge=1)
    """With fewer requests than this in a hold, the hold is extended once."""


class Canary(Part):
    """Gives the new release a growing share of the traffic and watches it."""

    type: Literal["canary"] = "canary"
    steps: tuple[CanaryStep, ...] = (CanaryStep(weight=10), CanaryStep(weight=50))
    """Shares in growing order; after the last one the new release takes all."""
    abort_on: AbortOn = AbortOn()
    """Limits that undo it at once."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        weights = [step.weight for step in self.steps]
        if not weights:
            raise allowed("at least one step", "steps")
        for index in range(1, len(weights)):
            if weights[index] <= weights[index - 1]:
                raise allowed("a weight above that of the step before", "steps", index, "weight")
        return self


class Recreate(Part):
    """Stops the old before the new starts; the proxy holds requests meanwhile."""

    type: Literal["recreate"] = "recreate"
    hold: PositiveDuration = 30.0
    """How long a request waits at most."""


def _read_strategy(value: Any) -> Any:
    if isinstance(value, str) and value in STRATEGIES:
        value = {"type": value}
    if isinstance(value, Mapping):
        kind = value.get("type")
        if not isinstance(kind, str) or kind not in STRATEGIES:
            raise faulty([Fault(at=("type",), allowed=", ".join(STRATEGIES))])
    elif not isinstance(value, Rolling | BlueGreen | Canary | Recreate):
        raise allowed(f"one of {', '.join(STRATEGIES)}, or a mapping with type")
    return value


AnyStrategy = Rolling | BlueGreen | Canary | Recreate
Strategy = Annotated[
    AnyStrategy,
    Field(discriminator="type"),
    BeforeValidator(_read_strategy),
]
