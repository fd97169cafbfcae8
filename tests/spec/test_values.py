from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from controller.spec.values import (
    count_of,
    read_cpus,
    read_duration,
    read_rate,
    read_share,
    read_size,
    read_text,
    read_words,
    render_duration,
    render_size,
    written_float,
    written_int,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("2m", 120),
        ("1h", 3600),
        ("30d", 2592000),
        ("1m30s", 90),
        ("1.5s", 1.5),
        ("0s", 0),
        (0, 0),
    ],
)
def test_a_duration_is_read_in_seconds(written, seconds):
    assert read_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "fast",
        "10",
        "10 s",
        "-1s",
        "1y",
        "s",
        "1s ",
        "1s\n",
        "\u0661s",
        "9" * 30 + "s",
        "400d",
        None,
        True,
        [],
        {},
        float("inf"),
        float("nan"),
    ],
)
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(PydanticCustomError):
        read_duration(written)


def test_a_bare_number_in_a_file_is_no_duration_since_its_unit_would_be_a_guess():
    with pytest.raises(PydanticCustomError, match="10s"):
        read_duration(written_int(30, "30"))
    with pytest.raises(PydanticCustomError):
        read_duration(written_float(1.5, "1.5"))
    assert read_duration(written_int(0, "0")) == 0
    assert read_duration(30) == 30


@given(st.integers(0, 366 * 86_400_000))
def test_a_rendered_duration_reads_back_to_the_millisecond(ms):
    assert read_duration(render_duration(ms / 1000)) == ms / 1000


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("64K", 65536),
        ("256M", 256 * 1024**2),
        ("1G", 1024**3),
        ("1g", 1024**3),
        ("1.5k", 1536),
        ("10MiB", 10 * 1024**2),
        ("5MB", 5 * 1024**2),
        ("7b", 7),
        ("12", 12),
        (12, 12),
    ],
)
def test_a_size_is_read_in_bytes_with_compose_s_units(written, size):
    assert read_size(written) == size


@pytest.mark.parametrize("written", ["", "K", "-1K", "1 0K", "1X", "9999T", None, True, 1.5, [], -1, "1e3K"])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(PydanticCustomError):
        read_size(written)


@given(st.integers(0, 2**50))
def test_a_rendered_size_reads_back_exactly(size):
    assert read_size(render_size(size)) == size


@pytest.mark.parametrize("written", ["0", 0, -1, "half", True, None, 5000, float("nan"), "1e1"])
def test_what_is_no_number_of_cores_is_refused(written):
    with pytest.raises(PydanticCustomError):
        read_cpus(written)
    assert read_cpus("0.5") == 0.5


@pytest.mark.parametrize(
    ("share", "replicas", "up", "down"),
    [
        (2, 10, 2, 2),
        ("25%", 10, 3, 2),
        ("14%", 50, 7, 7),
        ("0%", 5, 0, 0),
        ("100%", 3, 3, 3),
        ("33%", 1, 1, 0),
        ("25%", 0, 0, 0),
        ("0.5%", 10, 1, 0),
    ],
)
def test_shares_round_as_in_kubernetes(share, replicas, up, down):
    assert count_of(share, replicas, round_up=True) == up
    assert count_of(share, replicas, round_up=False) == down


@pytest.mark.parametrize("written", ["101%", "5", "%", "-1%", 1.5, True, None, -1])
def test_what_is_no_share_is_refused(written):
    with pytest.raises(PydanticCustomError):
        read_share(written)


def test_a_rate_is_a_percentage_in_a_file():
    assert read_rate("5%") == 0.05
    with pytest.raises(PydanticCustomError):
        read_rate(written_float(0.05, "0.05"))


def test_numbers_become_text_as_they_were_written_and_booleans_as_in_compose():
    assert read_text(written_float(1.1, "1.10")) == "1.10"
    assert read_text(written_int(7, "007")) == "007"
    assert read_text(True) == "true"


def test_a_command_in_one_string_is_split_as_a_shell_would():
    assert read_words("run 'a b' \"c\"") == ("run", "a b", "c")
    assert read_words(["run", "a b"]) == ("run", "a b")
    with pytest.raises(PydanticCustomError, match="quotation"):
        read_words("run 'a")
