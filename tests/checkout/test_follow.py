"""A checkout follows its remote, and never at the cost of what a person did in it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from tests.checkout.kit import Following, Repository, git
from tests.parts.wait import wait_for


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path)
    made.commit("First", {"shop.yaml": "name: shop\n", "docs/readme.md": "hello\n"})
    return made


@pytest.fixture
def following(tmp_path: Path, repository: Repository) -> Following:
    made = Following(tmp_path / "desired", repository.url)
    assert made.follow() == ""
    return made


def test_the_first_look_checks_everything_out_and_says_so(following: Following, repository: Repository) -> None:
    assert following.files() == ["docs/readme.md", "shop.yaml"]
    commit = following.checkout.state.commit
    assert commit is not None
    assert following.told == [("info", f"checked out {commit.short} of main: Kim: First")]
    assert following.moves == 1


def test_a_look_that_finds_nothing_new_says_and_moves_nothing(following: Following) -> None:
    assert following.follow() == ""
    assert (len(following.told), following.moves) == (1, 1)


def test_new_commits_arrive_and_each_file_has_the_commit_that_changed_it(
    following: Following, repository: Repository
) -> None:
    first = repository.commit("Ship shop", {"shop.yaml": "name: shop\nreplicas: 2\n"}, author="Ada")
    second = repository.commit("Add api", {"team/api.yaml": "name: api\n"})
    assert following.follow() == ""
    root = following.root
    assert following.checkout.source(f"{root}/shop.yaml") == (f"git {first[:7]}", "Ada: Ship shop")
    assert following.checkout.source(f"{root}/team/api.yaml") == (f"git {second[:7]}", "Kim: Add api")
    assert following.text("shop.yaml").endswith("replicas: 2\n")


def test_a_merge_is_what_brought_its_files(following: Following, repository: Repository) -> None:
    git(repository.work, "checkout", "-q", "-b", "feature")
    repository.commit("On a branch", {"shop.yaml": "name: shop\nreplicas: 3\n"}, push=False)
    git(repository.work, "checkout", "-q", "main")
    git(repository.work, "merge", "-q", "--no-ff", "-m", "Merge pull request 12", "feature")
    git(repository.work, "push", "-q", "origin", "main")
    following.follow()
    assert following.checkout.source(f"{following.root}/shop.yaml")[1] == "Kim: Merge pull request 12"


def test_a_removed_file_goes_and_what_is_local_stays(following: Following, repository: Repository) -> None:
    (following.root / "local").mkdir()
    (following.root / "local/mine.yaml").write_text("name: mine\n")
    repository.commit("Away", {"shop.yaml": None})
    assert following.follow() == ""
    assert following.files() == ["docs/readme.md", "local/mine.yaml"]
    assert git(following.root, "status", "--porcelain").strip() == ""


def test_only_what_git_tracks_is_locked(following: Following) -> None:
    checkout, root = following.checkout, following.root
    assert checkout.locked(f"{root}/shop.yaml") == "Git"
    assert checkout.locked(f"{root}/local/mine.yaml") == ""
    assert checkout.source(f"{root}/local/mine.yaml") == ("", "")


def test_uncommitted_work_stops_the_checkout_and_is_never_lost(following: Following, repository: Repository) -> None:
    (following.root / "shop.yaml").write_text("name: shop\nreplicas: 9\n")
    before = following.head
    repository.commit("Newer", {"shop.yaml": "name: shop\nreplicas: 2\n"})
    problem = following.follow()
    assert problem.startswith("changed by hand and not committed: shop.yaml; commit and push it, or: git -C ")
    assert (following.text("shop.yaml"), following.head) == ("name: shop\nreplicas: 9\n", before)
    assert following.told[-1] == ("warning", f"the checkout stays at its commit: {problem}")
    count = len(following.told)
    following.follow()
    assert len(following.told) == count, "the same trouble is told once"
    git(following.root, "restore", ".")
    assert following.follow() == ""
    assert following.text("shop.yaml") == "name: shop\nreplicas: 2\n"
    assert ("info", "the checkout is following its remote again") in following.told


def test_a_deletion_by_hand_is_uncommitted_work_too(following: Following, repository: Repository) -> None:
    (following.root / "shop.yaml").unlink()
    repository.commit("Newer", {"docs/readme.md": "again\n"})
    assert "not committed: shop.yaml" in following.follow()
    assert following.text("shop.yaml") == "(gone)"


def test_a_file_that_git_does_not_know_is_never_overwritten(following: Following, repository: Repository) -> None:
    (following.root / "new.yaml").write_text("mine\n")
    repository.commit("Theirs", {"new.yaml": "theirs\n"})
    problem = following.follow()
    assert "new.yaml" in problem
    assert "would be overwritten" in problem
    assert following.text("new.yaml") == "mine\n"
    (following.root / "new.yaml").unlink()
    assert following.follow() == ""
    assert following.text("new.yaml") == "theirs\n"


def test_commits_that_nobody_pushed_stop_the_checkout(following: Following, repository: Repository) -> None:
    (following.root / "shop.yaml").write_text("name: shop\nreplicas: 9\n")
    git(following.root, "commit", "-q", "-a", "-m", "On the server")
    mine = following.head
    repository.commit("Newer", {"docs/readme.md": "again\n"})
    assert following.follow().startswith("it has commits that main of the remote lacks; push them")
    assert following.head == mine


def test_another_branch_stops_the_checkout(following: Following, repository: Repository) -> None:
    git(following.root, "switch", "-q", "-c", "trial")
    repository.commit("Newer", {"docs/readme.md": "again\n"})
    assert following.follow().startswith("branch trial is checked out; back to the service's branch with: git -C ")
    git(following.root, "switch", "-q", "main")
    assert following.follow() == ""


def test_rewritten_history_is_followed_where_nobody_worked(following: Following, repository: Repository) -> None:
    repository.commit("Wrong", {"shop.yaml": "name: shop\nreplicas: 2\n"})
    following.follow()
    newest = repository.rewrite("Right", {"shop.yaml": "name: shop\nreplicas: 3\n"})
    assert following.follow() == ""
    assert (following.head, following.text("shop.yaml")) == (newest, "name: shop\nreplicas: 3\n")
    assert following.told[-1] == ("warning", f"checked out {newest[:7]} of main: Kim: Right (history was rewritten)")


def test_rewritten_history_does_not_take_uncommitted_work_along(following: Following, repository: Repository) -> None:
    repository.commit("Wrong", {"shop.yaml": "name: shop\nreplicas: 2\n"})
    following.follow()
    (following.root / "shop.yaml").write_text("mine\n")
    repository.rewrite("Right", {"shop.yaml": "name: shop\nreplicas: 3\n"})
    assert "not committed: shop.yaml" in following.follow()
    assert following.text("shop.yaml") == "mine\n"


def test_what_somebody_pulled_by_hand_is_not_taken_for_work_of_theirs(
    following: Following, repository: Repository
) -> None:
    newer = repository.commit("Wrong", {"shop.yaml": "name: shop\nreplicas: 2\n"})
    git(following.root, "pull", "-q", "--ff-only", repository.url, "main")
    assert following.head == newer
    assert following.follow() == ""
    commit = following.checkout.state.commit
    assert commit is not None
    assert commit.id == newer
    newest = repository.rewrite("Right", {"shop.yaml": "name: shop\nreplicas: 3\n"})
    assert following.follow() == ""
    assert following.head == newest


def test_a_folder_that_the_repository_lacks_is_told(tmp_path: Path, repository: Repository) -> None:
    following = Following(tmp_path / "desired", repository.url, folder="production")
    assert following.follow() == "the repository has no folder production; put it there, or change OTON_GIT_PATH"
    repository.commit("Add it", {"production/shop.yaml": "name: shop\n"})
    assert following.follow() == ""


def test_an_unreachable_remote_is_told_and_lived_through(following: Following, repository: Repository) -> None:
    away = repository.bare.with_name("away.git")
    repository.bare.rename(away)
    assert following.follow().startswith("git fetch: ")
    assert following.files() == ["docs/readme.md", "shop.yaml"]
    away.rename(repository.bare)
    assert following.follow() == ""


def test_what_is_checked_out_is_known_again_after_a_restart_without_the_remote(
    following: Following, repository: Repository
) -> None:
    shutil.rmtree(repository.bare)
    again = Following(following.root, repository.url)
    again.checkout.load()
    assert again.checkout.locked(f"{following.root}/shop.yaml") == "Git"
    assert again.checkout.source(f"{following.root}/shop.yaml")[1] == "Kim: First"


def test_files_of_a_person_in_a_directory_that_is_no_checkout_stay(tmp_path: Path, repository: Repository) -> None:
    root = tmp_path / "desired"
    root.mkdir()
    (root / "shop.yaml").write_text("mine\n")
    following = Following(root, repository.url)
    assert following.follow() != ""
    assert following.text("shop.yaml") == "mine\n"


def test_the_directory_of_another_checkout_further_up_is_left_alone(tmp_path: Path, repository: Repository) -> None:
    root = repository.work / "desired"
    head = git(repository.work, "rev-parse", "HEAD")
    following = Following(root, repository.url)
    assert following.follow() == ""
    assert git(repository.work, "rev-parse", "HEAD") == head
    assert "shop.yaml" in following.files()


def test_a_branch_can_be_named(tmp_path: Path, repository: Repository) -> None:
    git(repository.work, "checkout", "-q", "-b", "live")
    git(repository.work, "push", "-q", "origin", "live")
    git(repository.work, "checkout", "-q", "main")
    repository.commit("Only on main", {"main.yaml": "name: main\n"})
    following = Following(tmp_path / "desired", repository.url, branch="live")
    assert following.follow() == ""
    assert "main.yaml" not in following.files()
    missing = Following(tmp_path / "other", repository.url, branch="none")
    assert "none" in missing.follow()


def test_another_branch_in_the_settings_is_switched_to_and_nothing_is_lost(
    following: Following, repository: Repository
) -> None:
    git(repository.work, "checkout", "-q", "-b", "live")
    repository.commit("For live", {"shop.yaml": "name: shop\nreplicas: 7\n"}, push=False)
    git(repository.work, "push", "-q", "origin", "live")
    main = following.head
    moved = Following(following.root, repository.url, branch="live")
    assert moved.follow() == ""
    assert moved.text("shop.yaml").endswith("7\n")
    assert git(following.root, "rev-parse", "--abbrev-ref", "HEAD").strip() == "live"
    assert git(following.root, "rev-parse", "main").strip() == main


def test_an_empty_repository_is_no_fault_of_ours(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    following = Following(tmp_path / "desired", Repository(tmp_path / "empty").url)
    assert following.follow() != ""
    assert following.files() == []


def test_hooks_in_the_work_tree_do_not_run(following: Following, repository: Repository, tmp_path: Path) -> None:
    hook = following.root / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    (following.root / ".git/hooks/reference-transaction").symlink_to(hook)
    repository.commit("Newer", {"shop.yaml": "name: shop\nreplicas: 2\n"})
    assert following.follow() == ""
    assert not (tmp_path / "ran").exists()


def test_being_asked_moves_at_once_and_the_thread_ends_in_time(following: Following, repository: Repository) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=following.checkout.run, args=(stop,))
    thread.start()
    try:
        looked = following.checkout.state.looked
        wait_for(lambda: following.checkout.state.looked > looked, 10, "the first look")
        repository.commit("Newer", {"shop.yaml": "name: shop\nreplicas: 2\n"})
        following.checkout.ask()
        wait_for(lambda: following.text("shop.yaml").endswith("2\n"), 10, "the new commit is there")
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()
    assert following.checkout.state.problem == ""
