"""What the pages say is so: links lead somewhere, commands and settings exist, specs are valid, plans are printed."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.cli import trouble
from controller.cli.main import VERBS
from controller.plan.foresee import preview
from controller.settings import Settings, list_knobs
from controller.spec.availability import NOT_YET
from controller.spec.parse import parse_file
from tests.builders import a_spec
from tests.plan.outside import Outside, an_outside
from tests.test_rooms import FLOORS

TOP = Path(__file__).resolve().parents[1]
DOCS = TOP / "docs"
PAGES = sorted(
    [*TOP.glob("*.md"), *(TOP / "desired").glob("*.md"), *DOCS.rglob("*.md"), *(TOP / "examples").rglob("*.md")]
)
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
NOT_THERE = "## Not there yet"
"""The part of flaws.md that names what does not exist, and so may name verbs that are none."""


def name_of(page: Path) -> str:
    return str(page.relative_to(TOP))


def blocks(text: str) -> list[tuple[str, str]]:
    """Return every fenced block as (language, text), with the fence's own indent taken off."""
    return [
        (found[2], "".join(line.removeprefix(found[1]) for line in found[3].splitlines(keepends=True)))
        for found in BLOCK.finditer(text)
    ]


def section(text: str, title: str) -> str:
    """Return what stands below a heading, up to the next one of its level."""
    level = title.split(" ", 1)[0]
    _, _, rest = text.partition(f"{title}\n")
    assert rest, f"no {title}"
    return re.split(rf"^{level} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def code_of(text: str) -> str:
    """Return all that is written as code: fenced blocks and spans."""
    spans = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    return "\n".join([*(body for _, body in blocks(text)), *spans])


def anchors_of(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_to_a_file_of_ours_leads_to_it(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors_of(place)):
            lost.append(target)
    assert not lost


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_on_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.name == "flaws.md":
        text = text.replace(section(text, NOT_THERE), "")
    used = set(re.findall(r"(?:^|[\s`$(|])oton ([a-z][a-z-]*)", code_of(text), re.MULTILINE))
    assert used <= set(VERBS), f"not a verb: {sorted(used - set(VERBS))}"


def test_what_is_said_not_to_be_there_is_not_there() -> None:
    part = section((DOCS / "flaws.md").read_text(encoding="utf-8"), NOT_THERE)
    verbs = set(re.findall(r"`oton ([a-z-]+)", part)) - {"token"}
    assert not verbs & set(VERBS), "it is there by now: take it out of docs/flaws.md"
    refused = set(re.findall(r"`(proxy\.\w+)`", part)) | {
        f"strategy.{one}" for one in re.findall(r"`strategy: (\w+)`", part)
    }
    assert refused == NOT_YET, "docs/flaws.md names exactly what controller/spec/availability.py refuses"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_that_says_what_this_version_refuses_is_right(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in text.splitlines():
        if "not available yet" in line and "canary" in line:
            assert "strategy.canary" in NOT_YET, f"{name_of(page)}: canary works by now: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_spec_on_a_page_is_valid_without_a_warning(page: Path) -> None:
    for language, body in blocks(page.read_text(encoding="utf-8")):
        if language != "yaml":
            continue
        whole = body if "name:" in body.splitlines()[0] else yaml.safe_dump(_completed(yaml.safe_load(body)))
        parsed = parse_file(whole.encode(), name_of(page))
        assert not parsed.problems, body
        assert page.name == "spec.md" or not parsed.warnings, body


def _completed(part: Any) -> dict[str, Any]:
    return {"name": "a", "image": "b", "port": 1, **part}


def test_the_settings_page_has_every_setting_with_its_flag() -> None:
    rows = {row[0].strip("`"): row for row in rows_of((DOCS / "settings.md").read_text(encoding="utf-8"))}
    for knob in list_knobs():
        assert knob.variable in rows, f"docs/settings.md lacks {knob.variable}: {knob.meaning}"
        assert rows[knob.variable][1] == f"`{knob.flag}`"
    with_flag = {name for name, row in rows.items() if row[1].startswith("`--")}
    assert with_flag == {knob.variable for knob in list_knobs()}


def test_the_settings_page_says_which_settings_have_no_effect_yet() -> None:
    rows = {row[0].strip("`"): row[-1] for row in rows_of((DOCS / "settings.md").read_text(encoding="utf-8"))}
    code = _lines_that_read_settings()
    for field, info in Settings.model_fields.items():
        is_read = re.search(rf"settings\.{field}\b", code) is not None
        says_so = "no effect yet" in rows[str(info.alias)].lower()
        assert is_read != says_so, f"docs/settings.md, {info.alias}: {'it is' if is_read else 'nothing'} read by now"


@cache
def _lines_that_read_settings() -> str:
    lines = (
        line for path in (TOP / "controller").rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()
    )
    return "\n".join(line for line in lines if "settings." in line)


def test_the_exit_codes_in_the_readme_are_those_of_the_program() -> None:
    text = section((TOP / "README.md").read_text(encoding="utf-8"), "## Exit codes")
    codes = {int(row[0]) for row in rows_of(text) if row[0].isdigit()}
    constants = {
        value for name, value in vars(trouble).items() if name.isupper() and isinstance(value, int) and value < 100
    }
    assert codes == constants
    order = re.search(r"the first that applies of ([\d, ]+)\.", text)
    assert order is not None
    assert tuple(int(one) for one in order[1].split(", ")) == trouble.SEVERITY


def test_the_floors_on_the_page_are_those_that_the_test_keeps() -> None:
    text = section((DOCS / "house.md").read_text(encoding="utf-8"), "## Floors")
    shown = [re.findall(r"`(\w+)`", row[1]) for row in rows_of(text) if row[0].isdigit()]
    assert [set(rooms) for rooms in shown] == [set(rooms) for rooms in FLOORS]


def test_the_index_leads_to_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    missing = [
        str(page.relative_to(DOCS))
        for page in DOCS.rglob("*.md")
        if page.name != "README.md" and f"({page.relative_to(DOCS)})" not in index
    ]
    assert not missing


def printed_plans() -> list[list[str]]:
    """Return the plans that docs/rollouts.md shows, as the planner prints them now."""
    new: dict[str, Any] = {"image": "shop:2"}
    two: dict[str, Any] = {"replicas": 2}
    manual = {"type": "blue_green", "promote": "manual", "preview_host": "next.example.com"}
    before = {"command": ["migrate"]}
    situations: list[tuple[Outside, dict[str, Any]]] = [
        (an_outside(**two), {**new, **two}),
        (an_outside(**two, strategy="blue_green"), {**new, **two, "strategy": "blue_green"}),
        (an_outside(strategy=manual), {**new, "strategy": manual}),
        (an_outside(strategy="recreate", before=before), {**new, "strategy": "recreate", "before": before}),
        (an_outside(**two), {**two, "routes": [{"host": "new.example.com"}]}),
    ]
    return [list(preview(outside.situation, a_spec(**spec))) for outside, spec in situations]


def test_every_plan_on_the_page_on_rollouts_is_what_the_planner_prints() -> None:
    plans = printed_plans()
    shown = [
        [line.rstrip() for line in body.splitlines()]
        for _, body in blocks((DOCS / "rollouts.md").read_text(encoding="utf-8"))
        if body.startswith(("image ", "start ", "publish "))
    ]
    assert len(shown) >= 5
    for lines in shown:
        assert any(_is_part(lines, plan) for plan in plans), "\n".join(lines)


def _is_part(lines: list[str], plan: list[str]) -> bool:
    return any(plan[at : at + len(lines)] == lines for at in range(len(plan)))


@pytest.mark.parametrize("package", sorted((TOP / "controller").glob("*/__init__.py")), ids=name_of)
def test_a_room_says_what_it_knows_and_what_it_may_not_know(package: Path) -> None:
    text = package.read_text(encoding="utf-8")
    docstring = " ".join(text.partition('"""')[2].partition('"""')[0].split())
    assert re.search(r"\b[Kk]nows?\b", docstring), "what does this room know?"
    assert re.search(r"\b([Kk]nows nothing|nothing of|[Kk]nows? not|not know)\b", docstring), "what may it not know?"
