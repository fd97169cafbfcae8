"""TLS in front: the right certificate by name, none where there is none, swapped without a lost request."""

import ssl

import pytest

from tests.proxy.rig import Caller
from tests.proxy.shop import Shop


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request_by_tls_is_answered_and_told_as_https(shop: Shop, version: ssl.TLSVersion) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example")})
    with shop.call("shop.example", version=version) as caller:
        reply = caller.get()
        assert reply.body == b"one"
        assert caller.sock.selected_alpn_protocol() == "http/1.1"  # type: ignore[attr-defined]
        assert caller.get(method="POST", body=b"x" * 300_000).status == 200


def test_the_exact_name_wins_over_the_wildcard(shop: Shop) -> None:
    exact, wild = shop.issue("shop.example.org"), shop.issue("*.example.org")
    shop.take(**{"shop.example.org": exact, "*.example.org": wild})
    for name, names in (("shop.example.org", ("shop.example.org",)), ("blog.example.org", ("*.example.org",))):
        with shop.call(name) as caller:
            shown = caller.sock.getpeercert()  # type: ignore[attr-defined]
            assert tuple(value for _, value in shown["subjectAltName"]) == names


@pytest.mark.parametrize("name", [None, "elsewhere.example", "a.b.example.org"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_handshake_for_no_name_or_an_unknown_one_is_broken_off_with_the_reason(
    shop: Shop, version: ssl.TLSVersion, name: str | None
) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example"), "*.example.org": shop.issue("*.example.org")})
    with pytest.raises(ssl.SSLError) as told:
        shop.call(name, version=version)
    assert told.value.reason == "TLSV1_UNRECOGNIZED_NAME"


def test_without_any_certificate_nobody_comes_in(shop: Shop) -> None:
    with pytest.raises(ssl.SSLError) as told:
        shop.call("shop.example")
    assert told.value.reason == "TLSV1_UNRECOGNIZED_NAME"


def test_plain_http_at_the_tls_port_is_closed_at_once(shop: Shop) -> None:
    with Caller(shop.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        assert caller.is_closed()


def test_a_host_beyond_the_certificate_is_421(shop: Shop) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example")})
    with shop.call("shop.example") as caller:
        assert caller.get(host="other.example").status == 421
        assert caller.get().status == 200


def test_a_certificate_is_replaced_without_touching_what_is_open(shop: Shop) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example")})
    with shop.call("shop.example") as before:
        first = before.sock.getpeercert(True)  # type: ignore[attr-defined]
        shop.take(**{"shop.example": shop.issue("shop.example")})
        assert before.get().status == 200
        with shop.call("shop.example") as after:
            assert after.sock.getpeercert(True) != first  # type: ignore[attr-defined]
            assert after.get().status == 200


def test_a_bad_certificate_is_refused_and_the_one_in_force_stays(shop: Shop) -> None:
    good, other = shop.issue("shop.example"), shop.issue("shop.example")
    assert shop.take(**{"shop.example": good}) == {}
    assert list(shop.take(**{"shop.example": (good[0], other[1])})) == ["shop.example"]
    assert list(shop.take(**{"shop.example": ("no", "pem")})) == ["shop.example"]
    with shop.call("shop.example") as caller:
        assert caller.get().status == 200


def test_sessions_are_resumed_also_after_a_new_certificate(shop: Shop) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example")})
    with shop.call("shop.example", version=ssl.TLSVersion.TLSv1_2) as caller:
        caller.get()
        session = caller.sock.session  # type: ignore[attr-defined]
        context = shop.context
    again = Caller(shop.port)
    again.sock = context.wrap_socket(again.sock, server_hostname="shop.example", session=session)
    with again:
        assert again.sock.session_reused
        assert again.get().status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(shop: Shop, version: ssl.TLSVersion) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example")})
    with pytest.raises(ssl.SSLError) as told:
        shop.call("shop.example", version=version)
    assert told.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_a_table_that_was_there_before_anybody_listened_sends_to_https_too(shop: Shop) -> None:
    shop.take(shop=shop.issue("shop.example"))
    with Caller(shop.lane.port) as caller:
        assert caller.get("/a").header("location") == f"https://shop.example:{shop.port}/a"


def test_names_that_had_a_certificate_are_sent_to_https_until_certificates_come(shop: Shop) -> None:
    core = shop.lane.core
    shop.lane.call(lambda: core.take_covered(frozenset({"shop.example", "*.wild.example"})))
    with Caller(shop.lane.port) as caller:
        assert [caller.get(host=host).status for host in ("shop.example", "a.wild.example")] == [308, 308]
        assert caller.get(host="other.example").status == 200
        shop.take()
        assert caller.get(host="shop.example").status == 200, "now it is known that there is none"
        shop.lane.call(lambda: core.take_covered(frozenset({"shop.example"})))
        assert caller.get(host="shop.example").status == 200


def test_plain_http_is_sent_to_https_where_a_certificate_covers_the_host(shop: Shop) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example")})
    shop.lane.serve(https="auto", hsts_s=60.0)
    with Caller(shop.lane.port) as caller:
        assert caller.get("/a").header("location") == f"https://shop.example:{shop.port}/a"
        assert caller.get("/a", host="other.example").status == 200
    with shop.call("shop.example") as caller:
        assert caller.get().header("strict-transport-security") == "max-age=60"


def test_a_refused_request_by_tls_is_answered_and_closed(shop: Shop) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example")})
    with shop.call("shop.example") as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert caller.reply().status == 400
        assert caller.is_closed()
