"""A spec that takes long to read keeps nobody else waiting: neither the loop, nor the threads that answer the rest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.api import apps, specs
from controller.api.readers import AT_ONCE, LIMIT, RESERVE, SHARE
from controller.spec.parse import parse_file
from tests.api.stage import DEADLINE_S, Stage
from tests.api.test_apps import SPEC, wait_for
from tests.api.test_tokens import Bearer, a_server


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path, settings=a_server()).open() as opened:
        opened.bring_up()
        yield opened


@contextmanager
def slow_reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Semaphore]:
    """Have every spec of a request wait in its reader until the block ends; count those that have begun."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def parse_slowly(*args: Any, **more: Any) -> Any:
        begun.release()
        assert go_on.wait(DEADLINE_S)
        return parse_file(*args, **more)

    for module in (apps, specs):
        monkeypatch.setattr(module, "parse_file", parse_slowly)
    try:
        yield begun
    finally:
        go_on.set()


READ = [("POST", "/v1/validate"), ("POST", "/v1/diff"), ("PUT", "/v1/apps/shop/spec")]


@pytest.mark.parametrize(("method", "path"), READ)
def test_long_reading_keeps_nobody_else_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    tokens = [Bearer(stage.store.tokens.create(f"t{number}")[0]) for number in range(4)]

    def ask(number: int) -> int:
        with stage.client() as own:
            return own.request(method, path, content=SPEC, auth=tokens[number % 4]).status_code

    with ThreadPoolExecutor(64) as pool, stage.client() as client:
        with slow_reading(monkeypatch) as begun:
            waiting = [pool.submit(ask, number) for number in range(50)]
            for _ in range(AT_ONCE):
                assert begun.acquire(timeout=DEADLINE_S)
            refused = wait_for(lambda: [one.result() for one in waiting if one.done()])
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 200
            assert [row["app"] for row in client.get("/v1/apps").json()] == ["shop"]
            assert client.post("/v1/apps/shop/suspend").status_code == 202
            assert set(refused) == {503}
            assert not begun.acquire(blocking=False), "no more are read at once"
        answers = [one.result() for one in waiting]
    assert answers.count(503) == 50 - (LIMIT - RESERVE)
    assert answers.count(202 if method == "PUT" else 200) == LIMIT - RESERVE


def test_one_token_takes_its_share_of_readers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    greedy, modest = (Bearer(stage.store.tokens.create(name)[0]) for name in ("greedy", "modest"))

    def ask(auth: httpx.Auth) -> int:
        with stage.client() as own:
            return own.post("/v1/validate", content=SPEC, auth=auth).status_code

    with ThreadPoolExecutor(64) as pool:
        with slow_reading(monkeypatch) as begun:
            waiting = [pool.submit(ask, greedy) for _ in range(SHARE + 3)]
            assert begun.acquire(timeout=DEADLINE_S)
            wait_for(lambda: sum(one.done() for one in waiting) == 3)
            other = pool.submit(ask, modest)
        assert other.result() == 200
        assert sorted(one.result() for one in waiting) == [200] * SHARE + [503] * 3


def test_an_answer_to_a_hostile_spec_is_short(stage: Stage) -> None:
    text = "name: shop\nimage: x\n" + "".join(f"strateg{number}: 1\n" for number in range(4000))
    with stage.client() as client:
        for method, path in READ:
            answer = client.request(method, path, content=text)
            assert len(answer.content) < 100_000
            assert "and 3900 more problems" in answer.text
