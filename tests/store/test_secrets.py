from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from controller.errors import Refused
from controller.plan.situation import Note
from controller.store import Store
from tests.builders import at
from tests.store.kit import MovedClock, a_decision, running, sql, writes

VALUE = "postgres://shop:s3cr3t@db/shop"


def test_a_secret_comes_back_through_values_alone(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        first = store.secrets.set("shop", "DATABASE_URL", VALUE, by="ann")
        store.secrets.set("shop", "CERT", "line 1\nline 2\n")
        store.secrets.set("other", "DATABASE_URL", "another")
    with running(path, clock) as store:
        assert store.secrets.values("shop", ["DATABASE_URL"]) == {"DATABASE_URL": VALUE}
        assert [secret.name for secret in store.secrets.list("shop")] == ["CERT", "DATABASE_URL"]
        assert store.secrets.versions("shop")["DATABASE_URL"] == first.version
        assert VALUE not in repr(store.secrets.list("shop"))


def test_no_value_is_on_the_disk_as_it_is(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.secrets.set("shop", "KEY", VALUE)
        files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert "secrets.key" in files
    assert not [name for name, data in files.items() if VALUE.encode() in data or b"s3cr3t" in data]
    assert path.with_name("secrets.key").stat().st_mode & 0o777 == 0o600


def test_a_new_value_is_a_new_version_and_the_same_value_is_not(store: Store):
    first = store.secrets.set("shop", "KEY", "value one")
    before = writes(store)
    assert store.secrets.set("shop", "KEY", "value one") == first
    assert writes(store) == before
    second = store.secrets.set("shop", "KEY", "value two")
    assert second.version > first.version
    assert store.secrets.values("shop", ["KEY"]) == {"KEY": "value two"}


def test_a_version_never_comes_back(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        first = store.secrets.set("shop", "KEY", "value one")
        store.secrets.remove("shop", "KEY")
        assert store.secrets.versions("shop") == {}
        again = store.secrets.set("shop", "KEY", "value one")
    path.unlink()
    clock.move(10)
    with running(path, clock) as store:
        lost = store.secrets.set("shop", "KEY", "value two")
    assert first.version < again.version < lost.version


def test_a_removed_value_is_not_on_the_disk_in_any_form(store: Store):
    store.secrets.set("shop", "KEY", "value one")
    store.secrets.remove("shop", "KEY")
    assert sql(store, "SELECT sealed FROM secrets") == [(None,)]
    with pytest.raises(Refused, match="secret KEY of shop: not set"):
        store.secrets.remove("shop", "KEY")


def test_what_is_missing_is_named_with_the_command_that_mends_it(store: Store):
    store.secrets.set("shop", "B", "value b")
    with pytest.raises(Refused, match="secret A, C of shop is not set; set it with: oton secret set shop A"):
        store.secrets.values("shop", ["C", "B", "A"])


@pytest.mark.parametrize("name", ["", "../x", "a/b", "1A", "A B", "A\n", "x" * 129, ".", "-x"])
def test_a_name_that_could_be_another_file_or_variable_is_refused(store: Store, name: str):
    with pytest.raises(Refused, match="secret name"):
        store.secrets.set("shop", name, "value")


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * 65537])
def test_a_value_that_no_container_can_hold_is_refused_without_being_shown(store: Store, value: str):
    with pytest.raises(Refused) as caught:
        store.secrets.set("shop", "KEY", value)
    assert value not in str(caught.value)


def test_a_new_key_opens_everything_and_the_old_one_nothing(path: Path, clock: MovedClock):
    file = path.with_name("secrets.key")
    with running(path, clock) as store:
        before = store.secrets.set("shop", "KEY", VALUE)
        old = file.read_text()
        new_id = store.secrets.rotate_key()
        assert file.read_text().startswith(new_id)
        assert old.strip() not in file.read_text()
        assert {key for (key,) in sql(store, "SELECT key_id FROM secrets")} == {new_id}
    with running(path, clock) as store:
        assert store.secrets.values("shop", ["KEY"]) == {"KEY": VALUE}
        assert store.secrets.list("shop") == (before,)


def test_a_rotation_cut_short_before_its_commit_loses_nothing(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.secrets.set("shop", "KEY", VALUE)
        sql(store, "CREATE TRIGGER cut BEFORE UPDATE ON secrets BEGIN SELECT RAISE(ABORT, 'cut'); END")
        with pytest.raises(Exception, match="cut"):
            store.secrets.rotate_key()
        assert store.secrets.values("shop", ["KEY"]) == {"KEY": VALUE}
        sql(store, "DROP TRIGGER cut")
    with running(path, clock) as store:
        assert store.secrets.values("shop", ["KEY"]) == {"KEY": VALUE}
        store.secrets.rotate_key()
        assert store.secrets.values("shop", ["KEY"]) == {"KEY": VALUE}


def test_a_lost_key_file_is_said_and_mended_by_setting_anew(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.secrets.set("shop", "KEY", VALUE)
    path.with_name("secrets.key").unlink()
    with running(path, clock) as store:
        with pytest.raises(Refused, match="is missing; put the file back or set them again"):
            store.secrets.values("shop", ["KEY"])
        assert store.secrets.mask("shop", VALUE) == VALUE
        store.secrets.set("shop", "KEY", VALUE)
        assert store.secrets.values("shop", ["KEY"]) == {"KEY": VALUE}


@pytest.mark.parametrize("text", ["", "garbage", "id AAAA\n", "id !!!\n", "ü"])
def test_a_key_file_that_is_none_is_refused_and_kept(path: Path, clock: MovedClock, text: str):
    file = path.with_name("secrets.key")
    with running(path, clock) as store:
        store.secrets.set("shop", "KEY", VALUE)
        file.write_text(text)
    with running(path, clock) as store, pytest.raises(Refused):
        store.secrets.values("shop", ["KEY"])
    assert file.read_text() == text


def test_a_row_copied_over_another_does_not_open(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.secrets.set("shop", "KEY", VALUE)
        store.secrets.set("evil", "KEY", "other value")
    raw = sqlite3.connect(path)
    raw.execute("UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE app = 'shop') WHERE app = 'evil'")
    raw.commit()
    raw.close()
    with running(path, clock) as store, pytest.raises(Refused, match="cannot be decrypted"):
        store.secrets.values("evil", ["KEY"])


def test_known_values_are_masked_in_whatever_is_told(store: Store):
    store.secrets.set("shop", "KEY", VALUE)
    store.secrets.set("shop", "CERT", "-----BEGIN-----\nMIIB12345\n-----END-----\n")
    store.secrets.set("shop", "FLAG", "1")
    assert store.secrets.mask("shop", f"1 cannot reach {VALUE}: MIIB12345") == "1 cannot reach ***: ***"
    assert store.secrets.mask("other", VALUE) == VALUE
    store.intend("shop", a_decision(notes=(Note(f"cannot reach {VALUE}"),)), at())
    store.add_event("shop", "engine", "error", f"env {VALUE}")
    assert "s3cr3t" not in repr(store.events())


def test_a_former_value_stays_masked_as_its_replicas_may_still_write_logs(store: Store):
    store.secrets.set("shop", "KEY", VALUE)
    store.secrets.set("shop", "KEY", "another value")
    assert store.secrets.mask("shop", f"{VALUE} another value") == "*** ***"
    store.secrets.remove("shop", "KEY")
    assert store.secrets.mask("shop", f"{VALUE} another value") == "*** ***"


def test_a_deleted_app_keeps_its_secrets(path: Path, clock: MovedClock):
    from tests.store.kit import a_memory

    with running(path, clock) as store:
        store.secrets.set("shop", "KEY", VALUE)
        store.intend("shop", a_decision(memory=a_memory(removed=True)), at())
        store.drop_standing("shop")
        store.prune()
    with running(path, clock) as store:
        assert store.secrets.values("shop", ["KEY"]) == {"KEY": VALUE}
