"""A line is a message within bounds, or it is Unreadable; nothing else comes of it, and nothing takes long."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.wire.codec import DEPTH_MOST, Unreadable, is_shallow, parse_line, render_line
from controller.wire.fields import as_list, as_number, as_object, as_text, as_whole, said
from controller.wire.lines import LineReader
from tests.parts.garbage import HUGE, UNREADABLE, messages, streams


@pytest.mark.parametrize("line", UNREADABLE.values(), ids=UNREADABLE)
def test_a_line_that_is_no_message_is_unreadable_and_ends_its_reader(line: bytes) -> None:
    reader = LineReader()
    assert reader.feed(b'{"one":1}\n' + line + b'{"two":2}\n') == [{"one": 1}]
    assert reader.fault
    assert reader.feed(b'{"three":3}\n') == []


def test_a_line_without_an_end_is_not_kept_beyond_its_bound() -> None:
    reader = LineReader(10_000)
    for _ in range(11):
        assert reader.feed(b"x" * 1_000) == []
    assert reader.fault == "a line is longer than 10000 bytes"
    reader = LineReader(10_000)
    assert reader.feed(b'{"a":"' + b"x" * 10_000 + b'"}\n') == []
    assert reader.fault == "a line is longer than 10000 bytes"


def test_a_number_of_thousands_of_digits_is_no_whole_number() -> None:
    with pytest.raises(Unreadable):
        as_whole(json.loads(str(HUGE)))


def test_of_a_key_that_stands_twice_the_last_one_counts() -> None:
    assert parse_line(b'{"confirm":1,"confirm":2}') == {"confirm": 2}


@given(
    st.recursive(st.text(max_size=3) | st.just('[\\"]{'), lambda inner: st.lists(inner, max_size=3)), st.integers(1, 6)
)
def test_depth_is_counted_as_the_parser_would_whatever_stands_in_strings(value: object, most: int) -> None:
    line = json.dumps(value, ensure_ascii=False).encode()
    few = line.count(b"[") + line.count(b"{") <= most
    assert is_shallow(line, most) is (few or _depth(value) <= most)


def _depth(value: object) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@given(st.binary() | streams.map(lambda data: data.partition(b"\n")[0]))
def test_whatever_a_line_is_it_is_a_message_or_unreadable(line: bytes) -> None:
    try:
        found = parse_line(line)
    except Unreadable:
        return
    assert parse_line(render_line(found)[:-1]) == found


@given(messages, st.data())
def test_lines_arrive_whole_however_they_are_cut(message: dict[str, object], data: st.DataObject) -> None:
    try:
        wanted = [parse_line(json.dumps(message).encode())] * 2
    except Unreadable:
        return
    stream = json.dumps(message).encode() + b"\n\n" + json.dumps(message).encode() + b"\n"
    cut = data.draw(st.integers(0, len(stream)))
    reader = LineReader()
    assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == wanted


@pytest.mark.parametrize("value", [None, True, -1, 1.0, 2**54, "1", [], {}, HUGE])
def test_what_is_no_whole_number_is_unreadable(value: object) -> None:
    with pytest.raises(Unreadable):
        as_whole(value)


@pytest.mark.parametrize("value", [None, True, -0.1, float("inf"), float("nan"), "1", [], HUGE])
def test_what_is_no_number_is_unreadable(value: object) -> None:
    with pytest.raises(Unreadable):
        as_number(value)


def test_other_kinds_are_checked_as_well() -> None:
    for check in (as_text, as_object, as_list):
        with pytest.raises(Unreadable):
            check(5)
    with pytest.raises(Unreadable):
        as_text("x" * 11, most=10)
    with pytest.raises(Unreadable):
        as_list([1, 2], most=1)


def test_what_people_read_is_one_printable_line() -> None:
    assert said("a\nb\x1b[2J") == "a b [2J"
    assert said("x" * 20, most=5) == "xxxxx …"
    assert said(["no text"]) == ""


def test_a_line_as_deep_as_is_allowed_is_read() -> None:
    inner: object = 1
    for _ in range(DEPTH_MOST - 1):
        inner = [inner]
    assert parse_line(json.dumps({"a": inner}).encode()) == {"a": inner}
    with pytest.raises(Unreadable):
        parse_line(json.dumps({"a": [inner]}).encode())
