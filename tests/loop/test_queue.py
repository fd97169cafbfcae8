"""Names, each at most once, the earliest due first, never two workers on one."""

from __future__ import annotations

import threading

from controller.loop.queue import Queue


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def take(queue: Queue) -> str | None:
    """Take what is due now; None where nothing is."""
    stop = threading.Event()
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    try:
        return queue.take(stop, patience_s=0.01)
    finally:
        timer.cancel()


def test_a_name_waits_at_most_once() -> None:
    queue = Queue(Time())
    for _ in range(3):
        queue.add("shop")
    assert take(queue) == "shop"
    queue.done("shop")
    assert take(queue) is None


def test_the_earliest_due_time_wins() -> None:
    time = Time()
    queue = Queue(time)
    queue.add("shop", 60)
    queue.add("shop", 5)
    queue.add("shop", 30)
    assert take(queue) is None
    time.now += 5
    assert take(queue) == "shop"
    queue.done("shop")
    time.now += 100
    assert take(queue) is None


def test_names_come_in_the_order_in_which_they_are_due() -> None:
    time = Time()
    queue = Queue(time)
    queue.add("late", 2)
    queue.add("early", 1)
    time.now += 3
    assert [take(queue), take(queue)] == ["early", "late"]


def test_two_workers_never_have_the_same_name() -> None:
    queue = Queue(Time())
    queue.add("shop")
    assert take(queue) == "shop"
    queue.add("shop")
    assert take(queue) is None
    queue.done("shop")
    assert take(queue) == "shop"


def test_a_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    stop.set()
    assert Queue().take(stop) is None
