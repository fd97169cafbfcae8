"""What stops a start is one clear line, and nothing is changed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from controller.errors import Refused
from tests.builders import at
from tests.store.kit import MovedClock, Running, a_decision, running, sql


def refusal(path: Path) -> str:
    """Return the line with which a store on *path* refuses to start."""
    one = Running(path, MovedClock())
    one.thread.start()
    with pytest.raises(Refused) as caught:
        one.store.wait_open(20)
    one.end()
    assert one.trouble == []
    with pytest.raises(Refused):
        one.store.next_change()
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_a_folder_in_the_place_of_the_file(path: Path):
    path.mkdir()
    assert refusal(path) == f"DB_PATH: cannot open {path}: Is a directory"


def test_a_folder_that_does_not_exist(path: Path):
    assert refusal(path / "database.db") == f"DB_PATH: cannot open {path / 'database.db'}: No such file or directory"


def test_a_file_that_is_no_database(path: Path):
    path.write_bytes(b"not a database at all\n" * 1000)
    assert "is not a SQLite database" in refusal(path)
    assert path.read_bytes() == b"not a database at all\n" * 1000


def test_a_damaged_database(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        for number in range(30):
            store.intend(f"app-{number}", a_decision(), at())
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(8192) + whole[12288:])
    assert "damaged" in refusal(path)


def test_a_database_that_another_service_uses(path: Path, clock: MovedClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("controller.store.connection.BUSY_S", 0.1)
    with running(path, clock) as store:
        text = refusal(path)
        assert text == f"DB_PATH: {path} is in use by another process; a database serves one service only"
        assert store.next_change() > 0


def test_a_database_of_another_program(path: Path):
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE users (id INTEGER)")
    raw.close()
    assert "is not a database of this service" in refusal(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(path: Path):
    path.write_bytes(b"")
    path.chmod(0)
    assert "Permission denied" in refusal(path)


def test_an_odd_name_is_a_name_like_any_other(tmp_path: Path, clock: MovedClock):
    path = tmp_path / "50% off?mode=ro&x#y ü.db"
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
    assert {one.name for one in tmp_path.iterdir()} == {path.name, "numbers"}


def test_a_row_that_cannot_be_read_names_its_app(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        sql(store, "UPDATE apps SET document = '[]'")
    one = Running(path, clock)
    one.thread.start()
    with pytest.raises(Refused, match="DB_PATH: cannot be used now: app shop: a stored Memory cannot be read"):
        one.store.wait_open(20)
    one.end()


def test_a_newer_memory_loads_as_far_as_it_is_known(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        before = store.load("shop")
        sql(store, "UPDATE apps SET document = json_set(document, '$.colour', 'red', '$.rollout.shade', 1)")
    with running(path, clock) as store:
        assert store.load("shop") == before
