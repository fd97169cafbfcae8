"""The page on the spec names every field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from controller.spec.base import Part
from controller.spec.container import CONTAINER_FIELDS
from controller.spec.model import AppSpec
from controller.spec.parse import parse_file

PAGE = (Path(__file__).parents[2] / "docs" / "spec.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith(("| `", "| | `"))]


@pytest.mark.parametrize("kind", sorted(Part.__subclasses__(), key=lambda kind: kind.__name__))
def test_every_field_of_every_part_is_on_the_page(kind):
    for name, info in kind.model_fields.items():
        assert (info.alias or name) in PAGE, f"{kind.__name__}.{name}"


def test_every_field_of_the_app_has_a_row_that_says_whether_it_replaces_containers():
    for name in AppSpec.model_fields:
        rows = [row for row in ROWS if f"`{name}`" in row.split("|")[1] or f"`{name}." in row.split("|")[1]]
        assert rows, name
        if name in CONTAINER_FIELDS:
            assert "yes" in rows[0].split("|")[-2], name


def test_the_examples_on_the_page_are_good():
    blocks = [block.split("```")[0] for block in PAGE.split("```yaml\n")[1:]]
    assert len(blocks) >= 3
    for block in blocks:
        whole = {"name": "a", "image": "b", "port": 1, **yaml.safe_load(block)}
        assert not parse_file(yaml.safe_dump(whole).encode(), "spec.md").problems
