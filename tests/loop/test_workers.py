"""Worker threads: one app's trouble is its own; a dead thread is loud."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.loop.queue import Queue
from controller.loop.threads import Threads
from controller.loop.workers import Workers
from tests.builders import a_spec
from tests.loop.house import House, a_house
from tests.parts.wait import wait_for


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path) as opened:
        yield opened


def test_one_apps_broken_pass_stops_no_other(house: House) -> None:
    house.ask(a_spec())
    house.ask(a_spec(name="blog", routes=[{"host": "blog.example.com"}]))
    real = house.shelf.standing

    def standing(app: str) -> object:
        if app == "blog":
            raise ZeroDivisionError
        return real(app)

    house.shelf.standing = standing  # type: ignore[method-assign,assignment]
    queue = Queue()
    workers = Workers(queue, house.ports, lambda: ["blog", "shop"])
    house.engine.ring = workers.ring
    threads = Threads()
    for number in range(2):
        threads.start(f"worker-{number}", workers.run)
    workers.ring("")
    try:
        wait_for(lambda: house.memory().live == 1, 10, "shop to be live")
        wait_for(lambda: "ZeroDivisionError" in workers.broken.get("blog", ""), 10, "the other to be held")
        assert threads.died is None
    finally:
        threads.stop.set()
        assert threads.join(5) == ()


def test_a_controller_that_lost_its_lock_does_nothing(house: House) -> None:
    house.ask(a_spec())
    queue = Queue()
    workers = Workers(queue, house.ports, lambda: ["shop"])
    workers.may_act = lambda: False
    threads = Threads()
    threads.start("worker", workers.run)
    workers.ring("shop")
    wait_for(lambda: len(queue) == 0, 10, "the name to be taken")
    threads.stop.set()
    threads.join(5)
    assert house.engine.writes == []
    assert workers.passes == 0


def test_a_thread_that_dies_stops_the_house_and_is_named() -> None:
    threads = Threads()

    def dies(_stop: threading.Event) -> None:
        raise RuntimeError("no")

    threads.start("prober", dies)
    assert threads.stop.wait(5)
    assert threads.died == "prober"
