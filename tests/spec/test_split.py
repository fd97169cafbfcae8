from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.spec.split import split_documents


def spans(text):
    return [(chunk.first_line, chunk.last_line) for chunk in split_documents(text)]


def test_a_document_owns_its_marker_and_all_lines_to_the_next_one():
    assert spans("a: 1\n---\nb: 2\n# its comment\n\n---\nc: 3\n") == [(1, 1), (2, 5), (6, 7)]


def test_a_comment_ahead_of_the_first_marker_belongs_to_none():
    assert spans("# ours\n\n---\na: 1\n") == [(3, 4)]


def test_a_comment_ahead_of_a_first_document_without_marker_is_its_own():
    assert spans("# about a\na: 1\n---\nb: 1\n") == [(1, 2), (3, 4)]


def test_directives_belong_to_the_document_that_follows():
    assert spans("%YAML 1.2\n---\na: 1\n...\n# c\n%YAML 1.2\n---\nb: 1\n") == [(1, 5), (6, 8)]


def test_a_marker_is_a_border_even_inside_quotes_and_blocks():
    assert spans("a: |\n  x\n---\nb: 'x\n---\nc: 1\n") == [(1, 2), (3, 4), (5, 6)]
    assert spans("a: |\n  ---\n---x: 1\n") == [(1, 3)]


def test_empty_documents_are_none():
    assert spans("") == []
    assert spans("---\n---\n# x\n---\na: 1\n---\n") == [(4, 5)]
    assert spans("# only a comment\n") == []


def test_a_document_on_the_marker_s_own_line_counts():
    assert spans("--- {a: 1}\n--- {b: 1}") == [(1, 1), (2, 2)]


def test_after_an_end_marker_a_document_needs_no_start():
    assert spans("a: 1\n...\nb: 2\n") == [(1, 2), (3, 3)]


def test_lines_end_as_editors_of_all_systems_end_them():
    assert spans("a: 1\r\n---\r\nb: 2\r\n") == [(1, 1), (2, 3)]
    assert spans("a: 1\r---\rb: 2") == [(1, 1), (2, 3)]


@given(st.lists(st.sampled_from(["---", "...", "a: 1", "# c", "", "%YAML 1.2", "--- x", "---x"]), max_size=12))
def test_documents_never_overlap_and_stay_in_order(lines):
    found = spans("\n".join(lines))
    flat = [line for span in found for line in span]
    assert flat == sorted(flat)
    assert all(first <= last <= len(lines) for first, last in found)
    assert all(found[n][1] < found[n + 1][0] for n in range(len(found) - 1))
