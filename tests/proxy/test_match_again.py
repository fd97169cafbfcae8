"""What waited, for a release or for a password, goes on by the table that is in force then."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controller.routing.table import AppRoutes, Policy, RateLimit, Redirect, Rule
from tests.proxy.rig import Backend, Caller, Lane, Reply, an_app, wait_for

HASH = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
ANN = f"ann:$2y$04${HASH}"
SHA = "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="
"""Of the password "password"."""
GIVEN = "Authorization: Basic " + base64.b64encode(b"ann:password").decode()
HOST = "shop.example"


def request(path: str = "/", body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {HOST}\r\n{GIVEN}\r\n{length}\r\n".encode() + body


class Waiting:
    """A lane, two apps with a replica each, and one request of the shop's that waits."""

    def __init__(self, lane: Lane, caller: Caller) -> None:
        self.lane, self.caller = lane, caller
        self.shop_backend, self.blog_backend = lane.backend(name="shop"), lane.backend(name="blog")

    def shop(self, *, host: str | None = HOST, **changes: Any) -> AppRoutes:
        return an_app(self.shop_backend, app="shop", host=host, **changes)

    def blog(self, *, host: str | None = "blog.example", **changes: Any) -> AppRoutes:
        return an_app(self.blog_backend, app="blog", host=host, **changes)

    def go_on(self, *apps: AppRoutes) -> Reply:
        """Put a table in force, let the request go on, and return its answer."""
        self.lane.take(*apps)
        self.release()
        reply = self.caller.reply()
        wait_for(lambda: all(row["requests"] == 0 for row in self.lane.core.counters()["active"]))
        return reply

    release: Callable[[], None] = staticmethod(lambda: None)


@contextmanager
def a_hold(lane: Lane, data: bytes, **policy: Any) -> Iterator[Waiting]:
    with Caller(lane.port) as caller:
        waiting = Waiting(lane, caller)
        lane.take(waiting.shop(mode="hold", policy=Policy(**policy)), waiting.blog())
        caller.send(data)
        wait_for(lambda: any(row["held"] for row in lane.core.counters()["active"]))
        yield waiting


@contextmanager
def a_check(lane: Lane, data: bytes, **policy: Any) -> Iterator[Waiting]:
    """As `a_hold`, but it waits for its password to be checked, which is found right."""
    told: list[Callable[[bool], None]] = []
    lane.core.passwords.check = lambda *args: told.append(args[-1])  # type: ignore[method-assign]
    with Caller(lane.port) as caller:
        waiting = Waiting(lane, caller)
        lane.take(waiting.shop(policy=Policy(basic_auth=(ANN,), **policy)), waiting.blog())
        caller.send(data)
        wait_for(lambda: told)
        waiting.release = lambda: lane.call(lambda: told.pop()(True))
        yield waiting


WAYS = pytest.mark.parametrize("wait", [a_hold, a_check])


@WAYS
@pytest.mark.parametrize("stays", ["other host", "gone", "holds"])
def test_a_request_whose_route_moved_is_answered_by_the_app_that_has_it(lane: Lane, wait: Any, stays: str) -> None:
    with wait(lane, request("/a")) as waiting:
        rest = {
            "other host": (waiting.shop(host="other.example"),),
            "gone": (),
            "holds": (waiting.shop(host="other.example", mode="hold"),),
        }[stays]
        assert waiting.go_on(waiting.blog(host=HOST), *rest).body == b"blog"
        assert waiting.shop_backend.heads == []


@WAYS
def test_a_more_specific_route_of_another_app_counts_though_the_first_one_did_not_change(lane: Lane, wait: Any) -> None:
    with wait(lane, request("/blog/a")) as waiting:
        shop = lane.core.live.table.apps["shop"]
        blog = waiting.blog(rules=(Rule(host=HOST, path="/blog", strip=True),))
        assert waiting.go_on(shop, blog).body == b"blog"
        assert waiting.blog_backend.heads[0].startswith(b"GET /a HTTP/1.1\r\n")


@WAYS
def test_a_request_whose_route_is_gone_gets_404_and_counts_for_nobody(lane: Lane, wait: Any) -> None:
    with wait(lane, request()) as waiting:
        assert waiting.go_on(waiting.blog()).status == 404
        assert lane.log[-1].get("app") is None
        assert {row["app"] for row in lane.core.counters()["requests"]} == {""}


@WAYS
@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ({"allow": ("192.0.2.0/24",)}, 403),
        ({"https": "only"}, 403),
        ({"redirects": (Redirect(source="/", to="/new"),)}, 301),
        ({"basic_auth": ("bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",)}, 401),
        ({"basic_auth": (SHA,)}, 200),
        ({"allow": ("nowhere",)}, 503),
        ({"max_in_flight": 0}, 429),
        ({"body_limit_bytes": 3}, 413),
    ],
)
@pytest.mark.parametrize("moves", [False, True])
def test_the_policy_that_is_in_force_then_is_asked(
    lane: Lane, wait: Any, policy: dict[str, Any], status: int, moves: bool
) -> None:
    with wait(lane, request(body=b"four")) as waiting:
        policed = {"policy": Policy(**policy)}
        apps = (waiting.blog(host=HOST, **policed),) if moves else (waiting.shop(**policed), waiting.blog())
        assert waiting.go_on(*apps).status == status
        seen: Backend = waiting.blog_backend if moves else waiting.shop_backend
        assert len(seen.heads) == (status == 200)


@WAYS
def test_maintenance_that_began_meanwhile_counts(lane: Lane, wait: Any) -> None:
    with wait(lane, request()) as waiting:
        assert waiting.go_on(waiting.shop(mode="maintenance", message="soon")).status == 503
        assert waiting.shop_backend.heads == []


@WAYS
def test_a_request_is_counted_once_for_its_apps_rate_limit_however_long_it_waits(lane: Lane, wait: Any) -> None:
    limit = RateLimit(requests=1, per_s=1000.0, burst=1)
    with wait(lane, request(), rate_limit=limit) as waiting:
        again = Policy(rate_limit=limit, timeout_s=7.0)
        assert waiting.go_on(waiting.shop(policy=again)).status == 200


def test_a_hold_that_begins_while_a_password_is_checked_holds_the_request(lane: Lane) -> None:
    with a_check(lane, request()) as waiting:
        policy = Policy(basic_auth=(ANN,))
        lane.take(waiting.shop(mode="hold", policy=policy))
        waiting.release()
        wait_for(lambda: any(row["held"] for row in lane.core.counters()["active"]))
        waiting.release = lambda: None
        assert waiting.go_on(waiting.shop(policy=policy)).body == b"shop"


def test_a_rule_that_strips_its_path_now_strips_it_for_what_waited(lane: Lane) -> None:
    with a_hold(lane, request("/shop/a")) as waiting:
        entry = waiting.shop(rules=(Rule(host=HOST, path="/shop", strip=True),))
        assert waiting.go_on(entry).body == b"shop"
        assert waiting.shop_backend.heads[0].startswith(b"GET /a HTTP/1.1\r\n")
