"""F02, F31: a release that cannot be is refused with its reason; the old one serves on and nothing is left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.parts.client import Report
from tests.parts.images import image_id
from tests.parts.journal import Journal
from tests.parts.service import Service
from tests.parts.stage import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@dataclass(frozen=True, slots=True)
class Bad:
    """One way in which a release cannot be, and what the user has to be told."""

    reason: str
    """What the reason says, as a regular expression."""
    last_lines: str = ""
    """What the shown log lines hold."""
    version: str = "bad"
    manners: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    starts: int = 1
    """Containers that may be started before it is given up."""


BAD = {
    "never-ready": Bad(
        r"was not ready 4 s after its start: GET /healthz: 503.*cannot reach db:5432",
        "not ready: cannot reach db:5432",
        manners={"NEVER_READY": "cannot reach db:5432"},
    ),
    "crash": Bad(
        r"exited with code 1, 3 times in a row",
        "no DATABASE_URL, giving up",
        manners={"CRASH_AT_START": "no DATABASE_URL, giving up"},
        more={"deadline": "30s"},
        starts=2 * 3,
    ),
    "answers-500": Bad(
        r"was not ready 4 s after its start: GET /healthz: 500",
        "not ready: broken on purpose",
        manners={"ANSWER_STATUS": "500"},
    ),
    "wrong-port": Bad(r"was not ready 4 s after its start: .*refused", '"port": 9999', manners={"PORT": "9999"}),
    "no-image": Bad(r"oton-test-backend:nowhere", more={"image": "oton-test-backend:nowhere"}, starts=0),
    "before": Bad(
        r"the `before` command ended with code 7",
        "migration 0042 does not apply",
        version="v2",
        more={"before": {"command": ["sh", "-c", "echo migration 0042 does not apply; exit 7"], "timeout": "20s"}},
        starts=1,
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that was seen of one refused release."""

    stage: Stage
    before: frozenset[str]
    end: dict[str, Any]
    report: Report


@dataclass(frozen=True, slots=True)
class Story:
    code: int
    printed: str
    journal: Journal
    outcomes: Mapping[str, Outcome]


@pytest.fixture(scope="module")
def story(house: Service) -> Story:
    """Deploy an app for each way, apply all the bad releases in one `oton apply`, and note what became of them."""
    stages = {word: Stage(house, word, replicas=2, deadline="4s") for word in BAD}
    for stage in stages.values():
        stage.put("v1")
    for stage in stages.values():
        stage.wait_live("v1")
    before = {word: stage.running() for word, stage in stages.items()}
    (house.root / "bad").mkdir()
    for word, bad in BAD.items():
        version = bad.version if bad.version != "bad" else f"bad-{word}"
        text = stages[word].spec(version, manners=bad.manners, **bad.more)
        (house.root / "bad" / f"{word}.yaml").write_text(text)
    clients = {word: stage.client(kept=1, fresh=1, pause_s=0.1) for word, stage in stages.items()}
    with Journal(house) as journal, ExitStack() as loads:
        for client in clients.values():
            loads.enter_context(client.running())
        done = house.oton("apply", "bad", "-o", "json", limit_s=120)
        for stage in stages.values():
            stage.wait_tidy()
    ends = {end["app"]: end for end in json.loads(done.stdout)}
    outcomes = {
        word: Outcome(stage, before[word], ends[word], clients[word].report()) for word, stage in stages.items()
    }
    return Story(done.returncode, done.stderr, journal, outcomes)


def test_one_apply_of_refused_releases_ends_with_3(story: Story) -> None:
    assert story.code == 3, story.printed
    assert {word: outcome.end["exit"] for word, outcome in story.outcomes.items()} == dict.fromkeys(BAD, 3)


@pytest.mark.parametrize("word", BAD)
def test_the_user_is_told_the_reason_and_shown_the_last_lines(story: Story, word: str) -> None:
    end = story.outcomes[word].end
    told = "\n".join([end["message"], *end["lines"]])
    assert re.search(BAD[word].reason, told), told
    assert BAD[word].last_lines in told
    assert BAD[word].last_lines in story.printed
    assert re.search(BAD[word].reason, story.printed), story.printed


@pytest.mark.parametrize("word", BAD)
def test_the_old_release_serves_throughout(story: Story, word: str) -> None:
    outcome = story.outcomes[word]
    outcome.report.check()
    assert set(outcome.report.versions()) == {"v1"}
    story.journal.check_always_routed(word, at_least=2)
    assert outcome.stage.running() == outcome.before
    (row,) = [row for row in outcome.stage.service.apps() if row["app"] == word]
    assert (row["release"], row["sync"], row["health"]) == (1, "failed", "healthy")


@pytest.mark.parametrize("word", BAD)
def test_nothing_is_left_behind_and_nothing_was_tried_for_ever(story: Story, word: str) -> None:
    outcome = story.outcomes[word]
    assert {row["Id"] for row in outcome.stage.containers()} == outcome.before
    assert len(story.journal.actions(word, "start")) <= BAD[word].starts
    assert len(story.journal.actions(word, "create")) == len(story.journal.actions(word, "destroy"))
    assert outcome.stage.releases()[0]["outcome"] == "failed"


def test_a_replica_that_was_never_ready_was_never_routed(story: Story) -> None:
    for word, outcome in story.outcomes.items():
        named = {
            upstream["id"]
            for look in story.journal.looks
            for upstream in (look.apps.get(word) or {}).get("upstreams", ())
        }
        assert named <= outcome.before


def test_a_refused_spec_is_not_tried_again_by_itself_but_by_retry(house: Service, story: Story) -> None:
    stage = story.outcomes["before"].stage
    assert stage.row()["message"]
    number = stage.releases()[0]["release"]
    done = house.oton("retry", stage.name)
    assert done.returncode == 3, done.stderr
    assert "migration 0042 does not apply" in done.stderr
    assert [row["release"] for row in stage.releases()][:2] == [number + 1, number]


def test_a_replica_that_accepts_connections_but_does_not_speak_yet_gets_no_traffic(house: Service) -> None:
    # Docker's own proxy accepts before the app listens; here the app itself listens and says nothing good for 3 s.
    stage = Stage(house, "quiet", replicas=1)
    stage.deploy("v1")
    with Journal(house) as journal, stage.load():
        stage.wait_answer(stage.put("quiet", manners={"READY_DELAY_S": "3"}))
        (new,) = {e.id for e in journal.wait_action(stage.name, "start")}
        stage.wait_live("quiet")
    started = journal.actions(stage.name, "start")[0].at
    routed = min(look.at for look in journal.looks if new in look.ready(stage.name))
    assert routed - started >= 2.9
    assert image_id("oton-test-backend:quiet")
