"""The git program: an end to every call, and no credentials in what is told."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.checkout.git import Git, Remote, explain, without_credentials
from controller.errors import Refused, Retry
from tests.checkout.kit import Repository


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where somebody accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def a_git(tmp_path: Path, url: str, **more: Path) -> Git:
    root = tmp_path / "desired"
    root.mkdir(exist_ok=True)
    git = Git(root, Remote(url=url, known_hosts=tmp_path / "state dir/known_hosts", **more))
    git.run("init", "-q")
    return git


def test_a_remote_that_never_answers_ends_the_call_at_its_limit(tmp_path: Path, silent: int) -> None:
    began = time.monotonic()
    with pytest.raises(Retry, match=r"git fetch: no end within 0.5 s"):
        a_git(tmp_path, f"git://127.0.0.1:{silent}/x").run("fetch", "oton", "main", limit_s=0.5)
    assert time.monotonic() - began < 5


def test_a_stopping_service_ends_the_call_under_way(tmp_path: Path, silent: int) -> None:
    git, stop = a_git(tmp_path, f"git://127.0.0.1:{silent}/x"), threading.Event()
    git.end(stop)
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Retry, match="the service is stopping"):
        git.run("fetch", "oton", "main", limit_s=60)
    assert time.monotonic() - began < 5
    assert git.stopped


def test_a_refused_connection_is_told_in_one_line_without_the_password(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Retry) as caught:
        a_git(tmp_path, f"http://kim:s3cret@127.0.0.1:{port}/shop.git").run("fetch", "oton", "main")
    assert "s3cret" not in str(caught.value)
    assert str(caught.value).startswith("git fetch: ")
    assert "\n" not in str(caught.value)


def test_the_address_with_its_password_stands_in_no_file(tmp_path: Path) -> None:
    git = a_git(tmp_path, "http://kim:s3cret@127.0.0.1:1/shop.git")
    with pytest.raises(Retry):
        git.run("fetch", "oton", "main")
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"s3cret" in file.read_bytes()]


def test_ssh_asks_nobody_and_keeps_host_keys_in_a_file_of_its_own(tmp_path: Path) -> None:
    git = a_git(tmp_path, "git@127.0.0.1:shop.git", key=tmp_path / "deploy key")
    environment = git._environment({"GIT_DIR": "/elsewhere", "PATH": "/bin"})
    command = environment["GIT_SSH_COMMAND"]
    assert "-oBatchMode=yes" in command
    assert f"""'-oUserKnownHostsFile="{tmp_path}/state dir/known_hosts"'""" in command
    assert f"-oIdentitiesOnly=yes -i '{tmp_path}/deploy key'" in command
    assert environment["GIT_DIR"] == f"{tmp_path}/desired/.git"
    assert environment["GIT_TERMINAL_PROMPT"] == "0"


def test_a_repository_behind_ssh_is_fetched_with_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository(tmp_path)
    repository.commit("First", {"shop.yaml": "name: shop\n"})
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/said\nfor last; do :; done\nexec sh -c "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    key = tmp_path / "deploy key"
    git = a_git(tmp_path, f"git@forge.example.com:{repository.bare}", key=key)
    git.run("fetch", "-q", "oton", "main")
    said = (tmp_path / "said").read_text().splitlines()
    assert said[said.index("-i") + 1] == str(key)
    assert "git@forge.example.com" in said
    assert "-oStrictHostKeyChecking=accept-new" in said


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "git@forge: Permission denied (publickey).\nfatal: Could not read from remote repository.\n\nPlease make sure",
            "git@forge: Permission denied (publickey).; Could not read from remote repository.",
        ),
        (
            "@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nfatal: Could not read from remote",
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @; Could not read from remote",
        ),
        ("fatal: couldn't find remote ref none", "couldn't find remote ref none"),
        (
            "error: The following untracked working tree files would be overwritten by merge:\n\tnew.yaml\nAborting",
            "The following untracked working tree files would be overwritten by merge: new.yaml",
        ),
        ("fatal: unable to access 'http://kim:s3cret@x/': refused", "unable to access 'http://x/': refused"),
        ("", "no reason given"),
    ],
)
def test_what_git_says_becomes_one_line_with_the_reason_of_its_ssh(said: str, told: str) -> None:
    assert explain(said) == told


def test_a_directory_that_is_gone_is_not_mistaken_for_a_missing_git(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such directory"):
        Git(tmp_path / "gone", Remote(url="/x", known_hosts=tmp_path / "k")).run("status")


def test_a_machine_without_git_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="git is not installed"):
        Git(tmp_path, Remote(url="/x", known_hosts=tmp_path / "k")).run("status")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://kim:s3cret@forge.example.com/shop.git?x=1", "https://forge.example.com/shop.git"),
        ("git@forge.example.com:shop.git", "git@forge.example.com:shop.git"),
        ("file:///srv/shop.git", "file:///srv/shop.git"),
    ],
)
def test_an_address_is_shown_without_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
