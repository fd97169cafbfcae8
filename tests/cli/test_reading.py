"""Reading verbs: data on stdout in the form that was asked for, remarks on stderr, 0 whatever the answer says."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from controller.cli.status import last_missing
from tests.api.stage import Session, Stage, answering
from tests.cli.conftest import ROOT, Oton


@pytest.fixture(scope="module")
def _apps(stage: Stage) -> None:
    stage.bring_up("alpha", replicas=2, routes=[{"host": "alpha.example.com"}])
    stage.bring_up("alpha", image="shop:2", replicas=2, routes=[{"host": "alpha.example.com"}])
    stage.bring_up("beta", routes=[{"host": "beta.example.com", "path": "/b"}])


pytestmark = pytest.mark.usefixtures("_apps")


def test_status_is_a_table_for_people(oton: Oton) -> None:
    ran = oton("status")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[0].split() == ["APP", "SYNC", "HEALTH", "RELEASE", "REPLICAS", "AGE", "IMAGE", "MESSAGE"]
    assert lines[1].split()[:5] == ["alpha", "synced", "healthy", "2", "2/2"]
    assert "\x1b" not in ran.out


def test_status_in_every_form(oton: Oton) -> None:
    rows = oton("status", "-o", "json").json
    assert [row["app"] for row in rows] == ["alpha", "beta"]
    assert yaml.safe_load(oton("status", "-o", "yaml").out) == rows
    assert oton("status", "-o", "name").out == "alpha\nbeta\n"
    [one] = oton("status", "alpha", "-o", "json").json
    assert {"replicas_list", "routes", "conditions", "message"} <= set(one)


@pytest.mark.parametrize(
    "words", [("status",), ("status", "alpha"), ("status", "-o", "json"), ("status", "-o", "name")]
)
def test_status_says_that_the_engine_is_away_whatever_the_form(
    stage: Stage, oton: Oton, words: tuple[str, ...]
) -> None:
    quiet = oton(*words)
    stage.engine.up = False
    try:
        ran = oton(*words)
    finally:
        stage.engine.up = True
    assert quiet.err == ""
    assert (ran.code, ran.out) == (0, quiet.out)
    assert ran.err.startswith("the container engine cannot be reached: ")
    assert ran.err.count("\n") == 1
    assert "oton doctor" in ran.err


def test_status_of_one_app_shows_replicas_and_routes(oton: Oton) -> None:
    out = oton("status", "alpha").out
    assert "2 of 2 ready, 2 routed" in out
    assert "alpha-r2-1" in out
    assert "alpha.example.com" in out
    assert "10.0.0.1:8000 50%" in out


@pytest.mark.parametrize(
    ("numbers", "last"), [(set(), None), ({1}, None), ({1, 2, 3}, None), (set(range(4, 54)), 3), ({2, 60, 61}, 59)]
)
def test_history_knows_up_to_which_release_it_is_not_whole(numbers: set[int], last: int | None) -> None:
    assert last_missing(numbers) == last


def test_history_is_newest_first(oton: Oton) -> None:
    rows = oton("history", "alpha", "-o", "json").json
    assert [(row["release"], row["outcome"], row["image"]) for row in rows] == [
        (2, "live", "shop:2"),
        (1, "live", "shop:1"),
    ]
    assert set(rows[0]) >= {
        "release", "outcome", "image", "image_id", "strategy", "by", "reason", "started", "finished", "duration_s",
    }  # fmt: skip
    table = oton("history", "alpha")
    assert table.out.splitlines()[1].split()[:3] == ["2", "live", "shop:2"]
    assert "oton rollback alpha --to N" in table.err
    assert oton("history", "alpha", "-o", "name").out == "2\n1\n"


def test_routes_and_what_a_url_would_get(oton: Oton) -> None:
    rows = oton("routes", "-o", "json").json
    assert [(row["host"], row["path"], row["app"], row["release"]) for row in rows] == [
        ("alpha.example.com", "/", "alpha", 2),
        ("beta.example.com", "/b", "beta", 1),
    ]
    assert "alpha.example.com" in oton("routes").out
    explained = oton("routes", "explain", "http://beta.example.com/b/x")
    assert "app beta, release 1: goes to one of the replicas" in explained.out
    assert oton("routes", "explain", "http://beta.example.com/").out.endswith("the answer is 404\n")
    assert oton("routes", "explain", "http://x/%2f").code == 2
    assert oton("routes", "what").code == 2


def test_events_and_doctor(stage: Stage, oton: Oton) -> None:
    stage.store.add_event("alpha", "note", "warning", "something \x1b[31mhappened")
    assert oton("events", "alpha", "-n", "1").out.rstrip().endswith("alpha  something �[31mhappened")
    [row] = oton("events", "alpha", "-n", "1", "-o", "json").json
    assert (row["app"], row["level"]) == ("alpha", "warning")
    assert oton("doctor", "-o", "json").json[0]["check"] == "engine"
    assert "Docker 20.10" in oton("doctor").out


def test_logs_have_their_replica_in_front(stage: Stage, oton: Oton) -> None:
    replicas = stage.worlds["alpha"].replicas
    stage.engine.containers["alpha"] = replicas
    stage.engine.written = {replicas[0].id: [(1.0, "one")], replicas[1].id: [(2.0, "two")]}
    assert oton("logs", "alpha").out == "alpha-r2-1 | one\nalpha-r2-2 | two\n"
    assert oton("logs", "alpha", "-n", "1").out == "alpha-r2-2 | two\n"
    assert oton("logs", "alpha", "--since", "1970-01-01T00:00:02+00:00").out == "alpha-r2-2 | two\n"
    lines = [json.loads(line) for line in oton("logs", "alpha", "-o", "json").out.splitlines()]
    assert [(line["replica"], line["text"]) for line in lines] == [("alpha-r2-1", "one"), ("alpha-r2-2", "two")]
    assert oton("logs", "alpha", "--since", "whenever").code == 2
    assert oton("logs", "alpha", "--release", "77").code == 6


def test_diff_is_1_where_something_would_change(oton: Oton, tmp_path: Path) -> None:
    file = tmp_path / "alpha.yaml"
    text = "name: alpha\nimage: shop:3\nport: 8000\nreplicas: 2\nroutes: [{host: alpha.example.com}]\n"
    file.write_text(text)
    ran = oton("diff", str(file))
    assert (ran.code, ran.err) == (1, "")
    assert "  image: shop:2 -> shop:3  (replaces containers)" in ran.out
    assert "start alpha-r3-1" in ran.out
    assert oton("diff", str(file), "-o", "json").json[0]["changes"][0]["field"] == "image"
    file.write_text(text.replace("shop:3", "shop:2"))
    assert oton("diff", str(file)).code == 0
    assert oton("diff", str(file), "--image", "shop:9").code == 1
    file.write_text("name: alpha\n")
    assert oton("diff", str(file)).code == 2


def test_top_shows_what_happened_between_two_looks(stage: Stage, oton: Oton, monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(count: int, errors: int, buckets: list[int]) -> dict[str, object]:
        row = {"app": "alpha", "release": 2, "seconds": 0.1, "bytes_in": 0, "bytes_out": count * 1000}
        return {
            "requests": [
                row | {"class": 2, "count": count - errors, "buckets": buckets},
                row | {"class": 5, "count": errors, "buckets": [0, 0, 0]},
            ],
            "bounds": [0.01, 0.1],
            "active": [{"app": "alpha", "requests": 3, "held": 1}],
        }

    looks = iter([counted(100, 0, [100, 0, 0]), counted(300, 20, [200, 80, 0])])
    monkeypatch.setattr(stage.publisher, "counters", lambda: next(looks))
    monkeypatch.setattr("controller.cli.top.SPAN_S", 0.01)
    [row] = oton("top", "--once", "-o", "json").json
    assert (row["app"], row["release"], row["error_rate"], row["requests"]) == ("alpha", 2, 0.1, 300)
    assert (row["p50_s"], row["p95_s"], row["open"], row["held"]) == (0.01, 0.1, 3, 1)
    assert row["per_s"] > 0


def test_top_shows_what_no_route_took_and_leaves_out_former_releases_that_have_nothing_to_do(
    stage: Stage, oton: Oton, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(*counts: int) -> dict[str, object]:
        row = {"app": "alpha", "class": 2, "seconds": 0.1, "bytes_in": 0, "bytes_out": 0}
        rows = [
            row | {"release": release, "count": count, "buckets": [count, 0]} for release, count in enumerate(counts)
        ]
        lost = row | {"app": "", "class": 4, "release": 0, "count": 7, "buckets": [7, 0]}
        return {"requests": [lost, *rows], "bounds": [0.01], "active": []}

    looks = iter([counted(1, 10, 20, 30), counted(1, 10, 25, 30)])
    monkeypatch.setattr(stage.publisher, "counters", lambda: next(looks))
    monkeypatch.setattr("controller.cli.top.SPAN_S", 0.01)
    lines = oton("top", "--once").out.splitlines()
    assert [line.split()[:2] for line in lines] == [["APP", "RELEASE"], ["-", "-"], ["alpha", "2"], ["alpha", "3"]]


def test_watching_prints_one_object_a_line(stage: Stage, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "controller", "--host", f"unix://{stage.socket}", "status", "beta", "-w", "-o", "json"],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        stage.plays = {"suspend": answering("done", suspended=True)}
        with stage.client() as client:
            client.post("/v1/apps/beta/suspend")
        second = json.loads(process.stdout.readline())
        assert (first["sync"], second["sync"]) == ("synced", "suspended")
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
    stage.plays = {}


def test_exec_passes_streams_and_the_code_through(stage: Stage, process: Oton) -> None:
    stage.engine.start_session = lambda command: Session(bytes.upper, code=7)
    ran = process("exec", "alpha", "--", "cat", "-n", stdin=b"hello \xc3\xa9\n" * 20_000)
    assert (ran.code, ran.err) == (7, "to stderr\n")
    assert ran.out == "HELLO \xe9\n" * 20_000
    assert process("exec", "alpha", "ls", "-la").code == 7
    assert process("run", "alpha", "--release", "1", "--", "migrate", "--all").code == 7
    assert stage.engine.plans[-1].command == ("migrate", "--all")
    assert stage.engine.plans[-1].release.number == 1


def test_exec_says_126_and_127_as_a_shell_does(stage: Stage, oton: Oton) -> None:
    from collections.abc import Sequence

    from controller.engine.streams import NotStarted

    def refuse(text: str) -> None:
        def start(command: Sequence[str]) -> Session:
            raise NotStarted(text)

        stage.engine.start_session = start

    refuse("executable file not found in $PATH")
    assert oton("exec", "alpha", "--", "nope").code == 127
    refuse("permission denied")
    ran = oton("exec", "alpha", "--", "/etc/passwd")
    assert (ran.code, ran.err) == (126, "oton: permission denied\n")
    assert oton("exec", "alpha", "--replica", "99", "--", "ls").code == 125
    assert oton("exec", "alpha").code == 2


def test_status_feels_instant_and_imports_only_what_it_needs(stage: Stage, tmp_path: Path) -> None:
    code = (
        "import sys; from controller.cli.main import main; c = main(['status']); "
        "bad = {'fastapi', 'uvicorn', 'sqlalchemy', 'docker', 'mitmproxy', 'controller.spec', 'structlog', 'rich', 'yaml'};"
        "print(sorted(bad & set(sys.modules)), file=sys.stderr); sys.exit(c)"
    )
    known = "import argparse, asyncio, email.parser, http.client, json, ssl"
    took, measure = [], []
    for _ in range(3):
        spent, done = processor_s(code, tmp_path, stage)
        took.append(spent)
        measure.append(processor_s(known, tmp_path, stage)[0])
        assert done.stderr == b"[]\n"
    # Told in imports of the standard library: how much work a second of the processor is, its neighbours decide too.
    assert min(took) < 5 * min(measure), (took, measure)


def processor_s(code: str, path: Path, stage: Stage) -> tuple[float, subprocess.CompletedProcess[bytes]]:
    """Run Python code as a process; return the processor's time that it took, and how it ended."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        timeout=60,
        cwd=path,
        env={"PYTHONPATH": str(ROOT), "OTON_SOCKET": str(stage.socket), "PATH": "/usr/bin:/bin"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


def test_a_reader_that_stops_reading_is_no_error(process: Oton, stage: Stage, tmp_path: Path) -> None:
    command = f"{sys.executable} -m controller schema -o json | head -c 10; rc=${{PIPESTATUS[0]}}; echo; echo $rc"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert done.stderr == b""
    assert done.stdout.splitlines()[-1] == b"0"
