"""
Image references to image ids, in threads of their own: a slow registry holds up no pass.

The SDK's own pull hides errors inside the progress stream and hands back the stale local image; so the
stream is read here, and only an image whose pull ended well is used.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import docker.errors
import structlog
import tenacity
from docker.utils import parse_repository_tag

from controller.clock import steady_seconds
from controller.engine.calls import BREAKS, Calls, TimedClient, is_timeout
from controller.engine.progress import Progress, PullError, judge_pull
from controller.errors import ControllerError, Refused, Retry
from controller.world.model import Resolution

QUIET_S = 30.0
"""A pull that shows no progress for this long has failed; contract section 6."""
PASSING_S = 10.0
"""For this long without progress a registry that answers badly is asked again."""
REMEMBERED = 200
"""So many resolutions are kept, newest last."""

_log = structlog.get_logger("engine")


@dataclass(frozen=True, slots=True)
class _Wish:
    key: str
    ref: str
    policy: str


class Puller:
    """Turns references into ids; `run` may be run by several threads at once."""

    def __init__(self, calls: Calls, ring: Callable[[str], None]) -> None:
        self._calls = calls
        self._ring = ring
        self._wishes: queue.SimpleQueue[_Wish] = queue.SimpleQueue()
        self._known: dict[str, Resolution] = {}
        self._lock = threading.Lock()
        self.on_image: Callable[[str, str], None] = lambda ref, image_id: None
        """Told of each reference and the id that it came to."""

    def resolve(self, key: str, ref: str, policy: str) -> None:
        """Begin under *key*; one that runs is not started again. What is on the engine already is found at once."""
        with self._lock:
            known = self._known.get(key)
            if known is not None and known.state == "running":
                return
            self._known.pop(key, None)
            self._known[key] = Resolution(progress="waiting for its turn")
            for old in [each for each, one in self._known.items() if one.state != "running"][:-REMEMBERED]:
                del self._known[old]
        try:
            found = None if policy == "always" else self._look(ref)
        except Refused as error:
            self._settle(key, Resolution(state="failed", error=str(error)))
        except ControllerError:
            with self._lock:
                del self._known[key]  # not begun: the next pass asks again
            raise
        else:
            self._decide(_Wish(key, ref, policy), found)

    def resolutions(self, app: str) -> Mapping[str, Resolution]:
        """Return what has become of the keys that start with `app/`."""
        with self._lock:
            return {key: one for key, one in self._known.items() if key.startswith(f"{app}/")}

    def run(self, stop: threading.Event) -> None:
        """Pull what is wished for until *stop* is set."""
        while not stop.is_set():
            try:
                wish = self._wishes.get(timeout=0.4)
            except queue.Empty:
                continue
            self._settle(wish.key, self._pull_or_say_why(wish, stop))

    def _decide(self, wish: _Wish, found: Resolution | None) -> None:
        if found is not None:
            self.on_image(wish.ref, found.image_id)
            self._settle(wish.key, found)
        elif wish.policy == "never":
            self._settle(
                wish.key,
                Resolution(
                    state="failed",
                    error=f"image {wish.ref} is not on the engine, and `pull: never` forbids fetching it",
                ),
            )
        else:
            self._wishes.put(wish)

    def _settle(self, key: str, resolution: Resolution) -> None:
        with self._lock:
            self._known[key] = resolution
        self._ring(key.split("/", 1)[0])

    def _look(self, ref: str) -> Resolution | None:
        with self._calls.doing(f"look for image {ref}") as client:
            try:
                return _done(client.inspect_image(ref))  # type: ignore[no-untyped-call]
            except docker.errors.NotFound:
                return None

    def _pull_or_say_why(self, wish: _Wish, stop: threading.Event) -> Resolution:
        progress = Progress(lambda text: self._show(wish.key, text))
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Retry),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=5),
            stop=lambda _: stop.is_set() or progress.quiet_s() > PASSING_S,
            sleep=tenacity.sleep_using_event(stop),
            reraise=True,
        )
        try:
            resolution: Resolution = tries(self._pull, wish, progress)
        except (PullError, ControllerError) as error:
            return Resolution(state="failed", error=str(error))
        self.on_image(wish.ref, resolution.image_id)
        return resolution

    def _pull(self, wish: _Wish, progress: Progress) -> Resolution:
        try:
            with self._calls.doing(f"pull {wish.ref}"):
                client = self._calls.open_client(read_s=QUIET_S)
        except Retry:
            progress.touch()  # time without an engine does not count
            raise
        progress.begin()
        try:
            for line in _pull_lines(client, wish.ref):
                progress.take(line)
        except docker.errors.APIError as error:
            raise judge_pull(wish.ref, str(error.explanation or error)) from error
        except (ValueError, LookupError, RuntimeError) as error:
            # A credential helper that prints nonsense must fail this pull, not end the thread of all pulls.
            raise PullError(f"cannot pull {wish.ref}: {type(error).__name__}: {error}") from error
        except BREAKS as error:
            raise self._judge_break(wish.ref, error, progress) from error
        finally:
            client.close()
        progress.check(wish.ref)
        return self._pulled(wish.ref, progress.digest)

    def _judge_break(self, ref: str, error: Exception, progress: Progress) -> PullError | Retry:
        if is_timeout(error):
            return PullError(f"the pull of {ref} showed no progress for {QUIET_S:.0f} s (at: {progress.text})")
        if isinstance(error, docker.errors.DockerException):
            return PullError(f"cannot pull {ref}: {error}")  # such as a credential helper that failed
        if not self._calls.ping():
            progress.touch()  # time without an engine does not count
        return Retry(f"the connection to the container engine broke while pulling {ref}: {error}")

    def _pulled(self, ref: str, digest: str) -> Resolution:
        """Return the image that this pull brought, even if the tag was moved a moment later."""
        name = f"{ref.rsplit('@', 1)[0] if '@' in ref else parse_repository_tag(ref)[0]}@{digest}" if digest else ref
        found = self._look(name) or self._look(ref)
        if found is None:
            raise PullError(f"image {ref} was pulled but is not on the engine; was it removed right away?")
        return found

    def _show(self, key: str, text: str) -> None:
        with self._lock:
            known = self._known.get(key)
            if known is not None and known.state == "running":
                self._known[key] = Resolution(progress=text)


def _pull_lines(client: TimedClient, ref: str) -> Iterator[dict[str, Any]]:
    """Yield the engine's progress messages, and none after 30 s without a new one."""
    client.until = steady_seconds() + QUIET_S
    repository, tag = parse_repository_tag(ref)
    for raw in client.pull(repository, tag=tag or "latest", stream=True):
        for line in raw.splitlines():
            if line.strip():
                yield json.loads(line)


def _done(seen: Mapping[str, Any]) -> Resolution:
    test = ((seen.get("Config") or {}).get("Healthcheck") or {}).get("Test") or []
    return Resolution(state="done", image_id=seen["Id"], healthcheck=bool(test) and test[0] != "NONE")
