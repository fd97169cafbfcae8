"""Shares are kept exactly, load is spread, and a client's mark leads back to where it was."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from controller.routing.choose import Draw, Shares, sticky_index, sticky_mark, sticky_value


@dataclass
class Replica:
    name: str
    active: int = 0


@given(st.integers(1, 99), st.integers(0, 5000))
def test_any_thousand_requests_keep_the_share_within_one_point(weight: int, offset: int) -> None:
    shares = Shares([(1, 100 - weight), (2, weight)])
    for _ in range(offset % 137):
        shares.next()
    dealt = Counter(shares.next() for _ in range(1000))
    assert abs(dealt[2] - 10 * weight) <= 10


def test_a_release_of_weight_nought_is_never_dealt() -> None:
    shares = Shares([(1, 100), (2, 0)])
    assert {shares.next() for _ in range(100)} == {1}
    assert Shares([(1, 0)]).next() is None


def test_idle_replicas_share_alike() -> None:
    replicas = [Replica("a"), Replica("b"), Replica("c")]
    draw = Draw(7)
    counts = Counter(draw.fewest(replicas).name for _ in range(3000))
    assert all(800 < counts[name] < 1200 for name in "abc")


def test_a_busy_replica_is_passed_over() -> None:
    replicas = [Replica("a", active=50), Replica("b", active=1)]
    draw = Draw()
    assert {draw.fewest(replicas).name for _ in range(50)} == {"b"}


def test_a_mark_leads_back_to_its_replica_and_release_only_under_the_same_key() -> None:
    index = sticky_index("key", [3], ["c1", "c2"])
    release_mark, _, upstream_mark = sticky_value("key", 3, "c2").partition(".")
    assert index[upstream_mark] == "c2"
    assert index[release_mark] == 3
    assert sticky_value("key", 3, None) == release_mark
    assert sticky_mark("other", "c2") not in index
