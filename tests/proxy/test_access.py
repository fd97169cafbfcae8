"""For every way in which a worker can fail to load, compile or reach an app's policy: 503, never the app without it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

import controller.proxy.app
from controller.clock import read_boot_id
from controller.proxy.feed import Feed, load_snapshot
from controller.routing.table import FORMAT, Policy, RateLimit, encode_app
from controller.wire.codec import render_line
from controller.wire.lines import LineReader
from tests.proxy.rig import Backend, Caller, Lane, Reply, a_lane, an_app

WRONG = "Authorization: Basic " + base64.b64encode(b"ann:wrong").decode()
SHA = "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="
BCRYPT = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
GUARDED = {"basic_auth": [SHA]}

Entry = dict[str, Any]


class Line:
    """The worker's end of a feed whose other end is the test."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self._reader = LineReader()

    def write(self, data: bytes) -> None:
        self.heard += self._reader.feed(data)

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class Worker:
    """A worker with two apps: the shop whose entry is harmed, and a neighbour that must not notice."""

    def __init__(self, lane: Lane, tmp_path: Any) -> None:
        self.lane, self.folder, self.version = lane, tmp_path, 0
        self.shop, self.neighbour = lane.backend(name="shop"), lane.backend(name="blog")
        self.line, self.complaints = Line(), []
        self.feed = Feed(worker=1, take=lane.core.take, complain=self.complaints.append, folder=tmp_path)
        lane.call(lambda: self.feed.connection_made(self.line))  # type: ignore[arg-type]

    def entry(self, app: str, backend: Backend, **policy: Any) -> Entry:
        found = an_app(backend, app=app, host=f"{app}.example")
        return {**encode_app(found), "policy": policy}

    def table(self, shop: Entry) -> Entry:
        apps = {"blog": self.entry("blog", self.neighbour), "shop": shop}
        return {"format": FORMAT, "version": self.version, "base": None, "sticky_key": "k", "apps": apps}

    def push(self, entry: Entry, *, whole: bool = True, app: str = "shop") -> None:
        self.version += 1
        message = self.table(entry)
        if not whole:
            message |= {"base": self.version - 1, "apps": {app: entry}}
        self.lane.call(lambda: self.feed.data_received(render_line(message)))

    def get(self, host: str, *extra: str) -> Reply:
        with Caller(self.lane.port) as caller:
            return caller.get("/", *extra, host=host)

    def confirmations(self) -> list[int]:
        return [message["confirm"] for message in self.line.heard if "confirm" in message]

    def faults(self) -> dict[str, str]:
        told = [message for message in self.line.heard if "confirm" in message]
        found: dict[str, str] = told[-1].get("faults", {})
        return found


@pytest.fixture
def worker(tmp_path: Any) -> Iterator[Worker]:
    with a_lane(tls_port=443) as lane:
        yield Worker(lane, tmp_path)


def with_policy(**fields: Any) -> Callable[[Entry], None]:
    return lambda entry: entry["policy"].update(fields)


def with_rule(**fields: Any) -> Callable[[Entry], None]:
    return lambda entry: entry["rules"][0].update(fields)


def with_entry(**fields: Any) -> Callable[[Entry], None]:
    return lambda entry: entry.update(fields)


