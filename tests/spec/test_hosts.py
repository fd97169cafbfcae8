from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from controller.spec.hosts import read_host, read_path, read_pattern, read_target


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("Shop.Example.com", "shop.example.com"),
        ("shop.example.com.", "shop.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("localhost", "localhost"),
        ("10.0.0.1", "10.0.0.1"),
        ("my_app.test", "my_app.test"),
    ],
)
def test_a_host_takes_the_form_in_which_hosts_are_compared(written, host):
    assert read_host(written) == host
    assert read_pattern(written) == host


@pytest.mark.parametrize(
    "written",
    [
        "",
        ".",
        "http://x",
        "x:80",
        "x/y",
        "-x.test",
        "x-.test",
        "a..b",
        "a b",
        "x\n",
        "[::1]",
        "a" * 64,
        "a." * 130,
        "\ud800",
        5,
        True,
        [],
        "é" * 500,
        "*",
    ],
)
def test_what_is_no_host_is_refused(written):
    with pytest.raises(PydanticCustomError):
        read_host(written)
    with pytest.raises(PydanticCustomError):
        read_pattern(written)


def test_a_wildcard_stands_for_one_label_at_the_front():
    assert read_pattern("*.Example.com") == "*.example.com"
    assert read_pattern(None) is None
    for written in ("*", "*.", "*.*.com", "a.*.com", "*a.com", "**.com"):
        with pytest.raises(PydanticCustomError):
            read_pattern(written)
    with pytest.raises(PydanticCustomError):
        read_host("*.example.com")


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/", "/"),
        ("/shop", "/shop"),
        ("/shop/", "/shop"),
        ("/%73hop", "/shop"),
        ("/a%c3%a9", "/a%C3%A9"),
        ("/é", "/%C3%A9"),
        ("/a:b@c", "/a:b@c"),
        ("/%20x", "/%20x"),
    ],
)
def test_a_path_takes_the_form_in_which_paths_are_compared(written, path):
    assert read_path(written) == path
    assert read_path(path) == path


@pytest.mark.parametrize(
    "written",
    [
        "",
        "shop",
        "//",
        "/a//b",
        "/a/../b",
        "/./a",
        "/a/%2e%2e/b",
        "/a?x",
        "/a#x",
        "/a b",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/[a]",
        "/{a}",
        "/a|b",
        "/%00",
        "/%",
        "/%zz",
        "/a\n",
        "/" + "x" * 3000,
        None,
        5,
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(written):
    with pytest.raises(PydanticCustomError):
        read_path(written)


def test_a_probe_may_have_a_query_and_nothing_that_breaks_a_request_line():
    assert read_target("/healthz?full=1") == "/healthz?full=1"
    for written in ("healthz", "/a b", "/a\r\nX: y", "/a#b", "/é", None):
        with pytest.raises(PydanticCustomError):
            read_target(written)
