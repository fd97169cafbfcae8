"""YAML 1.2's types, and everything that YAML can do to a program."""

from __future__ import annotations

import time

import pytest

from controller.spec.tree import UnreadableError, compose, to_value


def load(text):
    root, flaws = compose(text, 1)
    assert not flaws
    return to_value(root)


def flaws_of(text):
    try:
        return [(flaw.line, flaw.message) for flaw in compose(text, 1)[1]]
    except UnreadableError as error:
        return [(error.flaw.line, error.flaw.message)]


@pytest.mark.parametrize(
    "word",
    [
        "no",
        "NO",
        "yes",
        "on",
        "off",
        "y",
        "n",
        "No",
        "1_000",
        "0b1",
        "12:30:45",
        "2024-01-01",
        "=",
        "0o8",
        "0x",
        ".",
        "-",
        "+",
        "1e",
        "e1",
        "tRue",
    ],
)
def test_words_that_only_yaml_1_1_takes_for_something_else_are_strings(word):
    assert load(f"- {word}" if word != "-" else "- '-'") == [word]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("-5", -5),
        ("+5", 5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
    ],
)
def test_the_core_schema_of_yaml_1_2(word, value):
    (found,) = load(f"- {word}")
    assert found == value
    assert isinstance(found, bool) == isinstance(value, bool)


def test_quoted_and_block_scalars_are_always_strings():
    assert load("a: 'true'\nb: \"1\"\nc: |\n  5\nd: >-\n  null\n") == {"a": "true", "b": "1", "c": "5\n", "d": "null"}


def test_a_number_of_5000_digits_is_no_crash():
    (found,) = load("- " + "1" * 5000)
    assert found == float("inf")
    assert found.text == "1" * 5000


def test_anchors_and_merges_work():
    text = "x-a: &a {k: 1, l: 2}\nx-b: &b {l: 3, m: 4}\nc: {<<: *a, l: 9}\nd: {<<: [*b, *a]}\ne: {'<<': 5}\nf: *a\n"
    value = load(text)
    assert value["c"] == {"l": 9, "k": 1}
    assert value["d"] == {"l": 3, "m": 4, "k": 1}
    assert value["e"] == {"<<": 5}
    assert value["f"] == {"k": 1, "l": 2}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "twice, first on line 1"),
        ("a: {b: 1, 'b': 2}\n", 1, "twice"),
        ("a: 1\nb: !!str 5\n", 2, "tag tag:yaml.org,2002:str is not allowed"),
        ("a: !x {}\n", 1, "tag !x is not allowed"),
        ("a: !!python/object/apply:os.system ['x']\n", 1, "not allowed"),
        ("? [a, b]\n: 1\n", 1, "a key has to be a word"),
        ("a: 1\n~: 2\n", 2, "a key has to be a word"),
        ("a: 1\n<<: 5\n", 2, "<< takes a mapping"),
        ("a: 1\nb: *nope\n", 2, "no anchor before it"),
        ("a: &a [*a]\n", 1, "inside its own anchor"),
        ("a: &a {b: {<<: *a}}\n", 1, "inside its own anchor"),
        ("a: 1\n\tb: 2\n", 2, "tab"),
        ("a: [1\nb: 2\n", 2, "not YAML"),
        ("a: 'x\n", 2, "not YAML"),
        ("a: 1\nb: \x07\n", 2, "U+0007"),
        ("a: \u2028x\n", 1, "U+2028"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("%YAML 3.0\n---\na: 1\n", 1, "not YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, line, words):
    ((found, message), *_) = flaws_of(text)
    assert words in message
    assert found == line


def test_a_document_64_levels_deep_is_read_and_65_are_not():
    assert load("[" * 64 + "]" * 64)
    assert "deeper than 64" in flaws_of("[" * 65 + "]" * 65)[0][1]
    assert "deeper than 64" in flaws_of("- " * 65 + "x")[0][1]


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 300_000, "? " * 100_000])
def test_deep_nesting_neither_crashes_nor_hangs(text):
    started = time.process_time()
    assert "deeper than 64" in flaws_of(text)[0][1]
    assert time.process_time() - started < 5


def test_depth_counts_through_aliases():
    text = "a0: &a0 [" + "[" * 40 + "]" * 40 + "]\nb: " + "[" * 40 + "*a0" + "]" * 40
    assert "deeper than 64" in flaws_of(text)[0][1]


def test_an_alias_bomb_is_refused_before_it_is_built():
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        text += f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 10) + "]\n"
    assert "more than 10000 values" in flaws_of(text)[0][1]


def test_a_bomb_of_merges_is_refused():
    text = "a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(200)) + "}\n"
    text += "".join(f"m{n}: {{<<: *a0}}\n" for n in range(60))
    assert "more than 10000 values" in flaws_of(text)[0][1]


def test_100_aliases_are_read_and_101_are_not():
    assert load("a: &a 1\nb: [" + ", ".join(["*a"] * 100) + "]")
    assert "more than 100 aliases" in flaws_of("a: &a 1\nb: [" + ", ".join(["*a"] * 101) + "]")[0][1]


def test_10000_values_are_read_and_one_more_is_not():
    assert len(load("\n".join("- x" for _ in range(9_999)))) == 9_999
    assert "more than 10000 values" in flaws_of("\n".join("- x" for _ in range(10_000)))[0][1]
