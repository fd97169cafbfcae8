"""A real engine for tests: images that only sleep, plans, an instance of one's own, and its end."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import docker

from controller.engine import DockerEngine
from controller.plan.situation import Release
from controller.ports import ContainerPlan
from controller.spec.model import AppSpec
from tests.parts.daemon import connect
from tests.parts.images import ensure_image
from tests.parts.images import image_id as the_id_of

IMAGE = "oton-test-engine:1"
CHECKED = "oton-test-engine:checked"


def plain_client(timeout: float) -> docker.APIClient:
    """Return a client of the engine that the environment names."""
    return connect(timeout)


@cache
def make_images() -> str:
    """Make the test images once per machine and return the id of the plain one."""
    sleep = 'CMD ["/bin/sleep", "3600"]'
    ensure_image(IMAGE, [sleep, "ENV MADE_BY=image"])
    ensure_image(CHECKED, [sleep, "HEALTHCHECK --interval=1s CMD /bin/true"])
    return the_id_of(IMAGE)


def image_id(ref: str) -> str:
    """Return the id of a test image."""
    make_images()
    return the_id_of(ref)


def a_plan(
    app: str = "shop", *, release: int = 1, index: int = 1, kind: str = "replica", image: str = "", **fields: Any
) -> ContainerPlan:
    """Return a plan with good defaults; what is not the plan's own goes to the spec."""
    own = {key: fields.pop(key) for key in ("command_instead", "secret_values", "files") if key in fields}
    digest = fields.pop("digest", f"digest-{release}")
    spec = AppSpec.model_validate({"name": app, "image": IMAGE, **fields})
    made = Release(
        number=release, spec=spec, digest="spec", image_id=image or "sha256:" + "0" * 64, container_digest=digest
    )
    return ContainerPlan(
        app=app,
        release=made,
        index=index,
        kind=kind,
        command=own.get("command_instead"),
        secrets=own.get("secret_values") or {},
        files=own.get("files") or {},
    )


@contextmanager
def closing_client(timeout: float = 20) -> Iterator[docker.APIClient]:
    """A plain client for what tests do behind our back."""
    client = plain_client(timeout)
    try:
        yield client
    finally:
        client.close()


class Bench:
    """One engine edge of ours with an instance id of its own, the bell's record, and a plain client beside it."""

    def __init__(self, state: Path | None = None, **settings: Any) -> None:
        self.instance = f"test-{uuid.uuid4().hex[:12]}"
        self.network = f"oton-{self.instance}"
        self.app = ""
        """A name that nobody else on this engine has, nor another test on this bench."""
        self._apps = 0
        self.renew()
        self.rung: list[str] = []
        self.image = make_images()
        self.state = state
        self.settings = {"network": self.network, **settings}
        self.engine = self.another()
        self.client = plain_client(20)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def another(self, **settings: Any) -> DockerEngine:
        """Return an edge as after a restart of ours."""
        return DockerEngine(
            instance=self.instance, ring=self.rung.append, state=self.state, **{**self.settings, **settings}
        )

    def plan(self, app: str = "", **fields: Any) -> ContainerPlan:
        """Return a plan whose image is there."""
        return a_plan(app or self.app, image=fields.pop("image_id", self.image), **fields)

    @property
    def own(self) -> str:
        """The name of the network of this test's app."""
        return f"{self.network}-{self.app}"

    def follow(self, *runs: Callable[[threading.Event], None]) -> None:
        """Run loops of the edge in threads until the end of the test."""
        for run in runs:
            thread = threading.Thread(target=run, args=(self._stop,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def renew(self) -> None:
        """Begin another test: with a name of its own it needs no wait for the last one's containers to go."""
        self._apps += 1
        self.app = f"shop-{self.instance[-6:]}-{self._apps}"

    def clear(self) -> None:
        """Remove this instance's containers, several at a time: most of it is waiting for the engine."""
        listed = self.client.containers(all=True, filters={"label": f"oton.instance={self.instance}"})

        def remove(container: str) -> None:
            with closing_client() as client, suppress(docker.errors.APIError):
                client.remove_container(container, force=True, v=True)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(remove, [each["Id"] for each in listed]))

    def close(self) -> None:
        """End the threads and remove everything that bears this instance's label."""
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive(), "a loop did not end within 5 s"
        self.clear()
        label = f"oton.instance={self.instance}"
        for each in self.client.networks(filters={"label": label}):
            with suppress(docker.errors.APIError):
                self.client.remove_network(each["Id"])
        for each in self.client.volumes(filters={"label": label})["Volumes"] or ():
            with suppress(docker.errors.APIError):
                self.client.remove_volume(each["Name"])
        self.client.close()


@contextmanager
def a_bench(state: Path | None = None, **settings: Any) -> Iterator[Bench]:
    """A bench that leaves nothing behind."""
    bench = Bench(state, **settings)
    try:
        yield bench
    finally:
        bench.close()


def wait_for[T](ask: Callable[[], T], within_s: float = 10.0) -> T:
    """Return the first true answer of *ask*; fail after *within_s*."""
    end = time.monotonic() + within_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not so within {within_s} s; last answer: {answer!r}")
        time.sleep(0.01)


def with_command(plan: ContainerPlan, *words: str) -> ContainerPlan:
    """Return the plan with another command."""
    return replace(plan, command=words)


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
