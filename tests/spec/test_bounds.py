"""One file costs a bounded amount of work, whatever is in it, and tells a bounded number of problems."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from controller.spec.parse import LARGEST_BYTES, MOST_DOCUMENTS, MOST_TOLD, MOST_VALUES, parse_file

BASE = "name: x\nimage: y\nport: 80\n"
CPU_S = 60
"""Of the processor, for one hostile file in a process of its own; each takes a few at most, and took hours."""
MOST_CALLS = 6_000_000
"""Calls that one file may cost; a million bytes are read once, and at most 100,000 values are judged."""


def repeated(piece: Callable[[int], str], before: str = "", after: str = "") -> str:
    """Return as many pieces as a file may have bytes."""
    parts, size, number = [before], len(before) + len(after), 0
    while size < LARGEST_BYTES - 1500:
        parts.append(piece(number))
        size += len(parts[-1].encode())
        number += 1
    return "".join(parts) + after


BOMB = "".join(f"k{number}: 1, " for number in range(90))
HOSTILE: dict[str, Callable[[], str]] = {
    "documents": lambda: repeated(lambda _: "a\n---\n"),
    "documents of one name": lambda: repeated(lambda _: "---\nname: x\n"),
    "as many documents as may be, full": lambda: "".join(
        f"---\nname: a{number}\n" + "".join(f"{key}: 1\n" for key in range(250)) for number in range(MOST_DOCUMENTS)
    ),
    "documents of aliases": lambda: repeated(
        lambda number: f"---\nname: a{number}\nx: &a {{{BOMB}}}\ny: [{'*a,' * 90}]\n", after=""
    ),
    "unknown fields": lambda: repeated(lambda number: f"strateg{number}: 1\n", BASE),
    "one unknown field": lambda: f"{BASE}? {'strateg' * 100_000}\n: 1\n",
    "repeated keys": lambda: repeated(lambda _: "a: 1\n", BASE),
    "tags": lambda: repeated(lambda _: "!x a=1,", f"{BASE}environment: [", "]\n"),
    "bad items": lambda: f"{BASE}volumes: [{'5,' * 9000}]\n",
    "repeated items": lambda: f"{BASE}environment: [{'A=1,' * 9000}]\n",
    "spaces where a name might be": lambda: "---" + " " * 900_000 + "[\n",
    "spaces after a name": lambda: "name" + " " * 900_000 + "[\n",
    "brackets": lambda: f"{BASE}x-a: " + "[" * 900_000,
    "quotes": lambda: f'{BASE}command: "' + "' " * 400_000 + '"\n',
    "comments": lambda: repeated(lambda _: "#\n", BASE),
    "ends": lambda: repeated(lambda _: "...\n", BASE),
    "long words": lambda: f"{BASE}drain: '{'1s' * 400_000}'\nroutes: [{{host: '{'a.' * 50_000}'}}]\n",
}
QUICK = ("documents of aliases", "unknown fields", "tags", "bad items")
each_file = pytest.mark.parametrize(
    "make",
    [pytest.param(make, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, make in HOSTILE.items()],
)


@each_file
def test_a_hostile_file_tells_a_bounded_number_of_problems(make: Callable[[], str]) -> None:
    data = make().encode()
    assert len(data) <= LARGEST_BYTES
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        parsed = parse_file(data, "x.yaml")
    finally:
        sys.setprofile(None)
    assert calls < MOST_CALLS
    assert len(parsed.problems) <= 2 * MOST_TOLD + 2 * MOST_DOCUMENTS
    assert sum(len(problem.text) for problem in parsed.problems) < 256 * 1024


PARSE = "import sys; from controller.spec.parse import parse_file; parse_file(sys.stdin.buffer.read(), 'x.yaml')"


@pytest.mark.parametrize("name", ["spaces where a name might be", "spaces after a name", "long words", "quotes"])
def test_no_pattern_is_tried_again_and_again(name: str) -> None:
    """What the calls do not show: a regular expression is one call, however long it takes."""
    ended = subprocess.run(
        [sys.executable, "-c", PARSE],
        input=HOSTILE[name]().encode(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S)),
        check=False,
    )
    assert ended.returncode == 0


def test_the_first_hundred_are_told_and_the_rest_is_counted() -> None:
    parsed = parse_file((BASE + "".join(f"k{number}: 1\n" for number in range(250))).encode(), "x.yaml")
    assert len(parsed.problems) == MOST_TOLD + 1
    assert parsed.problems[-1].text == "x.yaml:253: and 150 more problems in this document"
    assert parsed.documents[0].name == "x"


def test_each_broken_document_tells_at_least_one() -> None:
    text = "".join(f"---\nname: a{number}\n" + "x1: 1\nx2: 1\n" * 30 for number in range(20))
    parsed = parse_file(text.encode(), "x.yaml")
    assert all(document.problems for document in parsed.documents)
    assert len(parsed.problems) <= MOST_TOLD + 2 * 20


@pytest.mark.parametrize(("count", "is_good"), [(MOST_DOCUMENTS, True), (MOST_DOCUMENTS + 1, False)])
def test_a_file_has_so_many_documents(count: int, is_good: bool) -> None:
    text = "".join(f"---\nname: a{number}\nimage: x\n" for number in range(count))
    parsed = parse_file(text.encode(), "x.yaml")
    assert len(parsed.documents) == (count if is_good else 0)
    assert parsed.is_bounded is is_good
    if not is_good:
        assert parsed.problems[0].text == "x.yaml:1501: found 501 documents, allowed: at most 500 in one file"


def test_a_file_has_so_many_values() -> None:
    document = "---\nname: a{}\nimage: x\nx: &a [" + "1," * 100 + "]\ny: [" + "*a," * 90 + "]\n"
    few, many = (MOST_VALUES // 9300 + more for more in (0, 2))
    good = parse_file("".join(document.format(number) for number in range(few)).encode(), "x.yaml")
    assert good.is_bounded
    bad = parse_file("".join(document.format(number) for number in range(many)).encode(), "x.yaml")
    assert not bad.is_bounded
    assert "allowed: at most 100000 in one file" in bad.problems[0].text
