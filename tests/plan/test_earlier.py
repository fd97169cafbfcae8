"""Where a rollback goes, and that what it needs is never forgotten."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controller.plan.earlier import (
    find_earlier,
    needed_releases,
    releases_with_images,
    walk_back,
)
from controller.plan.situation import Memory, Release
from controller.spec.model import AppSpec

SPEC = AppSpec(name="shop", image="shop:1")
Story = list[tuple[str, str, bool]]

stories: st.SearchStrategy[Story] = st.lists(
    st.tuples(
        st.sampled_from(["apply", "rollback", "undo", "restart"]),
        st.sampled_from("abcd"),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


def told(story: Story) -> tuple[dict[int, Release], Memory]:
    """Return the releases of a story of (kind, spec, was it live), and a memory that the last live one serves."""
    releases = {}
    for number, (kind, spec, lives) in enumerate(story, 1):
        outcome = "superseded" if lives else "failed"
        releases[number] = Release(
            number=number, spec=SPEC, digest=spec, image_id=spec, kind=kind, was_live=lives, outcome=outcome
        )
    live = max((number for number, each in releases.items() if each.was_live), default=None)
    return releases, Memory(last_release=len(story), live=live)


@given(stories)
def test_what_is_kept_answers_every_rollback_as_all_would(story: Story) -> None:
    releases, memory = told(story)
    kept = {number: releases[number] for number in needed_releases(releases, memory)}
    wanted = [each.digest for each in walk_back(releases, memory)]
    assert [each.digest for each in walk_back(kept, memory)] == wanted
    assert needed_releases(kept, memory) <= kept.keys()


@given(stories, st.integers(0, 6))
def test_images_stay_of_what_was_live_and_of_where_a_rollback_goes(story: Story, most: int) -> None:
    releases, memory = told(story)
    kept = releases_with_images(releases, memory, most)
    were_live = sorted((number for number, each in releases.items() if each.was_live), reverse=True)
    assert {*were_live[:most]} <= kept
    assert all(releases[number].was_live for number in kept)
    if memory.live is not None:
        assert memory.live in kept
        goal = find_earlier(releases, releases[memory.live])
        assert goal is None or goal.number in kept


def test_failed_releases_take_no_images_place() -> None:
    failed: Story = [("apply", f"bad{number}", False) for number in range(8)]
    releases, memory = told([("apply", "a", True), ("apply", "b", True), *failed])
    assert releases_with_images(releases, memory, 2) == {1, 2}
    memory = replace(memory, failed=10)
    assert releases_with_images(releases, memory, 2) == {1, 2, 10}  # `retry` may ask for it


def test_restarts_leave_the_target_of_a_rollback_its_image() -> None:
    restarts: Story = [("restart", "b", True)] * 9
    releases, memory = told([("apply", "a", True), ("apply", "b", True), *restarts])
    assert releases_with_images(releases, memory, 3) == {1, 9, 10, 11}
