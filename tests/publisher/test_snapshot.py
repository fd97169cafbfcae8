from __future__ import annotations

import json

import pytest

from controller.clock import read_boot_id
from controller.errors import Retry
from controller.proxy.feed import load_snapshot
from controller.publisher import Publisher
from controller.routing.table import Table
from tests.publisher.fakes import FakeWorker, publishing, routes, until


def snapshot(state):
    return json.loads((state / "proxy" / "table.json").read_bytes())


def test_the_snapshot_is_on_disk_before_a_worker_hears_of_it(tmp_path):
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1])
        worker = FakeWorker(tmp_path, 1)
        until(publisher.is_current)
        for n in range(20):
            publisher.publish("shop", routes("shop", f"u{n}"))
            assert snapshot(tmp_path)["version"] == n + 1
        worker.close()


def test_a_restart_changes_nothing_and_versions_go_on(tmp_path):
    with publishing(tmp_path) as first:
        first.set_roster([1])
        worker = FakeWorker(tmp_path, 1)
        until(first.is_current)
        first.publish("shop", routes("shop", "new", draining=("old",)))
        until(first.is_current)
        key = first.table().sticky_key
        worker.close()
    table = Table(version=1, apps={"shop": routes("shop", "new", draining=("old",))})
    before = (tmp_path / "proxy" / "table.json").stat().st_mtime_ns
    with publishing(tmp_path) as second:
        second.set_roster([1])
        with pytest.raises(Retry):
            second.routing("shop")
        worker = FakeWorker(tmp_path, 1, table=table, first=0)
        until(second.is_current)
        assert second.routing("shop").settled
        assert second.table().sticky_key == key
        second.publish("shop", routes("shop", "new", draining=("old",)))
        assert worker.pushes() == []
        assert (tmp_path / "proxy" / "table.json").stat().st_mtime_ns == before
        assert second.routing("shop").drained == frozenset()
        worker.drained("shop", "old", 1)
        until(lambda: second.routing("shop").drained == {"old"})
        second.publish("shop", routes("shop", "newer"))
        assert second.table().version == 2
        worker.close()


def test_after_a_reboot_routes_are_kept_and_addresses_are_not(tmp_path):
    with publishing(tmp_path) as publisher:
        publisher.publish("shop", routes("shop", "a", draining=("old",)))
    place = tmp_path / "proxy" / "table.json"
    place.write_text(place.read_text().replace(read_boot_id(), "another boot"))
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1])
        worker = FakeWorker(tmp_path, 1, table=load_snapshot(place))
        until(publisher.is_current)
        assert worker.table.apps == {"shop": routes("shop")}
        assert publisher.routing("shop").confirmed == routes("shop")
        assert publisher.routing("shop").drained == frozenset()
        assert worker.pushes() == []
        worker.close()


@pytest.mark.parametrize("damage", [b"", b'{"version": 7, "apps": {"sh', b"[]", b'{"apps": 3}', b"\xff\xfe"])
def test_a_torn_snapshot_is_treated_as_none(tmp_path, damage):
    with publishing(tmp_path) as publisher:
        publisher.publish("shop", routes("shop", "a"))
    (tmp_path / "proxy" / "table.json").write_bytes(damage)
    with publishing(tmp_path) as publisher:
        publisher.set_roster([])
        assert publisher.apps() == []
        publisher.publish("blog", routes("blog", "b"))
    assert list(snapshot(tmp_path)["apps"]) == ["blog"]


def test_a_lost_snapshot_is_had_back_from_a_worker_before_anybody_acts_on_it(tmp_path):
    theirs = Table(version=57, apps={"shop": routes("shop", "a"), "blog": routes("blog", "b")}, sticky_key="k")
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1, 2])
        publisher.publish("blog", routes("blog", "c"))
        one, two = FakeWorker(tmp_path, 1, table=theirs), FakeWorker(tmp_path, 2, table=theirs)
        until(publisher.is_current)
        assert publisher.routing("shop").confirmed == routes("shop", "a")
        assert publisher.routing("blog").confirmed == routes("blog", "c"), "ours is newer"
        assert publisher.table().version > 57
        assert publisher.table().sticky_key == "k"
        assert all("shop" in push["apps"] for push in one.pushes() + two.pushes())
        assert sorted(snapshot(tmp_path)["apps"]) == ["blog", "shop"]
        one.close()
        two.close()


def test_a_worker_that_claims_to_know_better_later_is_told_and_not_asked(tmp_path):
    theirs = Table(version=10**9, apps={"evil": routes("evil", "x")})
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1])
        good = FakeWorker(tmp_path, 1)
        until(publisher.is_current)
        publisher.publish("shop", routes("shop", "a"))
        publisher.set_roster([1, 2])
        bad = FakeWorker(tmp_path, 2, table=theirs)
        until(bad.pushes)
        assert bad.pushes()[0]["base"] is None
        assert bad.pushes()[0]["version"] == 1
        bad.say({"table": {"format": 1, "version": 10**9, "apps": {"evil": {"app": "evil"}}}})
        until(lambda: bad.version == 1)
        assert publisher.apps() == ["shop"]
        good.close()
        bad.close()


def test_where_the_snapshot_cannot_be_written_nothing_changes(tmp_path, monkeypatch):
    publisher = Publisher(tmp_path, ring=lambda _: None)
    publisher.set_roster([])
    publisher.publish("shop", routes("shop", "a"))

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(Retry, match="snapshot cannot be written"):
            publisher.publish("shop", routes("shop", "b"))
    assert publisher.routing("shop").published == routes("shop", "a")
    assert snapshot(tmp_path)["version"] == 1
    publisher.publish("shop", routes("shop", "b"))
    assert publisher.table().version == 2


def test_workers_may_read_the_snapshot_as_members_of_the_folders_group(tmp_path):
    with publishing(tmp_path) as publisher:
        publisher.publish("shop", routes("shop", "a"))
        until((tmp_path / "proxy" / "feed.sock").exists)
        assert (tmp_path / "proxy" / "table.json").stat().st_mode & 0o777 == 0o640
        assert (tmp_path / "proxy" / "feed.sock").stat().st_mode & 0o777 == 0o660
