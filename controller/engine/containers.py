"""Making, starting and ending containers, so that doing it twice, or losing the engine's answer, is harmless."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import docker.errors

from controller.engine import labels
from controller.engine.binds import Binds, binds_of, binds_of_spec
from controller.engine.calls import Calls, Gone, explain
from controller.engine.networks import Networks
from controller.engine.sight import Sight
from controller.engine.translate import container_name, render_container
from controller.engine.volumes import Volumes
from controller.errors import ControllerError, Refused, Retry, Stale
from controller.ports import ContainerPlan

NAMES = 100
"""So many names are tried for one container before a person is asked."""

_NOT_RUNNING = re.compile(r"is not running|already stopped|is not paused", re.IGNORECASE)
_NO_NETWORK = re.compile(r"network .*not found")
_NO_ADDRESS = re.compile(r"^address already in use|no available ipv4|no configured subnet|invalid address")
Change = Callable[[dict[str, Any]], dict[str, Any]]


class MisplacedError(Retry):
    """The container cannot start where it is: its network or its address is not to be had any more."""


class Containers:
    """Every writing call about containers; touches none but our instance's."""

    def __init__(  # one argument a part
        self, calls: Calls, instance: str, sight: Sight, *, networks: Networks, volumes: Volumes, binds: Binds
    ) -> None:
        self._calls = calls
        self._instance = instance
        self._sight = sight
        self._networks = networks
        self._volumes = volumes
        self._binds = binds

    def start(self, plan: ContainerPlan) -> str:
        """Create and start one container for *plan*, or go on with the one that was begun; return its id."""
        with self._calls.doing(f"start {container_name(plan)}"):
            known = self._begun(plan)
            if known is not None and known["State"] != "created":
                return str(known["Id"])
            made = self._join_missing(plan, known["Id"]) if known else self.create(plan)
            return self._run(plan, made)

    def create(self, plan: ContainerPlan, change: Change = lambda body: body, suffix: str = "") -> str:
        """Create the container of *plan* without starting it; *change* edits the request."""
        self._volumes.ensure(plan.release.spec)
        self._networks.check_extra(plan.app, plan.release.spec.networks)
        for attempt in range(1, NAMES):
            name = container_name(plan, attempt) + suffix
            with self._binds.judged_beside(binds_of_spec(plan.release.spec.volumes), self._sight.listed):
                made = self._create_as(name, plan, change)
            if made is not None:
                return self._join_missing(plan, made)
        raise Refused(f"the names {container_name(plan)} to -{NAMES - 1} are all taken by others; remove some of them")

    def _begun(self, plan: ContainerPlan) -> dict[str, Any] | None:
        """Find what an earlier try for the same plan left: its answer may have been lost.

        One that runs and was seen running is not it: whoever asks now knows of that one and wants another beside it.
        """
        if plan.kind == "run":
            return None
        wanted = _made_for(plan, self._instance)
        same = [each for each in self._sight.listed(plan.app) if _is_made_for(each["Labels"], wanted)]
        return next((each for each in same if plan.kind == "before" or self._is_begun(each)), None)

    def _is_begun(self, listed: Mapping[str, Any]) -> bool:
        is_new = listed["State"] == "running" and not self._sight.was_shown(listed["Id"])
        return listed["State"] == "created" or is_new

    def _create_as(self, name: str, plan: ContainerPlan, change: Change) -> str | None:
        """Create under this name; None if somebody else has it."""
        place = self._networks.place(plan.app, plan.release.spec.replicas)
        body = change(render_container(plan, self._instance, place))
        try:
            with self._calls.doing(f"create {name}") as client:
                try:
                    made = str(client.create_container_from_config(body, name)["Id"])  # type: ignore[no-untyped-call]
                except docker.errors.APIError as error:
                    self._give_back(plan.app, place.address)
                    if error.status_code == 409 and "name" in explain(error).lower():
                        return self._owner(name, plan)
                    if error.status_code == 404 and "image" in explain(error).lower():
                        raise Refused(
                            f"image {plan.release.spec.image} ({plan.release.image_id[:19]}) is not on the engine "
                            f"any more; `oton retry {plan.app}` pulls it again"
                        ) from error
                    raise
        except Stale:
            self._networks.forget()
            raise
        self._sight.doubt(made)
        if place.address:
            self._networks.bind(plan.app, made, place.address)
        return made

    def _owner(self, name: str, plan: ContainerPlan) -> str | None:
        """Return the container that has the name if it is the one we wanted; None if it is another."""
        with self._calls.doing(f"see who has the name {name}") as client:
            try:
                seen = client.inspect_container(name)
            except docker.errors.NotFound as error:
                # Still being created by a call of ours that broke off, or not quite removed yet.
                raise Retry(f"the engine has not finished with an earlier {name}") from error
        same = _is_made_for(seen["Config"].get("Labels") or {}, _made_for(plan, self._instance))
        return str(seen["Id"]) if same and seen["State"]["Status"] == "created" else None

    def _join_missing(self, plan: ContainerPlan, made: str) -> str:
        """Join the networks that the spec asks for, but for those that a broken-off `create` came to."""
        if plan.release.spec.networks:
            joined = (self._sight.inspect(made).get("NetworkSettings") or {}).get("Networks") or {}
            for name in plan.release.spec.networks:
                if name not in joined:
                    self._join(plan, made, name)
        return made

    def _join(self, plan: ContainerPlan, made: str, name: str) -> None:
        with self._calls.doing(f"join {container_name(plan)} to network {name}") as client:
            aliases = [plan.app] if plan.kind == "replica" else None
            client.connect_container_to_network(made, name, aliases=aliases)

    def _run(self, plan: ContainerPlan, made: str) -> str:
        try:
            with self.starting(made):
                self._start(made, container_name(plan))
        except (Refused, MisplacedError):
            # A container that cannot start owns the name and would be taken for a replica on its way.
            self._discard(made)
            raise
        return made

    @contextmanager
    def starting(self, container: str) -> Iterator[None]:
        """Judge what a new container binds before the block starts it, and behind it once more: then it is ended."""
        with self._ended_if_refused(container), self._binds.judged(binds_of(self._sight.inspect(container))):
            yield

    @contextmanager
    def _starting_again(self, seen: Mapping[str, Any]) -> Iterator[None]:
        def others() -> list[dict[str, Any]]:
            return [each for each in self._sight.listed() if each["Id"] != seen["Id"]]

        with self._ended_if_refused(seen["Id"]), self._binds.judged_beside(binds_of(seen), others):
            yield

    @contextmanager
    def _ended_if_refused(self, container: str) -> Iterator[None]:
        try:
            yield
        except Refused:
            # It may run already, with something of the host that it must not have.
            with suppress(ControllerError):
                self.kill(container)
            raise

    def _start(self, container: str, name: str) -> None:
        try:
            with self._calls.doing(f"start {name}") as client:
                try:
                    client.start(container)
                except docker.errors.APIError as error:
                    self._judge_start(name, explain(error).lower(), error)
                    raise
        finally:
            self._sight.doubt(container)

    def _judge_start(self, name: str, said: str, error: Exception) -> None:
        if _NO_NETWORK.search(said):
            self._networks.forget()
            raise MisplacedError(f"{name}: its network was removed meanwhile; making it again") from error
        if _NO_ADDRESS.search(said):
            raise MisplacedError(f"{name}: its address was taken by a container that is not ours; moving it") from error

    def _discard(self, container: str) -> None:
        with suppress(ControllerError):
            self.remove(container)

    def _give_back(self, app: str, address: str | None) -> None:
        if address:
            self._networks.give_back(app, address)

    def restart(self, container: str) -> None:
        """Start an exited container again; running already is success, a paused one goes on."""
        seen = self._sight.inspect(container)
        name, status = _name(seen), seen["State"]["Status"]
        if status == "paused":
            self._unpause(container, name)
        elif status != "running":
            with self._starting_again(seen):
                try:
                    self._start(container, name)
                except MisplacedError:
                    self._move(seen)
                    self._start(container, name)

    def _move(self, seen: Mapping[str, Any]) -> None:
        """Give an existing container another place on its app's network: it is kept for what is inside it."""
        container, name, ours = seen["Id"], _name(seen), seen["Config"]["Labels"]
        app, home = ours[labels.APP], seen["HostConfig"].get("NetworkMode", "")
        place = self._networks.place(app)
        with self._calls.doing(f"move {name} on network {place.network}") as client:
            for former in {home, place.network}:
                with suppress(docker.errors.APIError):  # it may not have got as far as being on it
                    client.disconnect_container_from_network(container, former, force=True)
            aliases = None if ours.get(labels.KIND) else [app]
            client.connect_container_to_network(container, place.network, aliases=aliases, ipv4_address=place.address)
        if place.address:
            self._networks.bind(app, container, place.address)

    def signal_stop(self, container: str) -> None:
        """Send the container's own stop signal and return at once; one that does not run is success."""
        seen = self._sight.inspect(container)
        if seen["State"]["Status"] == "paused":
            self._unpause(container, _name(seen))
        self._kill(container, _name(seen), seen["Config"].get("StopSignal") or "SIGTERM")

    def kill(self, container: str) -> None:
        """Send SIGKILL; one that does not run is success."""
        self._sight.must_be_ours(container)
        self._kill(container, container[:12], "SIGKILL")

    def _unpause(self, container: str, name: str) -> None:
        with self._calls.doing(f"unpause {name}") as client:
            try:
                client.unpause(container)
            except docker.errors.APIError as error:
                if not _NOT_RUNNING.search(explain(error)):
                    raise
            finally:
                self._sight.doubt(container)

    def _kill(self, container: str, name: str, signal: str) -> None:
        with self._calls.doing(f"send {signal} to {name}") as client:
            try:
                client.kill(container, signal=signal)
            except docker.errors.APIError as error:
                if not _NOT_RUNNING.search(explain(error)):
                    raise
            finally:
                self._sight.doubt(container)

    def remove(self, container: str) -> None:
        """Remove one that does not run, with its anonymous volumes; gone, or going, is success."""
        with suppress(Gone):
            self._sight.must_be_ours(container)
            with self._calls.doing(f"remove container {container[:12]}") as client:
                try:
                    client.remove_container(container, v=True)
                except docker.errors.APIError as error:
                    if "already in progress" not in explain(error):
                        raise
                finally:
                    self._sight.doubt(container)


def _made_for(plan: ContainerPlan, instance: str) -> dict[str, str]:
    return {
        labels.INSTANCE: instance,
        labels.APP: plan.app,
        labels.RELEASE: str(plan.release.number),
        labels.REPLICA: str(plan.index),
        labels.SPEC: plan.release.container_digest,
        labels.KIND: "" if plan.kind == "replica" else plan.kind,
    }


def _is_made_for(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(found.get(key, "") == value for key, value in wanted.items())


def _name(seen: Mapping[str, Any]) -> str:
    return str(seen["Name"]).lstrip("/")
