"""Every example is valid, and does on a real engine what its README says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controller.spec.parse import parse_file
from tests.parts.images import ensure_backend_image
from tests.parts.service import Service

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SPECS = sorted(EXAMPLES.glob("[0-9]*/**/*.yaml"))


def name_of(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def test_every_example_has_a_spec_and_a_readme() -> None:
    folders = [folder for folder in EXAMPLES.iterdir() if folder.name[0].isdigit()]
    assert len(folders) >= 6
    assert {folder for folder in folders if (folder / "README.md").exists() and list(folder.rglob("*.yaml"))} == set(
        folders
    )
    index = (EXAMPLES / "README.md").read_text()
    assert [folder.name for folder in folders if f"({folder.name})" not in index] == []


@pytest.mark.parametrize("path", SPECS, ids=name_of)
def test_every_example_is_valid_without_a_warning(path: Path) -> None:
    parsed = parse_file(path.read_bytes(), path.name)
    assert parsed.problems == ()
    assert [
        document.problems or document.warnings
        for document in parsed.documents
        if document.problems or document.warnings
    ] == []


def with_image(service: Service, path: Path, version: str) -> str:
    """Write the example's spec with the test backend in place of the image that a reader builds."""
    ref = ensure_backend_image(version)
    text = re.sub(r"^image: \S+", f"image: {ref}", path.read_text(), flags=re.MULTILINE)
    copy = service.root / "-".join(path.relative_to(EXAMPLES).parts)
    copy.write_text(text)
    return copy.name


def hosts_of(path: Path) -> list[tuple[str, str]]:
    """Return host and path of every route of an example."""
    documents = parse_file(path.read_bytes(), path.name).documents
    return [(str(route.host), route.path) for one in documents if one.spec for route in one.spec.routes]


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.core
def test_all_examples_are_deployed_together_and_move_on_to_a_new_version(service: Service) -> None:
    targets = [target for path in SPECS for target in hosts_of(path)]
    first = service.oton("apply", *(with_image(service, path, "v1") for path in SPECS))
    assert first.returncode == 0, first.stderr
    assert {service.get(path, host=host).headers["x-version"] for host, path in targets} == {"v1"}

    second = service.oton("apply", *(with_image(service, path, "v2") for path in SPECS))
    assert second.returncode == 9, second.stderr  # one of them waits for a person
    assert service.get(host="preview.localhost").headers["x-version"] == "v2"
    assert service.get(host="bg.localhost").headers["x-version"] == "v1"
    assert service.oton("promote", "shop-bg").returncode == 0
    assert {service.get(path, host=host).headers["x-version"] for host, path in targets} == {"v2"}
    assert {(row["sync"], row["health"]) for row in service.apps()} == {("synced", "healthy")}