HARMS = {
    "a range that is none": with_policy(allow=["10.0.0.0/99"]),
    "a range that is a number": with_policy(allow=[1]),
    "ranges that are an object": with_policy(allow={}),
    "ranges that are null": with_policy(allow=None),
    "a line that is no htpasswd line": with_policy(basic_auth=["ann"]),
    "a hash that nobody can check": with_policy(basic_auth=["ann:$6$salt$hash"]),
    "a hash that takes a day": with_policy(basic_auth=[f"ann:$2y$31${BCRYPT}"]),
    "accounts that are one text": with_policy(basic_auth=""),
    "accounts that are an object": with_policy(basic_auth={}),
    "a field of a newer version": with_policy(deny=["192.0.2.0/24"]),
    "a nested field of a newer version": with_policy(rate_limit={"requests": 1, "by": "cookie"}),
    "a rule of a newer version": with_rule(internal=True),
    "a policy that is a list": with_entry(policy=[]),
    "a policy that is null": with_entry(policy=None),
    "a word of a newer version": with_policy(https="strict"),
    "a flag that is a text": with_policy(inspect="yes"),
    "a limit that is a text": with_policy(max_in_flight="10"),
    "a limit beyond all numbers": with_policy(rate_limit={"requests": 10**400}),
    "a limit below nothing": with_policy(body_limit_bytes=-1),
    "a redirect that is no place": with_policy(redirects=[{"source": "http://[shop/old", "to": "/new"}]),
    "a redirect that ends a header": with_policy(redirects=[{"source": "/", "to": "/\r\nSet-Cookie: a=b"}]),
    "a redirect with another code": with_policy(redirects=[{"source": "/", "to": "/new", "code": 200}]),
    "a header that ends a header": with_policy(response_headers={"set": [["X-A", "1\r\nX-B: 2"]]}),
    "a header without a value": with_policy(request_headers={"set": [["X-A"]]}),
    "a host that is none": with_policy(canonical_host="[shop"),
    "weights that are no pairs": with_entry(weights=[[1]]),
    "weights that are no list": with_entry(weights=5),
    "an upstream that is none": lambda entry: entry["upstreams"].append(5),
    "an upstream of a newer version": lambda entry: entry["upstreams"][0].update(state="resting"),
    "a mode of a newer version": with_entry(mode="closed"),
    "a hold that is no time": with_entry(hold_s="long"),
    "another app's entry": with_entry(app="blog"),
    "no app's entry": lambda entry: entry.pop("app") and None,
    "a fault that another reader found": with_entry(fault="it was so"),
}


@pytest.mark.parametrize("before", [None, {}, GUARDED], ids=["first", "open before", "guarded before"])
@pytest.mark.parametrize("harm", HARMS)
def test_an_entry_that_cannot_be_used_is_503_alone_and_told(
    worker: Worker, harm: str, before: dict[str, Any] | None
) -> None:
    good = worker.entry("shop", worker.shop, **GUARDED)
    if before is not None:
        worker.push(worker.entry("shop", worker.shop, **before))
    bad = deepcopy(good)
    HARMS[harm](bad)
    for whole in (True, False):  # the second time it came without its policy
        worker.push(bad, whole=whole)
        assert worker.get("shop.example", WRONG).status == 503
        assert worker.get("blog.example").status == 200
        assert list(worker.faults()) == ["shop"]
    worker.push(good, whole=False)
    assert worker.get("shop.example", WRONG).status == 401
    assert worker.faults() == {}
    assert worker.confirmations() == list(range(1, worker.version + 1))
    assert worker.shop.heads == []


def test_a_rule_that_cannot_be_read_is_left_out_and_the_rest_is_503(worker: Worker) -> None:
    bad = worker.entry("shop", worker.shop, **GUARDED)
    bad["rules"] += [{"host": "[shop"}, {"host": "shop.example", "path": "/%zz"}, {"host": 5}]
    worker.push(bad)
    assert worker.get("shop.example").status == 503
    assert worker.get("blog.example").status == 200
    assert worker.get("unknown.example").status == 404


def test_rules_that_cannot_be_read_at_all_stay_as_they_were(worker: Worker) -> None:
    worker.push(worker.entry("shop", worker.shop))
    worker.push({**worker.entry("shop", worker.shop), "rules": 5}, whole=False)
    assert worker.get("shop.example").status == 503, "and not 404: another app might have taken it"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("odd"), RecursionError(), ValueError("odd")])
@pytest.mark.parametrize("step", ["compile_policy", "Shares", "sticky_index", "Pool", "Door"])
def test_any_exception_while_an_entry_is_taken_shuts_that_app_alone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: Exception, step: str
) -> None:
    entry = {**worker.entry("shop", worker.shop, **GUARDED, sticky=True), "weights": [[1, 100]]}
    usual = getattr(controller.proxy.app, step)

    def fail(*args: Any, **named: Any) -> Any:
        of_shop = SHA in f"{args}" or (step == "Pool" and args[0].id == "shop")
        if of_shop or step in ("Shares", "sticky_index"):
            raise error
        return usual(*args, **named)

    monkeypatch.setattr(controller.proxy.app, step, fail)
    worker.push(entry)
    assert worker.get("shop.example").status == 503
    assert worker.get("blog.example").status == 200
    assert list(worker.faults()) == ["shop"]
    monkeypatch.undo()
    worker.push(worker.entry("blog", worker.neighbour), whole=False, app="blog")
    assert worker.get("shop.example").status == 401, "tried again with the next table"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread"), KeyError("x")])
