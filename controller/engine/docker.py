"""The port that the loop sees, and what the doors need beside it; each call goes to the part that knows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from controller.clock import Clock, SystemClock
from controller.engine.binds import Binds, Guarded
from controller.engine.calls import READ_S, Calls
from controller.engine.containers import Containers
from controller.engine.doctor import Row, examine
from controller.engine.events import Events
from controller.engine.images import Images
from controller.engine.networks import Networks, Upstream
from controller.engine.puller import Puller
from controller.engine.reading import clean_lines
from controller.engine.sight import Sight
from controller.engine.streams import LogStream, Session, Streams
from controller.engine.volumes import Volumes
from controller.ports import ContainerPlan, Ring
from controller.world.model import Replica, Resolution


class DockerEngine:
    """Implements `ports.Engine` on a Docker engine; safe for several threads, every call within ten seconds.

    `run_events`, `run_pulse` and `run_puller` each want a thread of their own; `run_puller` may have several.
    """

    def __init__(
        self,
        *,
        instance: str,
        ring: Ring,
        state: Path | None = None,
        clock: Clock | None = None,
        network: str = "oton",
        subnet: str | None = None,
        upstream: Upstream = "auto",
        docker_host: str = "",
    ) -> None:
        """Nothing is asked of the engine yet. *state* keeps small files, without which nothing breaks."""
        self.clock = clock or SystemClock()
        folder = _folder(state)
        self._calls = Calls(docker_host)
        self._networks = Networks(
            self._calls,
            instance,
            name=network,
            subnet=subnet,
            upstream=upstream,
            memo=folder,
        )
        self._sight = Sight(self._calls, instance)
        self._sight.on_address = self._networks.bind
        self._sight.on_present = self._networks.settle
        self._networks.look_around = self._sight.observe_all
        self._images = Images(self._calls, folder / "images" if folder else None)
        self._puller = Puller(self._calls, ring)
        self._puller.on_image = self._images.used
        self._binds = Binds(lambda: self._calls.place)
        self._containers = Containers(
            self._calls,
            instance,
            self._sight,
            networks=self._networks,
            volumes=Volumes(self._calls, instance),
            binds=self._binds,
        )
        self._events = Events(self._calls, instance, self._sight, ring)
        self._streams = Streams(self._calls, self._sight, self._containers)
        self._events.on_resync = self._streams.sweep

    def guard(self, places: Iterable[Guarded]) -> None:
        """Give no container these places of this machine, nor what holds one, as with the engine's own socket."""
        self._binds.guarded = tuple(places)

    # The port.

    def reachable(self) -> bool:
        return self._calls.reachable()

    def observe(self, app: str) -> tuple[Replica, ...]:
        return self._sight.observe(app)

    def observe_all(self) -> Mapping[str, tuple[Replica, ...]]:
        return self._sight.observe_all()

    def start(self, plan: ContainerPlan) -> str:
        return self._containers.start(plan)

    def restart(self, replica: str) -> None:
        self._containers.restart(replica)

    def signal_stop(self, replica: str) -> None:
        self._containers.signal_stop(replica)

    def kill(self, replica: str) -> None:
        self._containers.kill(replica)

    def remove(self, replica: str) -> None:
        self._containers.remove(replica)

    def tail(self, replica: str, lines: int = 20) -> tuple[str, ...]:
        self._sight.must_be_ours(replica)
        with self._calls.doing(f"read the last lines of {replica[:12]}", READ_S) as client:
            said: bytes = client.logs(replica, stdout=True, stderr=True, tail=lines)
        return clean_lines(said.decode("utf-8", "replace"))[-lines:]

    def resolve(self, key: str, ref: str, policy: str) -> None:
        self._puller.resolve(key, ref, policy)

    def resolutions(self, app: str) -> Mapping[str, Resolution]:
        return self._puller.resolutions(app)

    def has_image(self, image_id: str) -> bool:
        return self._images.has(image_id)

    def retain_images(self, keep: Collection[str]) -> None:
        self._images.retain(keep)

    def retain_networks(self, keep: Collection[str]) -> None:
        self._networks.retain(keep, self._sight.listed)

    # Threads.

    def run_events(self, stop: threading.Event) -> None:
        """Ring for what the engine tells of, and for all whenever its stream had to be opened anew."""
        self._events.run(stop)

    def run_pulse(self, stop: threading.Event) -> None:
        """Watch whether the engine is there, ring for all twice a minute, and end `run_events` with *stop*."""
        self._events.pulse(stop)

    def run_puller(self, stop: threading.Event) -> None:
        """Pull what `resolve` asked for; two or three threads let one slow registry delay nobody else."""
        self._puller.run(stop)

    # What the doors need.

    def on_reachable(self, tell: Callable[[bool, str], None]) -> None:
        """Call *tell* whenever the engine goes away (and why) or comes back, from the thread that noticed."""
        self._calls.on_reachable = tell

    def logs(
        self, replica: str, *, follow: bool = False, tail: int | None = None, since: float | None = None
    ) -> LogStream:
        """Open a container's output; iterate it in one thread, `close` it from any."""
        return self._streams.logs(replica, follow=follow, tail=tail, since=since)

    def exec_stream(self, replica: str, command: Sequence[str], *, tty: bool = False) -> Session:
        """Start a command inside a running replica; NotStarted carries the exit code where that fails."""
        return self._streams.execute(replica, command, tty=tty)

    def run_oneoff(self, plan: ContainerPlan, *, tty: bool = False) -> Session:
        """Start a one-off (plan.kind "run") and attach to it; closing the session removes it."""
        return self._streams.run(plan, tty=tty)

    def doctor(self) -> tuple[Row, ...]:
        """Examine the engine; never raises."""
        return examine(self._calls, self._networks)


def _folder(state: Path | None) -> Path | None:
    if state is None:
        return None
    folder = state / "engine"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
