"""Deadlines are never early and at most a tick late, however often they move; streams end between two events."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from controller.proxy.stream import EventStream
from controller.proxy.wheel import NEVER, Wheel


@dataclass(eq=False)
class Item:
    """Something with a deadline."""

    due: float = NEVER
    parked: float = NEVER
    expired: list[float] = field(default_factory=list)

    def expire(self, now: float) -> None:
        self.expired.append(now)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 8.0)), min_size=1, max_size=20))
def test_a_deadline_that_moves_is_met_where_it_stands_last(moves: list[tuple[float, float]]) -> None:
    wheel, item = Wheel(0.1), Item()
    moves.sort()
    now, wanted = 100.0, NEVER
    for turn in range(200):
        while moves and 100.0 + moves[0][0] <= now:
            wanted = now + moves.pop(0)[1]
            if wanted < item.parked:
                wheel.arm(item, wanted)
            else:
                item.due = wanted
        wheel.turn(now)
        if item.expired:
            assert item.due == NEVER
            assert wanted <= item.expired[-1] <= wanted + 0.25 + 1e-9
            wanted = NEVER
            item.expired.clear()
        elif wanted != NEVER:
            assert now < wanted + 0.25
        now = 100.0 + (turn + 1) * 0.1
    assert wanted == NEVER


def test_an_item_that_sets_a_new_deadline_as_it_expires_is_met_again() -> None:
    wheel = Wheel(0.1)

    class Again(Item):
        def expire(self, now: float) -> None:
            self.expired.append(now)
            wheel.arm(self, now + 1.0)

    item = Again()
    wheel.arm(item, 100.0)
    for turn in range(60):
        wheel.turn(100.0 + turn * 0.1)
    assert 4 <= len(item.expired) <= 6


def test_nothing_is_kept_of_what_has_no_deadline_any_more() -> None:
    wheel, items = Wheel(0.1), [Item() for _ in range(100)]
    for item in items:
        wheel.arm(item, 101.0)
        item.due = NEVER
    wheel.turn(102.0)
    assert not wheel._slots
    assert not any(item.expired for item in items)


def test_what_has_ended_is_dropped_at_once_and_not_at_its_deadline() -> None:
    wheel, item = Wheel(0.1), Item()
    wheel.arm(item, 500.0)
    wheel.arm(item, 200.0)
    wheel.forget(item)
    assert not any(wheel._slots.values())
    for turn in range(10):
        wheel.turn(100.0 + turn * 50)
    assert not item.expired


events = st.lists(
    st.sampled_from(["data: x\n\n", "data: long\ndata: er\n\n", ":\r\n\r\n", "id: 1\n", "x"]), max_size=8
).map("".join)


@given(before=events, after=events, cut=st.integers(0, 30))
def test_a_stream_ends_right_after_the_first_border_that_follows(before: str, after: str, cut: int) -> None:
    stream = EventStream(before.encode())
    stream.ending = True
    raw = after.encode()
    pieces, passed, ended = [raw[:cut], raw[cut:]], b"", False
    for piece in pieces:
        end = stream.follow(piece)
        passed += piece if end is None else piece[:end]
        if end is not None:
            ended = True
            break
    whole = before.encode() + passed
    if ended:
        assert whole.endswith((b"\n\n", b"\r\n\r\n"))
    else:
        assert passed == raw
        for at in range(1, len(raw) + 1):
            assert not (before.encode() + raw[:at]).endswith((b"\n\n", b"\r\n\r\n")) or at == 0
