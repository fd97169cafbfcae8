from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from controller.errors import Refused
from controller.store import Store
from controller.store.migrate import head_revision
from controller.store.schema import Base
from tests.builders import at
from tests.store.kit import MovedClock, Running, a_decision, running, sql

FIRST = Path(__file__).with_name("first_schema.sql")
NEXT_STEP = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("apps", sa.Column("colour", sa.String(), nullable=True))
    {more}
"""


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program one version on: its folder of steps has one more."""
    import shutil

    from controller.store import migrate

    scripts = tmp_path / "migrations"
    shutil.copytree(migrate.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "9999_next.py").write_text(NEXT_STEP.format(head=head_revision(), more="pass"))
    monkeypatch.setattr(migrate, "SCRIPTS", scripts)
    return scripts


def tables(path: Path) -> list[str]:
    raw = sqlite3.connect(path)
    try:
        return [row[0] for row in raw.execute("SELECT sql FROM sqlite_schema ORDER BY name")]
    finally:
        raw.close()


def test_the_migrations_make_just_the_tables_that_the_program_knows(store: Store):
    def differences(tx):
        context = MigrationContext.configure(tx.connection, opts={"compare_type": True})
        return compare_metadata(context, Base.metadata)

    assert store._thread.call(differences) == []


def test_a_database_of_the_first_version_is_brought_up_to_date_with_all_it_holds(path: Path, clock: MovedClock):
    raw = sqlite3.connect(path)
    raw.executescript(FIRST.read_text())
    raw.close()
    with running(path, clock) as store:
        memory, releases, orders = store.load("shop")
        assert (memory.last_release, memory.suspended, releases[1].digest) == (1, True, "digest-1")
        assert [order.verb for order in orders] == ["promote"]
        assert [event.text for event in store.events()][-1] == "promote asked by ann"
        assert [standing.file for standing in store.load_standings().values()] == ["shop.yaml"]
        assert sql(store, "SELECT version_num FROM alembic_version") == [(head_revision(),)]


def test_a_new_file_needs_no_copy(path: Path, clock: MovedClock):
    with running(path, clock):
        pass
    assert sorted(one.name for one in path.parent.iterdir()) == ["database.db", "numbers"]


def test_an_older_program_refuses_a_newer_database_and_changes_nothing(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        sql(store, "UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    one = Running(path, clock)
    one.thread.start()
    with pytest.raises(Refused, match=rf"written by a newer version \(schema 9999, this one knows {head_revision()}\)"):
        one.store.wait_open(20)
    one.end()
    assert path.read_bytes() == before


def test_a_migration_copies_the_file_first(path: Path, clock: MovedClock, request: pytest.FixtureRequest):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        before = store.load("shop")
    old = tables(path)
    request.getfixturevalue("later")
    with running(path, clock) as store:
        assert store.load("shop") == before
        assert "colour" in str(sql(store, "SELECT sql FROM sqlite_schema WHERE name = 'apps'"))
    copy = path.with_name("database.db.before-9999")
    assert (tables(copy), copy.stat().st_mode & 0o777) == (old, 0o600)


def test_a_migration_that_fails_half_way_leaves_the_file_as_it_was(
    path: Path, clock: MovedClock, request: pytest.FixtureRequest
):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        before = store.load("shop")
    old = tables(path)
    scripts: Path = request.getfixturevalue("later")
    step = scripts / "versions" / "9999_next.py"
    step.write_text(re.sub(r"\n    pass\n", '\n    op.execute("INSERT INTO nowhere VALUES (1)")\n', step.read_text()))
    one = Running(path, clock)
    one.thread.start()
    with pytest.raises(Exception, match="nowhere"):
        one.store.wait_open(20)
    one.end()
    assert tables(path) == old
    step.write_text(step.read_text().replace('op.execute("INSERT INTO nowhere VALUES (1)")', "pass"))
    with running(path, clock) as store:
        assert store.load("shop") == before


def test_a_migration_may_not_orphan_rows(path: Path, clock: MovedClock, request: pytest.FixtureRequest):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
    scripts: Path = request.getfixturevalue("later")
    step = scripts / "versions" / "9999_next.py"
    step.write_text(re.sub(r"\n    pass\n", '\n    op.execute("DELETE FROM apps")\n', step.read_text()))
    one = Running(path, clock)
    one.thread.start()
    with pytest.raises(Refused, match="rows without their parent in table releases"):
        one.store.wait_open(20)
    one.end()
