"""What a secret looks like in logs, and that it is found there."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from controller.store.hiding import hide, list_hidden

VALUE = 'p"ss w/rd\\ü-0123456789'


@pytest.mark.parametrize(
    "shown",
    [VALUE, json.dumps({"key": VALUE}), json.dumps([VALUE], ensure_ascii=False), quote(VALUE, safe="")],
)
def test_a_value_is_hidden_however_a_log_writes_it(shown):
    hidden = hide(f"before {shown} after", list_hidden([VALUE]))
    assert "0123456789" not in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")


@pytest.mark.parametrize("end", ["", "…", "...", "\nnext line"])
def test_the_beginning_of_a_value_that_was_cut_off_is_hidden(end):
    assert hide(f"key=abcdefghijkl{end}", list_hidden(["abcdefghijklmnop"])) == f"key=***{end}"


def test_what_only_begins_like_a_value_stays():
    assert hide("abcdefgh is how it begins", list_hidden(["abcdefghijklmnop"])) == "abcdefgh is how it begins"


def test_each_line_of_a_long_value_is_hidden_and_tiny_values_are_not():
    hidden = list_hidden(["-----BEGIN KEY-----\nMIIBabc\n-----END KEY-----\n", "1"])
    assert hide("got 1: MIIBabc", hidden) == "got 1: ***"


def test_a_value_inside_another_does_not_leave_the_rest_of_it():
    assert hide("secret-and-more", list_hidden(["secret", "secret-and-more"])) == "***"
