"""Images that our releases once used go when nothing uses them; nobody else's ever do."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import suppress

import docker
import pytest

from controller.engine import images as room
from tests.engine.kit import Bench, a_bench

pytestmark = pytest.mark.engine


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Iterator[Bench]:
    monkeypatch.setattr(room, "FRESH_S", 0.0)
    with a_bench(state=tmp_path) as made:
        yield made


@pytest.fixture
def fresh(bench: Bench):
    """Make small images of one's own; they are gone after the test."""
    made: list[str] = []

    def make(name: str) -> str:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            info = tarfile.TarInfo(uuid.uuid4().hex)
            tar.addfile(info)
        repository, tag = name.split(":")
        bench.client.import_image_from_data(out.getvalue(), repository=repository, tag=tag, changes=['CMD ["/x"]'])
        image = str(bench.client.inspect_image(name)["Id"])
        made.append(image)
        return image

    yield make
    for image in made:
        with suppress(docker.errors.APIError):
            bench.client.remove_image(image, force=True)


@pytest.fixture
def name() -> str:
    return f"oton-test-{uuid.uuid4().hex[:8]}"


def test_what_no_release_keeps_is_removed_and_the_rest_stays(bench: Bench, fresh, name: str) -> None:
    old, new, foreign = fresh(f"{name}:1"), fresh(f"{name}:2"), fresh(f"{name}-foreign:1")
    for tag in (1, 2):
        bench.engine.resolve(f"shop/{tag}", f"{name}:{tag}", "missing")
    bench.engine.retain_images({new})
    assert not bench.engine.has_image(old)
    assert bench.engine.has_image(new)
    assert bench.engine.has_image(foreign)


def test_what_we_used_is_known_after_a_restart(bench: Bench, fresh, name: str) -> None:
    old = fresh(f"{name}:1")
    bench.engine.resolve("shop/1", f"{name}:1", "missing")
    bench.another().retain_images(set())
    assert not bench.engine.has_image(old)


def test_a_tag_that_moved_stays_with_its_new_image(bench: Bench, fresh, name: str) -> None:
    old = fresh(f"{name}:latest")
    bench.engine.resolve("shop/1", name, "missing")
    new = fresh(f"{name}:latest")
    bench.engine.resolve("shop/2", name, "missing")
    bench.engine.retain_images({new})
    assert not bench.engine.has_image(old)
    assert bench.client.inspect_image(f"{name}:latest")["Id"] == new


def test_an_image_with_somebody_elses_name_too_stays(bench: Bench, fresh, name: str) -> None:
    old = fresh(f"{name}:1")
    bench.client.tag(old, f"{name}-theirs", "1")
    bench.engine.resolve("shop/1", f"{name}:1", "missing")
    bench.engine.retain_images(set())
    assert set(bench.client.inspect_image(old)["RepoTags"]) == {f"{name}:1", f"{name}-theirs:1"}


def test_an_image_that_a_container_uses_stays_and_goes_later(bench: Bench, fresh, name: str) -> None:
    old = fresh(f"{name}:1")
    bench.engine.resolve("shop/1", f"{name}:1", "missing")
    used = bench.client.create_container(old, name=f"{name}-user")["Id"]
    try:
        bench.engine.retain_images(set())
        assert bench.engine.has_image(old)
    finally:
        bench.client.remove_container(used)
    bench.engine.retain_images(set())
    assert not bench.engine.has_image(old)


def test_an_image_that_just_came_stays_until_its_release_is_written_down(
    bench: Bench, fresh, name: str, monkeypatch
) -> None:
    monkeypatch.setattr(room, "FRESH_S", 600.0)
    new = fresh(f"{name}:1")
    bench.engine.resolve("shop/1", f"{name}:1", "missing")
    bench.engine.retain_images(set())
    assert bench.engine.has_image(new)


def test_an_image_that_is_gone_already_is_forgotten(bench: Bench, fresh, name: str) -> None:
    old = fresh(f"{name}:1")
    bench.engine.resolve("shop/1", f"{name}:1", "missing")
    bench.client.remove_image(f"{name}:1")
    bench.engine.retain_images(set())
    bench.engine.retain_images(set())
    assert not bench.engine.has_image(old)
