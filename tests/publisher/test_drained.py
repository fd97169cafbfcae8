from __future__ import annotations

import pytest

from controller.publisher.leaving import follow_change
from tests.publisher.fakes import Bells, FakeWorker, publishing, routes, until


def test_an_upstream_is_drained_when_every_worker_has_reported_it(tmp_path):
    bells = Bells()
    with publishing(tmp_path, ring=bells) as publisher:
        publisher.set_roster([1, 2])
        one, two = FakeWorker(tmp_path, 1), FakeWorker(tmp_path, 2)
        until(publisher.is_current)
        publisher.publish("shop", routes("shop", "old"))
        publisher.publish("shop", routes("shop", "new", draining=("old",)))
        until(publisher.is_current)
        bells.rung.clear()
        one.drained("shop", "old", 2)
        until(lambda: "shop" in bells.rung)
        assert publisher.routing("shop").drained == frozenset()
        two.drained("shop", "old", 2)
        until(lambda: publisher.routing("shop").drained == {"old"})
        publisher.publish("shop", routes("shop", "new"))
        assert publisher.routing("shop").drained == {"old"}, "absent is as good as draining"
        one.close()
        two.close()


def test_a_report_of_an_earlier_drain_does_not_count_for_an_upstream_that_was_picked_again(tmp_path):
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1])
        worker = FakeWorker(tmp_path, 1)
        until(publisher.is_current)
        publisher.publish("shop", routes("shop", "a"))
        publisher.publish("shop", routes("shop", "b", draining=("a",)))
        worker.drained("shop", "a", 2)
        until(lambda: publisher.routing("shop").drained == {"a"})
        publisher.publish("shop", routes("shop", "a", "b"))
        assert publisher.routing("shop").drained == frozenset()
        publisher.publish("shop", routes("shop", "b", draining=("a",)))
        until(publisher.is_current)
        assert publisher.routing("shop").drained == frozenset()
        worker.drained("shop", "a", 4)
        until(lambda: publisher.routing("shop").drained == {"a"})
        worker.close()


@pytest.mark.parametrize("how", ["gone", "never could pick it"])
def test_a_worker_with_no_way_to_have_anything_open_counts_as_drained(tmp_path, how):
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1, 2])
        one = FakeWorker(tmp_path, 1)
        two = FakeWorker(tmp_path, 2)
        until(publisher.is_current)
        publisher.publish("shop", routes("shop", "a"))
        publisher.publish("shop", routes("shop", "b", draining=("a",)))
        one.drained("shop", "a", 2)
        until(publisher.is_current)
        assert publisher.routing("shop").drained == frozenset()
        two.close()
        publisher.set_roster([1, 3] if how == "never could pick it" else [1])
        if how == "never could pick it":
            assert publisher.routing("shop").drained == frozenset(), "it has not registered"
            three = FakeWorker(tmp_path, 3)
        until(lambda: publisher.routing("shop").drained == {"a"})
        one.close()
        if how == "never could pick it":
            three.close()


def test_a_retiring_worker_counts_until_it_has_gone(tmp_path):
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1])
        old = FakeWorker(tmp_path, 1)
        until(publisher.is_current)
        publisher.publish("shop", routes("shop", "a"))
        until(publisher.is_current)
        publisher.set_roster([1, 2])
        new = FakeWorker(tmp_path, 2)
        publisher.publish("shop", routes("shop", "b", draining=("a",)))
        new.drained("shop", "a", 2)
        until(publisher.is_current)
        assert publisher.routing("shop").drained == frozenset()
        publisher.set_roster([2])
        until(lambda: publisher.routing("shop").drained == {"a"})
        old.close()
        new.close()


def test_what_left_is_remembered_within_bounds():
    leaving: dict[str, dict[str, int]] = {}
    before = {"shop": routes("shop", "u0")}
    for version in range(1, 500):
        now = {"shop": routes("shop", f"u{version}")}
        leaving = follow_change(leaving, now, before, version)
        before = now
    assert len(leaving["shop"]) == 200
    assert "u498" in leaving["shop"]
    assert "u0" not in leaving["shop"]


def test_nothing_is_kept_of_an_app_that_has_left_the_table(tmp_path):
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1])
        worker = FakeWorker(tmp_path, 1)
        until(publisher.is_current)
        for number in range(20):
            app = f"app{number}"
            publisher.publish(app, routes(app, "a"))
            publisher.publish(app, routes(app, "b", draining=("a",)))
            worker.drained(app, "a", publisher.table().version)
            until(lambda app=app: publisher.routing(app).drained == {"a"})
            publisher.publish(app, None)
        until(publisher.is_current)
        assert publisher._ledger.leaving == {}
        assert [peer.drained for peer in publisher._peers] == [{}]
        publisher.publish("app1", routes("app1", "b", draining=("a",)))
        until(publisher.is_current)
        assert publisher.routing("app1").drained == frozenset(), "what it said before counts no longer"
        worker.drained("app1", "a", publisher.table().version)
        until(lambda: publisher.routing("app1").drained == {"a"})
        worker.close()
