"""Secret files: in memory, closed to others, whole, and gone when nobody needs them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from controller.errors import Refused
from controller.vault import ONE_OFF, YOUNG_S, Vault, file_system_of, open_vault

DIGEST, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
MOUNTS = (
    "22 1 8:1 / / rw - ext4 /dev/root rw\n"
    "23 22 0:20 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n"
    "24 23 0:21 / /run/a\\040b rw - ext4 /dev/sdb rw\n"
)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "oton-x", in_memory=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_can_be_read_by_any_user_in_the_container_and_reached_by_none_on_the_host(vault: Vault) -> None:
    path = Path(vault.lay("shop", DIGEST, {"CERT": "pem"})["CERT"])
    assert (path.read_text(), mode(path)) == ("pem", 0o444)
    assert [mode(folder) for folder in list(path.parents)[:3]] == [0o700] * 3


def test_a_container_that_has_an_older_file_mounted_keeps_it_whole(vault: Vault) -> None:
    path = Path(vault.lay("shop", DIGEST, {"CERT": "first"})["CERT"])
    with path.open() as held:
        vault.lay("shop", DIGEST, {"CERT": "second, and longer"})
        assert (held.read(), path.read_text()) == ("first", "second, and longer")


def test_what_a_container_was_made_with_is_only_made_again_where_it_is_gone(vault: Vault) -> None:
    path = Path(vault.lay("shop", DIGEST, {"CERT": "then"})["CERT"])
    vault.lay("shop", DIGEST, {"CERT": "now"}, anew=False)
    assert path.read_text() == "then"
    path.unlink()
    assert not vault.has("shop", DIGEST, ["CERT"])
    vault.lay("shop", DIGEST, {"CERT": "now"}, anew=False)
    assert path.read_text() == "now"


def test_the_folder_goes_with_its_last_file(vault: Vault) -> None:
    vault.lay("shop", DIGEST, {"CERT": "a"})
    vault.lay("shop", OTHER, {"CERT": "b"})
    vault.drop("shop", DIGEST)
    assert vault.has("shop", OTHER, ["CERT"])
    vault.drop("shop", OTHER)
    vault.drop("shop", OTHER)
    assert not vault.base.exists()


def test_sweeping_leaves_what_containers_and_one_offs_use_and_what_was_just_laid(vault: Vault) -> None:
    for app, key in (("shop", DIGEST), ("shop", f"{ONE_OFF}abc"), ("gone", DIGEST), ("gone", f"{ONE_OFF}abc")):
        vault.lay(app, key, {"CERT": "a"})
    folders = sorted(f"{one.parent.name}/{one.name}" for one in vault.base.glob("*/*"))
    made = next(vault.base.glob("*/*")).stat().st_mtime
    vault.sweep({("shop", DIGEST), ("shop", ONE_OFF)}, made + YOUNG_S / 2)
    assert sorted(f"{one.parent.name}/{one.name}" for one in vault.base.glob("*/*")) == folders
    vault.sweep({("shop", DIGEST), ("shop", ONE_OFF)}, made + YOUNG_S * 2)
    assert {one.parent.name for one in vault.base.glob("*/*")} == {"shop"}
    assert len(list(vault.base.glob("*/*"))) == 2


def test_a_folder_that_somebody_else_put_there_is_refused(tmp_path: Path, vault: Vault) -> None:
    (tmp_path / "elsewhere").mkdir()
    vault.base.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="not ours"):
        vault.lay("shop", DIGEST, {"CERT": "a"})
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_open_folder_of_ours_is_closed_before_anything_is_put_into_it(vault: Vault) -> None:
    vault.base.mkdir(mode=0o755)
    vault.lay("shop", DIGEST, {"CERT": "a"})
    assert mode(vault.base) == 0o700


def test_nothing_is_made_for_no_secrets(vault: Vault) -> None:
    assert vault.lay("shop", DIGEST, {}) == {}
    assert not vault.base.exists()


@pytest.mark.parametrize(
    ("path", "found"), [("/run/oton", "tmpfs"), ("/runner", "ext4"), ("/run/a b/c", "ext4"), ("/", "ext4")]
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, found: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == found


def test_without_a_place_in_memory_the_state_directory_serves_and_that_is_said(tmp_path: Path) -> None:
    vault = open_vault("x", tmp_path, {}, mounts="22 1 8:1 / / rw - ext4 /dev/root rw\n")
    assert (vault.base, vault.in_memory) == (tmp_path / "secret-files", False)


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no /dev/shm here")
def test_a_place_in_memory_is_taken_where_there_is_one(tmp_path: Path) -> None:
    vault = open_vault("x", tmp_path, {})
    assert vault.in_memory
    assert vault.base.name == "oton-x"
