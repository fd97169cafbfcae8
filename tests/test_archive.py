"""A backup holds what cannot be made anew, and is put in place whole or not at all."""

from __future__ import annotations

import gzip
import io
import json
import stat
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.archive import KEPT, MANIFEST, STAGED, Place, apply_staged, load_last, save_archive, stage, unpack
from controller.clock import SystemClock
from controller.errors import Refused
from controller.store.store import KEY_FILE, Store

OURS, THEIRS = "0123456789ab", "ba9876543210"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "instance").write_text(OURS)
    for name in ("lock", "proxy/table.json", "engine/addresses", "certs/a.example.com/key.pem", ".archive-x"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text(name)
    return Place(state=state, database=tmp_path / "database.db", instance=OURS, version="1")


@pytest.fixture
def archive(place: Place, tmp_path: Path) -> Iterator[Path]:
    """A backup of a service with one secret, whose files have changed since."""
    with_store(place, lambda store: store.secrets.set("shop", "KEY", "then"))
    file = tmp_path / "backup.tar.gz"
    with_store(place, lambda store: save_archive(place, store, file))
    with_store(place, lambda store: store.secrets.set("shop", "KEY", "now"))
    (place.state / "certs/a.example.com/key.pem").write_text("renewed")
    return file


def with_store(place: Place, act) -> object:  # type: ignore[no-untyped-def]
    store, stop = Store(place.database, SystemClock(), state=place.state), threading.Event()
    thread = threading.Thread(target=store.run, args=(stop,))
    thread.start()
    try:
        store.wait_open()
        return act(store)
    finally:
        stop.set()
        thread.join(10)


def test_where_the_numbers_since_the_backup_are_not_known_counting_goes_on_far_above(
    place: Place, archive: Path, tmp_path: Path
) -> None:
    last = with_store(place, lambda store: store.next_change())
    elsewhere = Place(state=tmp_path / "new", database=tmp_path / "new.db", instance=OURS, version="1")
    elsewhere.state.mkdir(mode=0o700)
    stage(elsewhere, archive, has_apps=False)
    apply_staged(elsewhere.state, elsewhere.database)
    found = with_store(elsewhere, lambda store: [store.next_change() for _ in range(2)])
    assert found[0] > last + 900
    assert found[1] == found[0] + 1
    assert found[0] < 10_000, "small numbers, here too"


def test_in_its_own_place_a_backup_gives_no_number_out_again(place: Place, archive: Path) -> None:
    last = with_store(place, lambda store: store.next_change())
    stage(place, archive, has_apps=True)
    apply_staged(place.state, place.database)
    assert with_store(place, lambda store: store.next_change()) == last + 1


def names_in(file: Path) -> set[str]:
    with tarfile.open(file) as packed:
        return set(packed.getnames())


def test_a_backup_holds_database_identity_keys_and_certificates_and_nothing_else(place: Place, archive: Path) -> None:
    kept = {"instance", KEY_FILE, "certs/a.example.com/key.pem"}
    assert names_in(archive) == {"manifest.json", "database.db"} | {f"state/{name}" for name in kept}
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600


def test_what_was_saved_is_back_after_the_next_start_and_what_it_replaced_is_kept(place: Place, archive: Path) -> None:
    staged = stage(place, archive, has_apps=True)
    key = place.state / "certs/a.example.com/key.pem"
    assert key.read_text() == "renewed", "nothing changes before the start"
    applied = apply_staged(place.state, place.database)
    assert applied is not None
    assert applied["mark"] == staged["mark"]
    assert key.read_text() == "certs/a.example.com/key.pem"
    assert (place.state / KEPT / "certs/a.example.com/key.pem").read_text() == "renewed"
    assert with_store(place, lambda store: dict(store.secrets.values("shop", ["KEY"]))) == {"KEY": "then"}
    assert load_last(place.state) == staged
    assert not (place.state / STAGED).exists()
    assert apply_staged(place.state, place.database) is None


def test_a_start_that_broke_in_the_middle_is_gone_on_from(place: Place, archive: Path) -> None:
    stage(place, archive, has_apps=True)
    staged = place.state / STAGED
    aside = staged.with_name("aside")
    (staged / "state/certs").rename(aside)
    (staged / "state").chmod(0o700)
    (staged / "state/instance").unlink()  # put in place already, as the database was not
    aside.rename(staged / "state/certs")
    assert apply_staged(place.state, place.database) is not None
    assert with_store(place, lambda store: dict(store.secrets.values("shop", ["KEY"]))) == {"KEY": "then"}


def test_a_backup_of_another_instance_needs_a_service_without_apps(place: Place, archive: Path) -> None:
    other = Place(state=place.state, database=place.database, instance=THEIRS, version="1")
    with pytest.raises(Refused, match=f"found a backup of instance {OURS}"):
        stage(other, archive, has_apps=True)
    assert not (place.state / STAGED).exists()
    stage(other, archive, has_apps=False)
    assert (place.state / STAGED).exists()


def test_a_backup_that_was_cut_short_or_is_none_changes_nothing(place: Place, archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    for number, broken in enumerate((data[: len(data) // 2], data[:-20], b"no backup", b"")):
        file = tmp_path / f"broken{number}"
        file.write_bytes(broken)
        with pytest.raises(Refused):
            stage(place, file, has_apps=False)
    assert not [name for name in place.state.iterdir() if STAGED in name.name]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/",
        "state/" + "a" * 300,
        "state/" + "a/" * 2000 + "b",
        "state/" + "a/" * 20 + "b",
        "../evil",
        "/etc/evil",
        "state/../../evil",
        "state",
        "other/file",
        "manifest.json/x",
        "state/a/../../../e",
    ],
)
def test_a_backup_with_a_path_that_leads_elsewhere_is_refused(place: Place, tmp_path: Path, name: str) -> None:
    file = forge(tmp_path, [(name, b"x", tarfile.REGTYPE)])
    with pytest.raises(Refused, match="does not belong in one"):
        stage(place, file, has_apps=False)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_a_backup_with_anything_but_files_is_refused(place: Place, tmp_path: Path, kind: bytes) -> None:
    file = forge(tmp_path, [("state/link", b"", kind)])
    with pytest.raises(Refused, match="does not belong in one"):
        stage(place, file, has_apps=False)


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ({"format": 99, "instance": OURS}, "format 99"),
        ({"format": 1, "instance": "../x"}, "instance"),
        ({}, "no manifest"),
    ],
)
def test_a_backup_of_a_kind_that_we_do_not_know_is_refused(
    place: Place, tmp_path: Path, manifest: object, why: str
) -> None:
    file = forge(tmp_path, [(MANIFEST, json.dumps(manifest).encode(), tarfile.REGTYPE)])
    with pytest.raises(Refused, match=why):
        stage(place, file, has_apps=False)


def bomb(tmp_path: Path, kind: str) -> Path:
    """Return a small archive that would be gigabytes in memory, or thousands of calls deep."""
    file = tmp_path / "bomb.tar.gz"
    with gzip.open(file, "wb", compresslevel=1) as out:
        if kind == "long header":
            info = tarfile.TarInfo("pax")
            info.type, info.size = tarfile.XHDTYPE, 300 * 1024**2
            out.write(info.tobuf())
            for _ in range(300):
                out.write(b"0" * 1024**2)
        elif kind == "long name":
            info = tarfile.TarInfo("x")
            info.type, info.size = tarfile.GNUTYPE_LONGNAME, 300 * 1024**2
            out.write(info.tobuf() + b"a" * 1024)
        elif kind == "many headers":
            for number in range(3000):
                text = f"k{number}=v\n"
                record = f"{len(text) + 3:02d} {text}".encode()
                info = tarfile.TarInfo("global")
                info.type, info.size = tarfile.XGLTYPE, len(record)
                out.write(info.tobuf() + record.ljust(512, b"\0"))
        elif kind == "sparse":
            records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
            info = tarfile.TarInfo("x")
            info.type, info.size = tarfile.XHDTYPE, len(records)
            out.write(info.tobuf() + records.ljust(512, b"\0"))
            info = tarfile.TarInfo("state/x")
            info.size = 300 * 1024**2
            out.write(info.tobuf() + b"9999999999\n")
            for _ in range(300):
                out.write(b"1\n" * (512 * 1024))
        elif kind == "many files":
            for number in range(100):
                out.write(tarfile.TarInfo(f"state/{number}").tobuf())
    return file


@pytest.mark.parametrize("kind", ["long header", "long name", "many headers", "sparse", "many files"])
def test_a_backup_that_is_a_bomb_is_refused_before_it_fills_the_memory(
    place: Place, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "MOST_FILES", 50)
    file = bomb(tmp_path, kind)
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            stage(place, file, has_apps=False)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024**2
    finally:
        tracemalloc.stop()
    assert not [name for name in place.state.iterdir() if STAGED in name.name]


def test_a_manifest_that_is_nested_without_end_is_refused(place: Place, tmp_path: Path) -> None:
    file = forge(tmp_path, [(MANIFEST, b"[" * 100_000, tarfile.REGTYPE)])
    with pytest.raises(Refused, match="no manifest"):
        stage(place, file, has_apps=False)


@pytest.mark.parametrize("names", [("state/a", "state/a/b"), ("state/a/b", "state/a"), ("state/a", "state/a")])
def test_files_that_cannot_stand_beside_each_other_are_refused(
    place: Place, tmp_path: Path, names: tuple[str, str]
) -> None:
    file = forge(tmp_path, [(name, b"x", tarfile.REGTYPE) for name in names])
    with pytest.raises(Refused):
        stage(place, file, has_apps=False)


def forge(tmp_path: Path, members: list[tuple[str, bytes, bytes]]) -> Path:
    file = tmp_path / "forged.tar.gz"
    with tarfile.open(file, "w:gz") as packed:
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            packed.addfile(info, io.BytesIO(data))
    return file
