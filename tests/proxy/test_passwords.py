"""Passwords are checked beside the loop: in fair shares, within bounds, and a right one is never called wrong."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import controller.proxy.passwords
from controller.proxy.passwords import Passwords
from controller.routing.table import Policy
from tests.proxy.rig import Caller, Lane, an_app, wait_for

HASH = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
LINES = (f"ann:$2y$04${HASH}",)


def given(password: str = "right") -> bytes:
    return b"Basic " + base64.b64encode(f"ann:{password}".encode())


class Hashing:
    """Stands in for the slow hashes: each takes until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[bytes] = []
        self.gates: dict[bytes, threading.Event] = {}
        self.open = threading.Event()
        monkeypatch.setattr(controller.proxy.passwords, "_is_right", self.is_right)

    def is_right(self, _: str, password: bytes) -> bool:
        self.begun.append(password)
        gate = self.gates.setdefault(password, threading.Event())
        while not (gate.wait(0.005) or self.open.is_set()):
            pass
        if password.startswith(b"fail"):
            raise MemoryError
        return password.startswith(b"right")

    def let_go(self, password: bytes) -> None:
        self.gates.setdefault(password, threading.Event()).set()


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Hashing(monkeypatch)
    yield made
    made.open.set()


class Asked:
    """Checks that were asked for, and what was told."""

    def __init__(self) -> None:
        self.passwords = Passwords()
        self.told: list[tuple[str, str, bool | None]] = []

    def ask(self, app: str, password: str = "right", client: str = "192.0.2.1") -> None:
        self.passwords.check(app, client, LINES, given(password), lambda it: self.told.append((app, password, it)))


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited in vain")


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))


def test_an_app_whose_passwords_are_guessed_at_does_not_keep_others_waiting(hashing: Hashing) -> None:
    async def story() -> None:
        asked = Asked()
        for number in range(8):
            asked.ask("guessed", f"wrong{number}")
        asked.ask("shop")
        hashing.let_go(b"right")
        await until(lambda: asked.told)
        assert asked.told == [("shop", "right", True)]
        assert hashing.begun.count(b"wrong0") == 1
        assert b"wrong1" not in hashing.begun, "one thread stays for the others"
        hashing.open.set()
        await until(lambda: len(asked.told) == 9)

    run(story)


def test_apps_take_turns(hashing: Hashing) -> None:
    async def story() -> None:
        asked = Asked()
        for app in "abc":
            for number in range(4):
                asked.ask(app, f"{app}{number}")
        hashing.open.set()
        await until(lambda: len(asked.told) == 12)
        order = [name.decode() for name in hashing.begun]
        for app in "abc":
            assert [name for name in order if name.startswith(app)] == [f"{app}{number}" for number in range(4)]
        assert order.index("c0") < 4, "and not behind all that the first two have waiting"

    run(story)


def test_what_is_too_many_is_told_at_once_and_is_not_called_wrong(hashing: Hashing) -> None:
    async def story() -> None:
        asked = Asked()
        for number in range(100):
            asked.ask("shop", f"wrong{number}", client=f"192.0.2.{number}")
        await until(lambda: asked.told)
        assert {it for _, _, it in asked.told} == {None}
        assert len(asked.told) == 100 - 33
        asked.ask("blog")
        hashing.open.set()
        await until(lambda: len(asked.told) == 101)
        assert ("blog", "right", True) in asked.told
        asked.ask("shop", "right99")
        await until(lambda: ("shop", "right99", True) in asked.told)

    run(story)


def test_one_address_leaves_room_for_others(hashing: Hashing) -> None:
    async def story() -> None:
        asked = Asked()
        for number in range(50):
            asked.ask("shop", f"wrong{number}", client="192.0.2.66")
        await until(lambda: asked.told)
        assert len(asked.told) == 50 - 9
        asked.ask("shop", "right", client="192.0.2.7")
        hashing.open.set()
        await until(lambda: ("shop", "right", True) in asked.told)

    run(story)


def test_the_same_password_at_the_same_time_is_computed_once(hashing: Hashing) -> None:
    async def story() -> None:
        asked = Asked()
        for _ in range(200):
            asked.ask("shop")
        hashing.open.set()
        await until(lambda: len(asked.told) == 200)
        assert asked.told == [("shop", "right", True)] * 200
        assert hashing.begun == [b"right"]

    run(story)


def test_a_computation_that_fails_says_nothing_about_the_password(hashing: Hashing) -> None:
    async def story() -> None:
        asked = Asked()
        hashing.open.set()
        asked.ask("shop", "fail")
        await until(lambda: asked.told)
        assert asked.told == [("shop", "fail", None)]
        assert asked.passwords.look(LINES, given("fail")) is None, "it is computed again"

    run(story)


def test_without_a_thread_every_one_who_waits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoThreads:
        def __init__(self, *_: object, **__: object) -> None: ...

        def submit(self, *_: object) -> Any:
            raise RuntimeError("can't start new thread")

    async def story() -> None:
        asked = Asked()
        for number in range(5):
            asked.ask("shop", f"right{number}")
        await until(lambda: len(asked.told) == 5)
        assert {it for _, _, it in asked.told} == {None}

    monkeypatch.setattr(controller.proxy.passwords, "ThreadPoolExecutor", NoThreads)
    run(story)


def test_guesses_push_no_right_password_out_of_memory(hashing: Hashing) -> None:
    async def story() -> None:
        asked = Asked()
        hashing.open.set()
        asked.ask("shop")
        await until(lambda: asked.told)
        for number in range(5000):
            asked.passwords._wrong[b"%d" % number] = 1e12
        asked.ask("shop", "wrong")
        await until(lambda: len(asked.told) == 2)
        assert asked.passwords.look(LINES, given()) is True
        assert asked.passwords.look(LINES, given("wrong")) is False
        assert len(asked.passwords._wrong) == 1

    run(story)


def test_a_full_queue_is_503_with_retry_after_and_not_401(lane: Lane, hashing: Hashing) -> None:
    backend = lane.backend()
    lane.take(an_app(backend, policy=Policy(basic_auth=LINES)))
    callers = [Caller(lane.port) for _ in range(12)]
    for number, caller in enumerate(callers):
        password = given(f"right{number}").decode()
        caller.send(f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {password}\r\n\r\n".encode())
        wait_for(lambda count=number: len(lane.core.passwords._tells) > min(count, 8))
    for caller in callers[9:]:
        reply = caller.reply()
        assert (reply.status, reply.header("retry-after")) == (503, "1")
    hashing.open.set()
    assert [caller.reply().status for caller in callers[:9]] == [200] * 9
    for caller in callers:
        caller.close()
