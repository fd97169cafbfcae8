"""The laws of docs/house.md, under any order of wishes, trouble, crashes and failed operations."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from controller.spec.model import AppSpec
from tests.builders import a_spec
from tests.parts.effort import examples
from tests.plan.outside import Fault, Outside, an_outside

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(1200)]

IMAGES = ("good:1", "good:2", "good:3", "bad:1", "dies:1", "gone:1", "refused:1", "late:1", "sour:1", "unmigratable:1")
STRATEGIES = (
    "rolling",
    {"type": "rolling", "max_surge": 0, "max_unavailable": 1},
    {"type": "rolling", "max_surge": 2, "max_unavailable": 1},
    "blue_green",
    {"type": "blue_green", "promote": "manual", "preview_host": "next.example.com"},
    {"type": "blue_green", "keep_old": "0s", "promote_after": "3s"},
    "recreate",
    {"type": "canary", "steps": [{"weight": 34, "hold": "2s"}, {"weight": 67, "hold": "1s"}]},
)


def specs() -> st.SearchStrategy[AppSpec]:
    def build(image: str, replicas: int, strategy: object, extra: int) -> AppSpec:
        fields: dict[str, object] = {"image": image, "replicas": replicas, "strategy": strategy, "deadline": "20s"}
        if extra & 1 or image.startswith(("late", "sour")):
            fields["bake"] = "5s"
        if extra & 2 or image.startswith("unmigratable"):
            fields["before"] = {"command": "migrate"}
        if extra & 4:
            fields["environment"] = {"A": str(extra)}
        if extra & 8:
            fields["proxy"] = {"assets": ["/static"]}
        if extra & 48:
            fields["health"] = {"path": ("/up", "/bad", "/alive")[(extra >> 4) - 1]}
        return a_spec(**fields)

    return st.builds(build, st.sampled_from(IMAGES), st.integers(0, 3), st.sampled_from(STRATEGIES), st.integers(0, 63))


VERBS = ("rollback", "abort", "promote", "retry", "restart", "unpin", "suspend", "resume", "apply")
faults = st.one_of(
    st.none(),
    st.builds(Fault, at=st.integers(0, 3), how=st.sampled_from(("fail", "lost", "crash", "crash_after"))),
)
actions = st.one_of(
    st.tuples(st.just("file"), specs()),
    st.tuples(st.just("order"), st.sampled_from(VERBS)),
    st.tuples(st.just("pass"), faults),
    st.tuples(st.just("pass"), faults),
    st.tuples(st.just("pass"), faults),
    st.tuples(st.just("react"), st.sampled_from(("confirm", "drain", "probe", "run_on", "react", "react"))),
    st.tuples(st.just("time"), st.sampled_from((0.1, 1.0, 6.0, 31.0))),
    st.tuples(
        st.just("harm"), st.tuples(st.sampled_from(("exit", "pause", "lose", "drift", "hang")), st.integers(0, 5))
    ),
    st.tuples(st.just("engine"), st.booleans()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("gone"), st.none()),
    st.tuples(st.just("backup"), st.booleans()),
)


def act(outside: Outside, what: str, how: object) -> None:
    if what == "file":
        outside.ask(how)  # type: ignore[arg-type]
    elif what == "gone":
        outside.ask(None)
    elif what == "order":
        outside.order(how)  # type: ignore[arg-type]
    elif what == "pass":
        outside.pass_once(how)  # type: ignore[arg-type]
    elif what == "react":
        getattr(outside, str(how))()
    elif what == "time":
        outside.pass_time(float(how))  # type: ignore[arg-type]
    elif what == "engine":
        outside.engine(up=bool(how))
    elif what == "backup":
        outside.restore() if how else outside.back_up()
    elif what == "restart":
        outside.restart_controller()
    elif what == "harm":
        harm(outside, *how)  # type: ignore[misc]


def harm(outside: Outside, how: str, which: int) -> None:
    running = [r for r in outside.replicas if r.state == "running"]
    if not running:
        return
    replica = running[which % len(running)]
    outside.story.append(f"-- {how} {replica.name}")
    match how:
        case "exit":
            outside.change(replica, state="exited", exit_code=137)
        case "pause":
            outside.change(replica, state="paused")
        case "lose":
            outside.lose(replica)
        case "hang":
            outside.hung.add(replica.id)
        case "drift":
            outside.change(replica, drift="memory limit 1M, made with 2M")


@settings(
    max_examples=examples(250),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=tuple(set(Phase) - {Phase.explain}),
)
@given(st.lists(actions, max_size=40), specs())
def test_from_any_world_and_after_any_crash_it_comes_to_rest_where_the_specs_say(
    story: list[tuple[str, object]], first: AppSpec
) -> None:
    outside = Outside()
    outside.ask(first)
    for what, how in story:
        act(outside, what, how)
    outside.settle_down()
    outside.check_rest()


@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=tuple(set(Phase) - {Phase.explain}),
)
@given(st.lists(specs(), min_size=1, max_size=4), st.integers(0, 30), faults)
def test_every_single_fault_between_any_two_operations_of_a_rollout_is_survived(
    wishes: list[AppSpec], at: int, fault: Fault | None
) -> None:
    outside = an_outside(image="good:1", replicas=2)
    for number, wish in enumerate(wishes):
        outside.ask(wish)
        for step in range(at + number):
            outside.pass_once(fault if step == at else None)
            outside.react()
            outside.pass_time(0.05)
    outside.settle_down()
    outside.check_rest()


@settings(max_examples=examples(100), deadline=None)
@given(specs(), specs())
def test_a_release_that_failed_is_not_tried_again_without_a_new_reason(first: AppSpec, second: AppSpec) -> None:
    outside = an_outside(image="good:1", replicas=1)
    for wish in (first, second):
        outside.ask(wish)
        outside.settle_down()
        numbers = outside.situation.memory.last_release
        outside.restart_controller()
        outside.pass_time(3600)
        outside.settle_down()
        assert outside.situation.memory.last_release == numbers


@settings(max_examples=examples(100), deadline=None)
@given(specs())
def test_at_rest_nothing_is_written_and_nothing_is_published(wish: AppSpec) -> None:
    outside = an_outside(image="good:1", replicas=2)
    outside.ask(wish)
    outside.settle_down()
    before = outside.situation.memory
    calls = outside.writing_calls
    outside.restart_controller()
    for _ in range(5):
        decision = outside.pass_once()
        assert not decision.operations, outside.story[-10:]
        outside.react()
    assert (outside.situation.memory, outside.writing_calls) == (before, calls)
