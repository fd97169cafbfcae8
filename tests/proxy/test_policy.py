"""The proxy block of a spec, field by field, as a client and a replica see it."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from controller.proxy.passwords import _is_right
from controller.proxy.rates import Rates
from controller.routing.table import HeaderEdit, Policy, RateLimit, Redirect, Rule
from tests.proxy.rig import Caller, Lane, Visit, a_lane, an_app, answer, polite


def head_of(lane: Lane, *extra: str, path: str = "/", host: str = "shop.example", **changes: Any) -> str:
    """Send one request and return the head that the replica saw."""
    backend = lane.backend()
    lane.take(an_app(backend, **changes))
    with Caller(lane.port) as caller:
        assert caller.get(path, *extra, host=host).status == 200
    return backend.heads[0].decode("latin-1")


def test_a_replica_is_told_who_asks_and_how(lane: Lane) -> None:
    head = head_of(
        lane,
        "X-Forwarded-For: 1.2.3.4",
        "Forwarded: for=x",
        "X-Real-IP: 6.6.6.6",
        "X-Forwarded-Foo: y",
        host="Shop.example:8080",
    )
    assert "Host: Shop.example:8080\r\n" in head
    assert "X-Forwarded-For: 127.0.0.1\r\n" in head
    assert "X-Forwarded-Proto: http\r\n" in head
    assert "X-Forwarded-Host: Shop.example:8080\r\n" in head
    assert f"X-Forwarded-Port: {lane.port}\r\n" in head
    for gone in ("1.2.3.4", "Forwarded: for", "6.6.6.6", "Foo"):
        assert gone not in head


def test_a_trusted_proxy_is_believed_and_added() -> None:
    with a_lane(trusted_proxies=("127.0.0.0/8",)) as lane:
        head = head_of(lane, "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: public.example")
        assert "X-Forwarded-Host: public.example\r\n" in head
        assert "X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\n" in head
        assert "X-Forwarded-Proto: https\r\n" in head
        assert head.count("X-Forwarded-Proto") == 1


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1._X", True), ("a b", False), ("x" * 65, False), ("", False), ("a\xe4", False)]
)
def test_a_request_id_is_kept_where_it_is_clean_else_made(lane: Lane, given: str, kept: bool) -> None:
    head = head_of(lane, f"X-Request-ID: {given}")
    value = head.partition("X-Request-ID: ")[2].partition("\r\n")[0]
    assert (value == given) is kept
    assert value
    assert head.lower().count("x-request-id") == 1


def test_two_requests_never_share_an_id(lane: Lane) -> None:
    backend = lane.backend()
    lane.take(an_app(backend))
    with Caller(lane.port) as caller:
        for _ in range(50):
            caller.get()
    assert len({head.partition(b"X-Request-ID: ")[2] for head in backend.heads}) == 50


def test_hop_by_hop_headers_end_here_and_ours_cannot_be_taken_away(lane: Lane) -> None:
    head = head_of(
        lane,
        "Connection: close, X-Private, X-Forwarded-For, Host, X-Request-ID",
        "X-Private: 1",
        "Keep-Alive: 5",
        "Proxy-Authorization: x",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Trailer: T",
        "Cookie: a=b",
    )
    for gone in ("Connection:", "X-Private", "Keep-Alive", "Proxy-", "TE:", "Trailer"):
        assert gone not in head
    for kept in ("Host: shop.example", "X-Forwarded-For: 127.0.0.1", "X-Request-ID: ", "Cookie: a=b"):
        assert kept in head


def test_hop_by_hop_headers_of_an_answer_end_here(lane: Lane) -> None:
    async def script(visit: Visit) -> None:
        while await visit.head():
            await visit.say(
                answer(
                    b"ok",
                    "200 OK",
                    "X-Private: 1",
                    "Connection: keep-alive, X-Private",
                    "Keep-Alive: timeout=5",
                    "X-Kept: 1",
                )
            )

    lane.serve(script)
    with Caller(lane.port) as caller:
        head = caller.get().head.decode()
    assert "X-Kept: 1" in head
    for gone in ("X-Private", "Keep-Alive", "Connection"):
        assert gone not in head


@pytest.mark.parametrize(
    ("asked", "seen"), [("/shop", "/"), ("/shop/", "/"), ("/shop/a%20b?c=/d", "/a%20b?c=/d"), ("/shop?x", "/?x")]
)
def test_a_stripped_path_is_told_as_prefix(lane: Lane, asked: str, seen: str) -> None:
    head = head_of(lane, path=asked, rules=(Rule(path="/shop", strip=True),))
    assert head.startswith(f"GET {seen} HTTP/1.1\r\n")
    assert "X-Forwarded-Prefix: /shop\r\n" in head


def test_headers_are_edited_both_ways_but_never_the_framing(lane: Lane) -> None:
    async def script(visit: Visit) -> None:
        while await visit.head():
            await visit.say(answer(b"ok", "200 OK", "Server: secret", "X-Old: 1"))

    policy = Policy(
        request_headers=HeaderEdit(set=(("X-Env", "prod"),), remove=("X-Debug", "Content-Length")),
        response_headers=HeaderEdit(set=(("X-Old", "2"), ("Content-Length", "99")), remove=("Server",)),
    )
    backend = lane.backend(script)
    lane.take(an_app(backend, policy=policy))
    with Caller(lane.port) as caller:
        reply = caller.get("/", "X-Debug: 1", "x-env: fake")
    assert reply.header("x-old") == "2"
    assert reply.header("server") is None
    assert reply.header("content-length") == "2"
    seen = backend.heads[0].lower()
    assert b"x-debug" not in seen
    assert seen.count(b"x-env") == 1
    assert b"x-env: prod" in seen


def test_only_allowed_clients_come_in(lane: Lane) -> None:
    lane.serve(polite, allow=("10.0.0.0/8",))
    with Caller(lane.port) as caller:
        assert caller.get().status == 403
        lane.serve(polite, allow=("10.0.0.0/8", "127.0.0.1/32"))
        assert caller.get().status == 200


def basic(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


SHA_LINE = "cid:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="


def test_apache_md5_is_computed_as_htpasswd_does() -> None:
    made = "$apr1$abcdefgh$NriZ3KceyQFy368Ufp8U./"
    assert _is_right(made, b"pass word")
    assert not _is_right(made, b"pass  word")


def test_passwords_are_asked_for(lane: Lane) -> None:
    import bcrypt

    line = "ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    lane.serve(polite, basic_auth=(line, SHA_LINE))
    with Caller(lane.port) as caller:
        reply = caller.get()
        assert reply.status == 401
        assert reply.header("www-authenticate") == 'Basic realm="shop", charset="UTF-8"'
        assert caller.get("/", basic("ann", "secret")).status == 200
        assert caller.get("/", basic("ann", "secret")).status == 200
        assert caller.get("/", basic("ann", "wrong")).status == 401
        assert caller.get("/", basic("eve", "secret")).status == 401
        assert caller.get("/", basic("cid", "password")).status == 200
        assert caller.get("/", "Authorization: Basic %%%").status == 401
        assert caller.get("/", "Authorization: Bearer x").status == 401


def test_a_client_that_leaves_while_its_password_is_checked_harms_nobody(lane: Lane) -> None:
    import bcrypt

    line = "ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(8)).decode()
    lane.serve(polite, basic_auth=(line,))
    with Caller(lane.port) as caller:
        caller.send(f"GET / HTTP/1.1\r\nHost: a\r\n{basic('ann', 'secret')}\r\n\r\n".encode())
    with Caller(lane.port) as caller:
        assert caller.get("/", basic("ann", "secret")).status == 200


def test_requests_beyond_the_rate_get_429_with_retry_after(lane: Lane) -> None:
    lane.serve(polite, rate_limit=RateLimit(requests=1, per_s=60, burst=3))
    with Caller(lane.port) as caller:
        assert [caller.get().status for _ in range(4)] == [200, 200, 200, 429]
        assert 1 <= int(caller.get().header("retry-after") or 0) <= 61


def test_a_bucket_fills_again_and_belongs_to_one_client() -> None:
    rates, limit = Rates(), RateLimit(requests=10, per_s=1, burst=2)
    assert [rates.take("a", limit, 100.0) > 0 for _ in range(3)] == [False, False, True]
    assert rates.take("b", limit, 100.0) == 0
    assert rates.take("a", limit, 100.11) == 0
    assert rates.take("a", limit, 100.12) > 0
    assert sum(rates.take("a", limit, 200 + number / 100) == 0 for number in range(1000)) in range(100, 104)


def test_two_workers_share_their_buckets() -> None:
    memory = memoryview(bytearray(1024))
    one, other, limit = Rates(memory), Rates(memory), RateLimit(requests=1, per_s=60, burst=2)
    assert [worker.take("a", limit, 100.0) > 0 for worker in (one, other, one, other)] == [False, False, True, True]


def test_redirects_and_the_canonical_host(lane: Lane) -> None:
    redirects = (
        Redirect(source="/old", to="/new", code=302),
        Redirect(source="/far", to="https://x.example/y", code=301),
    )
    lane.serve(polite, redirects=redirects, canonical_host="www.shop.example")
    with Caller(lane.port) as caller:
        reply = caller.get("/a?b")
        assert (reply.status, reply.header("location")) == (301, "http://www.shop.example/a?b")
        assert caller.get("/a", method="POST").status == 308
        reply = caller.get("/old?q=1", host="www.shop.example")
        assert (reply.status, reply.header("location")) == (302, "/new?q=1")
        assert caller.get("/far", host="www.shop.example").header("location") == "https://x.example/y"
        assert caller.get("/older", host="www.shop.example").status == 200


def test_plain_http_where_https_is_wanted() -> None:
    with a_lane(tls_port=8443) as lane, Caller(lane.port) as caller:
        lane.serve(polite, https="redirect")
        reply = caller.get("/a?b")
        assert (reply.status, reply.header("location")) == (308, "https://shop.example:8443/a?b")
        lane.serve(polite, https="only")
        assert caller.get().status == 403
        lane.serve(polite, https="allow")
        assert caller.get().status == 200
        lane.serve(polite, https="auto")
        assert caller.get().status == 200


def test_a_body_beyond_the_limit_gets_413(lane: Lane) -> None:
    (backend,) = lane.serve(polite, body_limit_bytes=10)
    with Caller(lane.port) as caller:
        assert caller.get(method="POST", body=b"x" * 10).status == 200
        assert caller.get(method="POST", body=b"x" * 11).status == 413
    with Caller(lane.port) as caller:
        caller.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n"
        )
        assert caller.reply().status == 413
    assert not any(b"0\r\n\r\n" in visit.raw for visit in backend.visits)


def test_a_client_comes_back_to_its_replica_until_that_leaves(lane: Lane) -> None:
    backends = [lane.backend(polite, f"b{number}") for number in range(4)]
    lane.take(an_app(*backends, policy=Policy(sticky=True)))
    with Caller(lane.port) as caller:
        reply = caller.get()
        cookie = reply.header("set-cookie") or ""
        assert cookie.startswith("oton_shop=")
        assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
        mine = f"Cookie: a=b; {cookie.partition(';')[0]}"
        again = [caller.get("/", mine) for _ in range(20)]
        assert {answer.body for answer in again} == {reply.body}
        assert all(answer.header("set-cookie") is None for answer in again)
        left = [backend for backend in backends if backend.name.encode() != reply.body]
        lane.take(an_app(*left, policy=Policy(sticky=True)))
        moved = caller.get("/", mine)
        assert moved.status == 200
        assert moved.header("set-cookie")


def test_weights_are_kept_and_a_client_keeps_its_release(lane: Lane) -> None:
    old, new = lane.backend(polite, "old"), lane.backend(polite, "new")
    entry = an_app(old, new, weights=((1, 90), (2, 10)))
    entry = replace(entry, upstreams=(entry.upstreams[0], replace(entry.upstreams[1], release=2)))
    lane.take(entry)
    with Caller(lane.port) as caller:
        bodies = [caller.get().body for _ in range(1000)]
        assert abs(bodies.count(b"new") - 100) <= 10
        replies = [caller.get() for _ in range(10)]
        fresh = next(reply for reply in replies if reply.body == b"new")
        cookie = f"Cookie: {(fresh.header('set-cookie') or '').partition(';')[0]}"
        assert {caller.get("/", cookie).body for _ in range(30)} == {b"new"}
        lane.take(replace(entry, weights=((1, 100), (2, 0))))
        assert {caller.get("/", cookie).body for _ in range(30)} == {b"old"}


def test_old_assets_are_asked_of_the_old_release_after_a_404(lane: Lane) -> None:
    async def old_script(visit: Visit) -> None:
        while head := await visit.head():
            await visit.say(answer(b"old asset" if b"/static/" in head else b"old page"))

    async def new_script(visit: Visit) -> None:
        while head := await visit.head():
            await visit.say(answer(b"missing", "404 Not Found") if b"a.js" in head else answer(b"new"))

    old, new = lane.backend(old_script, "old"), lane.backend(new_script, "new")
    entry = an_app(old, new, policy=Policy(assets=("/static",)))
    lane.take(replace(entry, upstreams=(replace(entry.upstreams[0], state="assets"), entry.upstreams[1])))
    with Caller(lane.port) as caller:
        assert {caller.get().body for _ in range(10)} == {b"new"}
        assert caller.get("/static/a.js").body == b"old asset"
        assert caller.get("/static/b.js").body == b"new"
        assert caller.get("/staticx/a.js").body == b"missing"
        assert caller.get("/static/a.js", method="POST").body == b"missing"
        assert caller.get("/static/a.js").body == b"old asset"


@pytest.mark.parametrize("accept", ["text/html,*/*", "application/json", "*/*"])
def test_our_own_answers_carry_the_request_id_and_no_word_of_the_machinery(lane: Lane, accept: str) -> None:
    lane.take(an_app(host="x.example"))
    with Caller(lane.port) as caller:
        for host in ("x.example", "y.example"):
            reply = caller.get("/", f"Accept: {accept}", "X-Request-ID: my-id-1", host=host)
            assert b"my-id-1" in reply.body
            assert reply.header("x-request-id") == "my-id-1"
            text = (reply.head + reply.body).lower()
            for word in (b"oton", b"mitmproxy", b"python", b"upstream", b"worker", b"127.0.0.1", b"llhttp"):
                assert word not in text
            kind = "text/html; charset=utf-8" if "html" in accept else "application/problem+json"
            assert reply.header("content-type") == kind
