from __future__ import annotations

import pytest

from controller.spec.envfile import parse_env_file
from tests.spec.reading import problems_of, spec_of

FILES = {
    "a.env": b"A=from a\nB=from a\n",
    "b.env": b"\xef\xbb\xbfB=from b\nexport C='x # $y'\n",
    "bad.env": b"A=1\n=x\n",
    "latin.env": b"A=\xe9\n",
    "empty.env": b"",
}


def read(name):
    if name not in FILES:
        raise FileNotFoundError(f"no such file: {name}")
    return FILES[name]


def test_env_files_read_as_in_compose_but_for_the_dollar_sign():
    text = "# c\n\nA=1\nexport B = two words # comment\nC='it # is'\nD=\"a\\nb \\\"q\\\"\"\nE=\nF\nG=a#b\nH=$HOME\nI='x' # y\n"
    assert parse_env_file(text) == {
        "A": "1",
        "B": "two words",
        "C": "it # is",
        "D": 'a\nb "q"',
        "E": "",
        "F": None,
        "G": "a#b",
        "H": "$HOME",
        "I": "x",
    }


@pytest.mark.parametrize("text", ["A=1\n=x", "A=1\n'A'", "A=1\nB='x", 'A=1\nB="x'])
def test_a_line_that_cannot_be_read_is_named(text):
    if text.endswith("'A'"):
        assert parse_env_file(text)
    else:
        with pytest.raises(ValueError, match="line 2"):
            parse_env_file(text)


def test_later_files_win_over_earlier_ones_and_the_environment_over_all():
    spec = spec_of("env_file: [a.env, b.env]\nenvironment: {A: mine}", read_env=read)
    assert spec.environment == {"A": "mine", "B": "from b", "C": "x # $y"}
    assert spec_of("env_file: a.env\nenvironment: [A=mine]", read_env=read).environment == {"A": "mine", "B": "from a"}


def test_the_server_never_reads_env_files():
    assert problems_of("env_file: a.env") == [
        "1: env_file: is read by `oton apply` only; write the values into `environment`"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("env_file: none.env", "env_file: none.env: no such file"),
        ("env_file: bad.env", "env_file: bad.env: line 2: allowed: KEY=VALUE"),
        ("env_file: latin.env", "env_file: latin.env: is not UTF-8"),
        ("env_file: {a: b}", "env_file: found a mapping, allowed: a file name"),
    ],
)
def test_an_env_file_that_cannot_be_read_is_a_problem_with_a_line(text, expected):
    (problem,) = problems_of(text, read_env=read)
    assert expected in problem
