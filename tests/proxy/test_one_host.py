"""A request has one host, whichever form its target has: for routes, redirects, HTTPS and the replica alike."""

from __future__ import annotations

import itertools

import pytest

from controller.routing.table import Policy, Redirect
from tests.proxy.rig import Caller, Lane, a_lane, an_app, polite
from tests.proxy.shop import Shop

FORMS = {
    "origin": b"GET %(path)b HTTP/1.1\r\nHost: %(host)b\r\n\r\n",
    "absolute": b"GET http://%(host)b%(path)b HTTP/1.1\r\nHost: %(host)b\r\n\r\n",
    "absolute, empty Host": b"GET http://%(host)b%(path)b HTTP/1.1\r\nHost:\r\n\r\n",
    "absolute, blank Host": b"GET http://%(host)b%(path)b HTTP/1.1\r\nHost: \t \r\n\r\n",
    "absolute, scheme in capitals": b"GET HTTP://%(host)b%(path)b HTTP/1.1\r\nHost:\r\n\r\n",
    "absolute https": b"GET https://%(host)b%(path)b HTTP/1.1\r\nHost:\r\n\r\n",
    "absolute by HTTP/1.0": b"GET http://%(host)b%(path)b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}
HOSTS = (b"shop.example", b"SHOP.example", b"shop.example:8080")
every_form = pytest.mark.parametrize(("form", "host"), list(itertools.product(FORMS, HOSTS)))


def asked(form: str, host: bytes, path: bytes = b"/a?b") -> bytes:
    return FORMS[form] % {b"host": host, b"path": path}


@every_form
def test_the_route_and_what_the_replica_hears_follow_it(lane: Lane, form: str, host: bytes) -> None:
    shop, other = lane.backend(polite, "shop"), lane.backend(polite, "other")
    lane.take(an_app(shop, host="shop.example"), an_app(other, app="other"))
    with Caller(lane.port) as caller:
        caller.send(asked(form, host))
        assert caller.reply().body == b"shop"
    (head,) = shop.heads
    assert head.startswith(b"GET /a?b HTTP/1.1\r\nHost: " + host + b"\r\n")
    assert b"\r\nX-Forwarded-Host: " + host + b"\r\n" in head
    assert head.lower().count(b"\r\nhost:") == 1


@every_form
def test_https_auto_follows_it(shop: Shop, form: str, host: bytes) -> None:
    lane = shop.lane
    shop.take(**{"shop.example": shop.issue("shop.example")})
    lane.take(an_app(lane.backend(), policy=Policy(https="auto")))
    with Caller(lane.port) as caller:
        caller.send(asked(form, host))
        reply = caller.reply()
    assert (reply.status, reply.header("location")) == (308, f"https://shop.example:{shop.port}/a?b")


@every_form
def test_redirects_follow_it(form: str, host: bytes) -> None:
    rows = (
        (Policy(https="redirect"), 308, "https://shop.example:28443/a?b"),
        (Policy(canonical_host="shop.example"), 200, None),
        (Policy(canonical_host="www.example"), 301, "http://www.example/a?b"),
        (Policy(redirects=(Redirect(source="http://shop.example/a", to="/new"),)), 301, "/new?b"),
        (Policy(redirects=(Redirect(source="http://elsewhere.example/a", to="/new"),)), 200, None),
    )
    with a_lane(tls_port=28443) as lane:
        backend = lane.backend()
        for policy, status, place in rows:
            lane.take(an_app(backend, policy=policy))
            with Caller(lane.port) as caller:
                caller.send(asked(form, host))
                reply = caller.reply()
            assert (reply.status, reply.header("location")) == (status, place), policy


@pytest.mark.parametrize("form", [form for form in FORMS if form != "origin"])
def test_by_tls_a_host_that_the_certificate_does_not_cover_is_421(shop: Shop, form: str) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example")})
    with shop.call("shop.example") as caller:
        caller.send(asked(form, b"shop.example"))
        assert caller.reply().status == 200
        caller.send(asked(form, b"other.example"))
        assert caller.reply().status == 421


def test_whoever_names_no_host_is_never_sent_to_a_place_without_one() -> None:
    nameless = (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", b"GET /a HTTP/1.0\r\n\r\n")
    with a_lane(tls_port=28443) as lane:
        backend = lane.backend()
        for request in nameless:
            for https, status in (("redirect", 400), ("auto", 200), ("only", 403), ("allow", 200)):
                lane.take(an_app(backend, policy=Policy(https=https)))
                with Caller(lane.port) as caller:
                    caller.send(request)
                    reply = caller.reply()
                assert (reply.status, reply.header("location")) == (status, None)


def test_what_is_remembered_of_one_form_is_not_taken_for_another(lane: Lane) -> None:
    one, two = lane.backend(polite, "one"), lane.backend(polite, "two")
    lane.take(an_app(one, host="one.example", app="one"), an_app(two, host="two.example", app="two"))
    with Caller(lane.port) as caller:
        for name in (b"one", b"two", b"one", b"two"):
            caller.send(b"GET http://%b.example/ HTTP/1.1\r\nHost:\r\n\r\n" % name)
            assert caller.reply().body == name
