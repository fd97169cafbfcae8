"""Every verb that changes something, with every way it can end: the exit code, the JSON, and words worth reading."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from controller.clock import Instant
from controller.plan.situation import Answer, Order, Pin
from controller.world.model import World
from tests.api.stage import Play, Stage, answering, removing, rolling_out, staying
from tests.cli.conftest import Oton

WHY = "replica 1 was not ready within 2m\nGET /healthz: 503 Service Unavailable\n| KeyError: DATABASE_URL"
NAMES = (f"app-{number}" for number in count())


def superseded(stage: Stage, order: Order) -> None:
    """Begin a release that a newer one overtakes."""
    stage.begin(order)
    stage.finish(order.app, "superseded")


def waiting_for_promotion(stage: Stage, order: Order) -> None:
    """Begin a release that a person has to promote."""
    wanted = stage.directory.standing(order.app).wanted
    assert wanted is not None
    fields = wanted.spec.model_dump(exclude_unset=True) | {"strategy": {"type": "blue_green", "promote": "manual"}}
    spec = type(wanted.spec).model_validate(fields)
    stage.directory.known[order.app] = replace(stage.directory.standing(order.app), wanted=replace(wanted, spec=spec))
    stage.begin(order, phase="waiting", waits_for="promotion")


def suspended_meanwhile(stage: Stage, order: Order) -> None:
    """Begin a release, and suspend the app under it."""
    stage.begin(order)
    stage.decide(order.app, memory=replace(stage.store.load(order.app)[0], suspended=True))


def undone(stage: Stage, order: Order) -> None:
    """Abort, or a rollback in mid-rollout: the release under way is rolled back."""
    text = "back to release 1" if order.verb == "rollback" else ""
    memory = stage.store.load(order.app)[0]
    assert memory.rollout is not None
    stage.decide(
        order.app,
        memory=replace(memory, rollout=replace(memory.rollout, failing="aborted")),
        answer=Answer(order=order.id, result="release", release=memory.rollout.release, text=text),
    )
    stage.finish(order.app, "rolled_back", "aborted by root")


LIVE: Play = rolling_out()
FAILS: Play = rolling_out("failed", WHY)

CASES: list[tuple[str, Play | None, int, str, str]] = [
    # verb, what happens, exit code, in the JSON's "result", what must be said
    ("apply", LIVE, 0, "release", "release 2 is live (shop:1)"),
    ("apply", answering("unchanged"), 0, "unchanged", "unchanged"),
    ("apply", FAILS, 3, "release", "release 2 failed: replica 1 was not ready within 2m"),
    ("apply", rolling_out("rolled_back", "bake failed"), 3, "release", "release 2 was rolled back: bake failed"),
    ("apply", answering("failed", "image shop:9: no such image"), 3, "failed", "no such image"),
    ("apply", superseded, 5, "release", "overtaken by a newer one"),
    ("apply", answering("conflict", "shop.example.com/ belongs to other"), 5, "conflict", "belongs to other"),
    ("apply", answering("conflict", "it is pinned", pin=Pin(release=1, digest="x")), 5, "conflict", "next: oton unpin"),
    ("apply", answering("refused", "that cannot be"), 2, "refused", "that cannot be"),
    ("apply", answering("waiting", "it is suspended", suspended=True), 9, "waiting", "next: oton resume"),
    ("apply", answering("waiting", "it differs from what runs", held="it differs"), 9, "waiting", "next: oton retry"),
    ("apply", waiting_for_promotion, 9, "release", "next: oton promote"),
    ("apply", suspended_meanwhile, 9, "release", "next: oton resume"),
    ("rollback", LIVE, 0, "release", "is live"),
    ("rollback", FAILS, 3, "release", "release 2 failed"),
    ("rollback", answering("failed", "the image is gone and cannot be pulled"), 3, "failed", "cannot be pulled"),
    ("rollback", answering("missing", "no release 99"), 6, "missing", "no release 99"),
    ("rollback", answering("conflict", "nothing to go back to"), 5, "conflict", "nothing to go back to"),
    ("unpin", answering("done", "unpinned"), 0, "done", "unpinned"),
    ("unpin", LIVE, 0, "release", "is live"),
    ("unpin", answering("conflict", "it is not pinned"), 5, "conflict", "it is not pinned"),
    ("promote", LIVE, 0, "release", "is live"),
    ("promote", FAILS, 3, "release", "failed"),
    ("promote", answering("conflict", "no rollout waits"), 5, "conflict", "no rollout waits"),
    ("abort", answering("conflict", "no rollout is in progress"), 5, "conflict", "no rollout is in progress"),
    ("retry", LIVE, 0, "release", "is live"),
    ("retry", FAILS, 3, "release", "failed"),
    ("retry", answering("conflict", "nothing failed"), 5, "conflict", "nothing failed"),
    ("restart", LIVE, 0, "release", "is live"),
    ("restart", FAILS, 3, "release", "failed"),
    ("restart", answering("waiting", "it is suspended", suspended=True), 9, "waiting", "oton resume"),
    ("suspend", answering("done", suspended=True), 0, "done", "suspended"),
    ("resume", answering("done", suspended=False), 0, "done", "resumed"),
    ("resume", LIVE, 0, "release", "is live"),
    ("maintenance", answering("done", "maintenance is on", maintenance="soon"), 0, "done", "maintenance is on"),
    ("delete", removing, 0, "done", "removed"),
    ("delete", answering("conflict", "its spec still exists"), 5, "conflict", "its spec still exists"),
    ("delete", answering("waiting", "it is suspended", suspended=True), 9, "waiting", "oton resume"),
]


def words_for(verb: str, app: str, tmp_path: Path) -> list[str]:
    """Return the command line of a verb."""
    if verb == "apply":
        file = tmp_path / f"{app}.yaml"
        file.write_text(f"name: {app}\nimage: shop:1\nport: 8000\nroutes: [{{host: {app}.example.com}}]\n")
        return ["apply", str(file)]
    return [verb, app, *{"maintenance": ["on", "-m", "soon"], "delete": ["-y"]}.get(verb, [])]


def prepare(stage: Stage, verb: str, play: Play | None) -> str:
    """Return the name of a new app that is live, whose orders of *verb* are met by *play*."""
    app = next(NAMES)
    stage.bring_up(app)
    stage.plays = {} if play is None else {verb: play}
    return app


@pytest.mark.parametrize(
    ("verb", "play", "code", "result", "said"), CASES, ids=[f"{case[0]}-{case[2]}-{case[4]}" for case in CASES]
)
def test_each_end_has_its_exit_code_and_its_words(
    stage: Stage, oton: Oton, tmp_path: Path, verb: str, play: Play, code: int, result: str, said: str
) -> None:
    app = prepare(stage, verb, play)
    words = words_for(verb, app, tmp_path)
    ran = oton(*words, "-o", "json")
    assert ran.code == code, ran
    [row] = ran.json
    assert (row["app"], row["exit"], row["result"]) == (app, code, result)
    assert row["change"] > 0
    if code == 0:
        assert said in row["message"]
    else:
        assert said in ran.err
        assert "next: " in ran.err or code == 2
        assert "now: release 1 serves (shop:1" in ran.err or verb == "delete"


@pytest.mark.parametrize("verb", ["abort", "rollback"])
def test_what_takes_a_rollout_back_is_done_when_that_is_undone(
    verb: str, stage: Stage, oton: Oton, tmp_path: Path
) -> None:
    app = prepare(stage, "apply", staying())
    stage.plays[verb] = undone
    assert oton(*words_for("apply", app, tmp_path), "--no-wait").code == 0
    ran = oton(verb, app, "-o", "json")
    assert (ran.code, ran.json[0]["outcome"]) == (0, "rolled_back")


def test_a_failure_shows_the_probe_the_last_lines_what_serves_and_what_next(
    stage: Stage, oton: Oton, tmp_path: Path
) -> None:
    app = prepare(stage, "apply", FAILS)
    ran = oton(*words_for("apply", app, tmp_path))
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.splitlines()[-5:] == [
        f"{app}: release 2 failed: replica 1 was not ready within 2m",
        "  GET /healthz: 503 Service Unavailable",
        "  | KeyError: DATABASE_URL",
        "  now: release 1 serves (shop:1, 1 of 1 replicas ready)",
        f"  next: fix the spec and apply it again, or retry as it is: oton retry {app}",
    ]


def test_without_waiting_accepted_is_enough(stage: Stage, oton: Oton, tmp_path: Path) -> None:
    for verb in ("apply", "rollback", "unpin", "promote", "abort", "retry", "restart", "suspend", "resume", "delete"):
        app = prepare(stage, verb, staying())
        ran = oton(*words_for(verb, app, tmp_path), "--no-wait", "-o", "json")
        assert (ran.code, ran.json[0]["result"]) == (0, "accepted"), verb


def test_a_timeout_ends_the_waiting_not_the_rollout(stage: Stage, oton: Oton, tmp_path: Path) -> None:
    app = prepare(stage, "apply", staying())
    ran = oton(*words_for("apply", app, tmp_path), "--timeout", "300ms")
    assert ran.code == 4
    assert "it goes on" in ran.err
    assert f"next: oton status {app} -w" in ran.err


def test_an_unknown_app_is_6_for_every_verb(oton: Oton) -> None:
    for words in (
        ["status", "nope"], ["history", "nope"], ["rollback", "nope"], ["unpin", "nope"], ["promote", "nope"],
        ["abort", "nope"], ["retry", "nope"], ["restart", "nope"], ["suspend", "nope"], ["resume", "nope"],
        ["maintenance", "nope", "on"], ["delete", "nope", "-y"], ["logs", "nope"],
    ):  # fmt: skip
        ran = oton(*words)
        assert (ran.code, ran.out, ran.err) == (6, "", "oton: nope: no such app\n"), words


def test_an_unreachable_service_is_8_for_every_verb(oton: Oton, tmp_path: Path) -> None:
    spec = words_for("apply", "shop", tmp_path)[1]
    for words in (
        ["status"], ["status", "-w"], ["history", "shop"], ["apply", spec], ["diff", spec], ["rollback", "shop"],
        ["restart", "shop"], ["delete", "shop", "-y"], ["logs", "shop", "-f"], ["events"], ["events", "-f"],
        ["routes"], ["routes", "explain", "http://x"], ["doctor"], ["maintenance", "shop", "off"],
    ):  # fmt: skip
        ran = oton("--host", f"unix://{tmp_path}/none.sock", *words)
        assert (ran.code, ran.out) == (8, ""), words
        assert ran.err.startswith(f"oton: no service answers at {tmp_path}/none.sock (--host): no such file"), words
        assert "next: start it with: oton serve" in ran.err


def test_exec_says_125_where_we_failed(oton: Oton) -> None:
    assert oton("exec", "nope", "--", "ls").code == 125
    assert oton("--host", "unix:///none.sock", "run", "shop", "--", "ls").code == 125


def test_an_engine_that_stays_away_is_8_and_what_was_accepted_goes_on(
    stage: Stage, oton: Oton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.cli.follow.ENGINE_AWAY_S", 0.2)

    def away(here: Stage, order: Order) -> None:
        here.decide(order.app, world=World(engine_up=False))

    app = prepare(stage, "apply", away)
    ran = oton(*words_for("apply", app, tmp_path))
    assert ran.code == 8
    assert "accepted, but the service does not reach the engine" in ran.err


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ((0, 3), 3),
        ((3, 5), 5),
        ((5, 2), 2),
        ((9, 3), 3),
        ((9, 0), 9),
        ((0, 0), 0),
    ],
)
def test_of_several_apps_the_worst_counts(
    stage: Stage, oton: Oton, tmp_path: Path, ends: tuple[int, ...], code: int
) -> None:
    plays: dict[int, Play] = {
        0: LIVE,
        2: answering("refused", "no"),
        3: FAILS,
        5: answering("conflict", "no"),
        9: answering("waiting", "no", suspended=True),
    }
    apps = {next(NAMES): plays[end] for end in ends}
    for app in apps:
        stage.bring_up(app)
    stage.plays = {"apply": lambda here, order: apps[order.app](here, order)}
    file = tmp_path / "all.yaml"
    file.write_text("---\n".join(f"name: {app}\nimage: shop:1\n" for app in apps))
    ran = oton("apply", str(file), "-o", "json")
    assert ran.code == code
    assert [(row["app"], row["exit"]) for row in ran.json] == list(zip(apps, ends, strict=True))


def test_nothing_is_judged_before_the_service_has_looked(stage: Stage, oton: Oton, tmp_path: Path) -> None:
    """An app that failed before must not make the next apply fail at once."""
    app = prepare(stage, "apply", FAILS)
    words = words_for("apply", app, tmp_path)
    assert oton(*words).code == 3
    stage.plays = {"apply": LIVE}
    assert oton(*words).code == 0


def test_following_survives_an_answer_that_only_the_store_remembers(stage: Stage, oton: Oton, tmp_path: Path) -> None:
    """After a restart of the service, the views know nothing of answers given before."""

    def forgetful(here: Stage, order: Order) -> None:
        answering("unchanged")(here, order)
        here.model._orders.clear()

    app = prepare(stage, "apply", forgetful)
    ran = oton(*words_for("apply", app, tmp_path), "-o", "json")
    assert (ran.code, ran.json[0]["result"]) == (0, "unchanged")


def test_times_are_said_in_the_json(stage: Stage, oton: Oton, tmp_path: Path) -> None:
    app = prepare(stage, "apply", LIVE)
    [row] = oton(*words_for("apply", app, tmp_path), "-o", "json").json
    assert isinstance(row["duration_s"], float)
    assert isinstance(stage.store.load(app)[1][2].finished, Instant)
