"""A repository, or whoever else may write into the checkout, makes the service run nothing and write nowhere else."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.checkout.git import Git, Remote, find_access
from controller.errors import Refused
from controller.intake.write import make_folder, save_new, save_over
from controller.kernel import tighten_umask
from tests.checkout.kit import Following, Repository, git

SPEC = "name: shop\nimage: shop:1\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path)
    made.commit("First", {"shop.yaml": SPEC})
    return made


@pytest.fixture
def following(tmp_path: Path, repository: Repository) -> Following:
    made = Following(tmp_path / "desired", repository.url)
    assert made.follow() == ""
    return made


# Credentials


@contextmanager
def a_forge() -> Iterator[tuple[int, list[str], list[bytes]]]:
    """A server that asks for a password, and looks at the processes of the machine when it is asked."""
    given: list[str] = []
    seen: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.extend(command_lines())
            given.append(self.headers.get("Authorization", ""))
            self.send_response(401 if not given[-1] else 404)
            self.send_header("WWW-Authenticate", 'Basic realm="forge"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1], given, seen
        server.shutdown()
        thread.join(5)


def command_lines() -> list[bytes]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_bytes())
        except OSError:
            continue
    return found


def test_the_token_stands_in_no_command_line_and_reaches_the_forge_all_the_same(tmp_path: Path) -> None:
    with a_forge() as (port, given, seen):
        following = Following(tmp_path / "desired", f"http://kim:s3%2Fcret@127.0.0.1:{port}/shop.git", branch="main")
        problem = following.follow()
    assert "not found" in problem
    assert given[-1] == "Basic a2ltOnMzL2NyZXQ=", "kim:s3/cret"
    assert any(b"remote-http" in line for line in seen), "git was at work when we looked"
    assert not [line for line in seen if b"s3%2Fcret" in line or b"s3/cret" in line]


def test_the_token_is_for_its_own_host_alone_and_other_addresses_stay_as_they_are() -> None:
    access = find_access("https://kim:x@forge.test:8443/shop.git")
    assert access.url == "https://forge.test:8443/shop.git"
    assert list(access.settings) == ["credential.https://forge.test:8443.helper"]
    assert "x" not in access.environment.values() or access.environment["OTON_GIT_PASSWORD"] == "x"
    assert find_access("ssh://git@forge.test/shop.git").url == "ssh://git@forge.test/shop.git"
    assert find_access("/srv/shop.git").environment == {}


def test_what_we_are_set_up_with_is_not_handed_to_git(tmp_path: Path) -> None:
    given = {"OTON_GIT_URL": "https://kim:x@forge.test/y", "DB_PATH": "/d", "GIT_DIR": "/z", "PATH": "/bin"}
    environment = Git(tmp_path, Remote(url="/srv/x", known_hosts=tmp_path / "k"))._environment(given)
    assert not {"OTON_GIT_URL", "DB_PATH"} & set(environment)
    assert environment["PATH"] == "/bin"


# What stands in the repository


def test_submodules_are_not_followed_and_what_is_said_of_them_is_neither_run_nor_in_the_way(
    tmp_path: Path, repository: Repository, following: Following
) -> None:
    modules = f'[submodule "sub"]\n\tpath = sub\n\turl = {repository.bare}\n\tupdate = !touch {tmp_path}/run\n'
    (repository.work / ".gitmodules").write_text(modules)
    head = git(repository.work, "rev-parse", "HEAD").strip()
    git(repository.work, "update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    repository_head = _commit_index(repository, "With a submodule")
    assert following.follow() == ""
    assert following.head == repository_head
    newer = repository.commit("Newer", {"shop.yaml": SPEC.replace(":1", ":2")})
    assert following.follow() == ""
    assert following.head == newer
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "desired/sub/shop.yaml").exists()


def _commit_index(repository: Repository, subject: str) -> str:
    git(repository.work, "add", ".gitmodules")
    git(repository.work, "commit", "-q", "-m", subject)
    git(repository.work, "push", "-q", "origin", repository.branch)
    return git(repository.work, "rev-parse", "HEAD").strip()


def test_a_link_in_place_of_the_folder_for_uploads_is_not_written_through(
    tmp_path: Path, repository: Repository, following: Following
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (repository.work / "local").symlink_to(outside)
    git(repository.work, "add", "-f", "local")
    _commit_index_of(repository)
    assert following.follow() == ""
    local = following.root / "local"
    assert local.is_symlink()
    with pytest.raises(Refused, match="is a link"):
        make_folder(local)
    with pytest.raises(Refused, match="cannot be written"):
        save_new(local / "shop.yaml", b"x", follow=False)
    with pytest.raises(Refused, match="cannot be written"):
        save_over(local / "shop.yaml", b"x")
    assert list(outside.iterdir()) == []


def _commit_index_of(repository: Repository) -> None:
    git(repository.work, "commit", "-q", "-m", "A link")
    git(repository.work, "push", "-q", "origin", repository.branch)


def test_a_file_that_became_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root")
    (tmp_path / "shop.yaml").symlink_to(tmp_path / "passwd")
    with pytest.raises(Refused, match="no file any more"):
        save_over(tmp_path / "shop.yaml", b"x")
    assert (tmp_path / "passwd").read_text() == "root"
    assert not save_new(tmp_path / "shop.yaml", b"x")


# What somebody wrote into the checkout's own configuration


@pytest.mark.parametrize(
    "key",
    [
        "core.fsmonitor", "core.hooksPath", "core.sshCommand", "core.askPass", "core.gitProxy", "filter.x.smudge",
        "filter.x.process", "diff.x.textconv", "diff.external", "include.path", "includeIf.gitdir:/.path",
        "credential.helper", "url.ext::sh.insteadOf", "remote.oton.vcs", "remote.oton.uploadpack", "http.proxy",
        "merge.x.driver", "gpg.program", "extensions.worktreeConfig",
    ],
)  # fmt: skip
def test_what_could_run_a_program_stops_the_checkout_until_it_is_taken_out(
    tmp_path: Path, repository: Repository, following: Following, key: str
) -> None:
    config = following.root / ".git/config"
    before = config.read_text()
    value = "true" if key.startswith("extensions") else f"!touch {tmp_path}/run; true"
    git(tmp_path, "config", "--file", str(config), key, value)
    repository.commit("Newer", {"shop.yaml": SPEC, ".gitattributes": "* filter=x diff=x merge=x\n"})
    problem = following.follow()
    assert "its .git/config sets" in problem
    assert key.lower().rpartition(".")[2] in problem.lower()
    assert not (tmp_path / "run").exists()
    config.write_text(before)
    assert following.follow() == ""


def test_hooks_of_the_checkout_never_run(tmp_path: Path, repository: Repository, following: Following) -> None:
    for name in ("post-checkout", "post-merge", "reference-transaction", "pre-auto-gc", "post-index-change"):
        hook = following.root / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/run\n")
        hook.chmod(0o755)
    repository.commit("Newer", {"shop.yaml": SPEC.replace(":1", ":2")})
    assert following.follow() == ""
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_everybody_may_write_is_not_run_with(following: Following) -> None:
    config = following.root / ".git/config"
    config.chmod(0o666)
    assert "can be written by everybody" in following.follow()
    config.chmod(0o644)
    assert following.follow() == ""


def test_a_checkout_made_under_no_umask_at_all_can_be_written_by_nobody_else(
    tmp_path: Path, repository: Repository
) -> None:
    before = os.umask(0)
    try:
        tighten_umask()
        made = Following(tmp_path / "other", repository.url)
        assert made.follow() == ""
    finally:
        os.umask(before)
    assert not [one for one in made.root.rglob("*") if not one.is_symlink() and one.stat().st_mode & 0o022]


def test_each_of_our_processes_tightens_its_umask_first() -> None:
    code = "import os, sys; os.umask(0); sys.argv = ['oton', '--help']\nfrom controller.__main__ import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\nprint('umask', os.umask(0), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "umask 18" in done.stderr