@pytest.mark.parametrize(
    ("place", "policy"),
    [
        ("rates.take", {"rate_limit": {"requests": 1}}),
        ("passwords.look", GUARDED),
        ("passwords.check", {"basic_auth": [f"ann:$2y$04${BCRYPT}"]}),
        ("keyring.find", {"https": "auto"}),
    ],
)
def test_any_exception_while_a_policy_is_asked_is_503_and_told(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, place: str, policy: dict[str, Any], error: Exception
) -> None:
    part, _, name = place.partition(".")
    core = worker.lane.core
    worker.push(worker.entry("shop", worker.shop, **policy))
    worker.push(worker.entry("shop", worker.shop, **policy))

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(getattr(core, part), name, fail)
    reply = worker.get("shop.example", WRONG)
    assert (reply.status, worker.shop.heads) == (503, [])
    assert [report["app"] for report in worker.lane.reports if report["kind"] == "fault"] == ["shop"]
    monkeypatch.undo()
    assert worker.get("blog.example").status == 200


def test_a_rate_limit_without_memory_to_count_in_is_503() -> None:
    with a_lane(shared=memoryview(bytearray(15))) as lane:
        backend = lane.backend()
        lane.take(an_app(backend, policy=Policy(rate_limit=RateLimit(requests=5))))
        with Caller(lane.port) as caller:
            assert caller.get().status == 503
        assert backend.heads == []


def test_an_inspector_that_is_required_and_not_there_is_503(worker: Worker) -> None:
    worker.push(worker.entry("shop", worker.shop, inspect=True, inspect_required=True))
    assert worker.get("shop.example").status == 503
    assert worker.shop.heads == []


def save(worker: Worker, text: str) -> None:
    (worker.folder / "table.json").write_text(text)


def test_a_snapshot_with_an_app_that_cannot_be_served_loads_without_it(worker: Worker) -> None:
    bad = worker.entry("shop", worker.shop, **GUARDED, allow=["nowhere"])
    save(worker, json.dumps({**worker.table(bad), "boot": read_boot_id(), "of a newer version": 1}))
    worker.lane.do(worker.feed.wait_for_table(0.01, 0.02))
    assert worker.get("shop.example", WRONG).status == 503
    assert worker.get("blog.example").status == 200


@pytest.mark.parametrize(
    "text", ["", "{", '{"format":1,"version":1,"apps":{"shop":{', '{"format":9,"version":1,"apps":{}}', "[" * 100_000]
)
def test_a_torn_snapshot_or_one_of_another_format_puts_nothing_in_force(worker: Worker, text: str) -> None:
    save(worker, text)
    assert load_snapshot(worker.folder / "table.json") is None
    worker.lane.do(worker.feed.wait_for_table(0.01, 0.02))
    assert worker.get("shop.example").status == 404


@pytest.mark.parametrize(
    "change",
    [
        {"base": 7, "apps": {"shop": {"app": "shop"}}},
        {"format": FORMAT + 1},
        {"version": "later"},
        {"apps": 5},
    ],
)
def test_a_change_that_does_not_fit_leaves_the_policy_in_force_and_is_not_confirmed(
    worker: Worker, change: Entry
) -> None:
    worker.push(worker.entry("shop", worker.shop, **GUARDED))
    message = {**worker.table(worker.entry("shop", worker.shop)), "version": 2, "base": 1, **change}
    worker.lane.call(lambda: worker.feed.data_received(render_line(message)))
    assert worker.get("shop.example", WRONG).status == 401
    assert worker.confirmations() == [1]


def test_a_table_that_could_not_be_taken_is_not_remembered(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.push(worker.entry("shop", worker.shop, **GUARDED))

    def fail(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("controller.proxy.core.compile_table", fail)
    worker.push(worker.entry("shop", worker.shop), whole=False)
    monkeypatch.undo()
    assert (worker.feed.table.version, worker.confirmations()) == (1, [1])
    worker.push(worker.entry("shop", worker.shop), whole=False)
    assert worker.line.heard[-1] == {"behind": 1}, "what comes on top of it does not fit"
    assert worker.get("shop.example", WRONG).status == 401


def test_answers_on_their_way_keep_their_header_edits_when_the_app_is_shut(worker: Worker) -> None:
    edits = {"response_headers": {"set": [["X-Kept", "1"]]}}
    worker.push(worker.entry("shop", worker.shop, **edits))
    door = worker.lane.core.live.apps["shop"].door
    worker.push(worker.entry("shop", worker.shop, **edits, allow=["nowhere"]))
    assert worker.lane.core.live.apps["shop"].door.access is door.access
