from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from controller.errors import Refused
from controller.store.backup import check_backup, restore_backup
from tests.builders import at
from tests.store.kit import MovedClock, a_decision, a_memory, running


def test_a_backup_of_a_running_service_is_whole_and_comes_back(path: Path, clock: MovedClock, tmp_path: Path):
    file = tmp_path / "copies" / "copy.db"
    file.parent.mkdir()
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        store.secrets.set("shop", "KEY", "value one")
        checked = store.backup(file)
        assert (checked.apps, file.stat().st_mode & 0o777) == (("shop",), 0o600)
        before = store.load("shop")
        store.intend("shop", a_decision(memory=a_memory(9)), at(1))
        store.backup(file)
        store.backup(file)
        store.intend("other", a_decision(), at(2))
    assert [one.name for one in file.parent.iterdir()] == ["copy.db"]
    kept = restore_backup(file, path)
    assert kept is not None
    with running(path, clock) as store:
        assert store.apps() == ("shop",)
        assert store.load("shop")[0].last_release == 9
        assert store.load("shop")[1] == before[1]
        assert store.secrets.values("shop", ["KEY"]) == {"KEY": "value one"}
    assert check_backup(kept).apps == ("other", "shop")


def test_a_backup_while_others_write_is_one_moment(path: Path, clock: MovedClock, tmp_path: Path):
    stop = threading.Event()
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())

        def write() -> None:
            number = 1
            while not stop.is_set():
                number += 1
                store.intend("shop", a_decision(memory=a_memory(number)), at())

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for turn in range(5):
                assert store.backup(tmp_path / f"copy-{turn}").apps == ("shop",)
        finally:
            stop.set()
            writer.join(10)


def test_a_backup_shows_no_secret(path: Path, clock: MovedClock, tmp_path: Path):
    with running(path, clock) as store:
        store.secrets.set("shop", "KEY", "value one")
        token, _ = store.tokens.create("ci")
        store.backup(tmp_path / "copy")
    data = (tmp_path / "copy").read_bytes()
    assert b"value one" not in data
    assert token.encode() not in data
    assert path.with_name("secrets.key").read_bytes().split()[1] not in data


def test_restoring_under_a_running_service_is_refused(path: Path, clock: MovedClock, tmp_path: Path):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        store.backup(tmp_path / "copy")
        with pytest.raises(Refused, match="in use; stop the service first"):
            restore_backup(tmp_path / "copy", path)
        assert store.next_change() > 0


def test_restoring_where_there_is_nothing_yet(path: Path, clock: MovedClock, tmp_path: Path):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        store.backup(tmp_path / "copy")
    target = tmp_path / "new.db"
    assert restore_backup(tmp_path / "copy", target) is None
    with running(target, clock) as store:
        assert store.apps() == ("shop",)


def test_a_damaged_database_can_be_replaced(path: Path, clock: MovedClock, tmp_path: Path):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        store.backup(tmp_path / "copy")
    path.write_bytes(b"garbage" * 1000)
    restore_backup(tmp_path / "copy", path)
    with running(path, clock) as store:
        assert store.apps() == ("shop",)


def test_a_log_left_by_a_crash_is_not_taken_for_the_restored_files(path: Path, clock: MovedClock, tmp_path: Path):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        store.backup(tmp_path / "copy")
        store.intend("later", a_decision(), at())
        log = path.with_name("database.db-wal").read_bytes()
    path.unlink()
    path.with_name("database.db-wal").write_bytes(log)
    restore_backup(tmp_path / "copy", path)
    assert not path.with_name("database.db-wal").exists()
    with running(path, clock) as store:
        assert store.apps() == ("shop",)


@pytest.mark.parametrize("data", [b"", b"not a database " * 500])
def test_what_is_no_backup_is_refused_and_nothing_is_changed(
    path: Path, clock: MovedClock, tmp_path: Path, data: bytes
):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
    before = path.read_bytes()
    (tmp_path / "copy").write_bytes(data)
    with pytest.raises(Refused, match="copy: not an Oton Pilot backup"):
        restore_backup(tmp_path / "copy", path)
    with pytest.raises(Refused, match="there is no such file"):
        restore_backup(tmp_path / "nowhere", path)
    assert path.read_bytes() == before


def test_a_backup_of_a_newer_version_is_refused(path: Path, clock: MovedClock, tmp_path: Path):
    with running(path, clock) as store:
        store.backup(tmp_path / "copy")
    raw = sqlite3.connect(tmp_path / "copy")
    raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.commit()
    raw.close()
    with pytest.raises(Refused, match="found schema 9999, this version supports up to"):
        restore_backup(tmp_path / "copy", path)
