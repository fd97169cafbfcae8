"""People's addons: what they may do, and what becomes of their mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inspect.rig import Inspector, an_inspector
from tests.proxy.rig import Caller, Lane, a_lane, wait_for

EXAMPLE = Path(__file__).parents[2] / "examples/10-inspect/tenant.py"
WRONG = "def request(flow):\n    raise RuntimeError('no luck')\n"
ANSWERS = """
from mitmproxy import http

def requestheaders(flow):
    if flow.request.path == "/mine":
        flow.response = http.Response.make(202, b"mine")
    if flow.request.path == "/killed":
        flow.kill()
"""


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    sources = (("tenant", EXAMPLE.read_text()), ("wrong", WRONG), ("broken", "def ("), ("answers", ANSWERS))
    with an_inspector(tmp_path_factory.mktemp("a"), *sources) as made:
        yield made


@pytest.fixture
def lane(inspector: Inspector) -> Iterator[Lane]:
    with a_lane() as made:
        yield made


def test_the_example_names_the_tenant_and_keeps_robots_out(lane: Lane) -> None:
    [backend] = lane.serve(inspect=True)
    with Caller(lane.port) as caller:
        reply = caller.get("/", host="blue.example")
        assert (reply.status, reply.header("x-seen-by")) == (200, "tenant")
        assert b"X-Tenant: blue\r\n" in backend.heads[0]
        assert caller.get("/", "User-Agent: Robot").status == 403
    assert len(backend.heads) == 1


def test_errors_are_told_by_name_and_line_and_take_no_request_down(lane: Lane, inspector: Inspector) -> None:
    lane.serve(inspect=True)
    with Caller(lane.port) as caller:
        assert caller.get("/").status == 200
    told = wait_for(lambda: len(inspector.desk.said("trouble")) >= 2 and inspector.desk.said("trouble"))
    found = {message["trouble"]: message["error"] for message in told}
    assert found["wrong"] == "line 2: RuntimeError: no luck"
    assert found["broken"].startswith("line 1: SyntaxError")


def test_an_addon_may_answer_by_itself_with_a_body_under_way_or_refuse(lane: Lane) -> None:
    lane.serve(inspect=True)
    with Caller(lane.port) as caller:
        reply = caller.get("/mine", method="POST", body=b"x" * 2_000_000)
        assert (reply.status, reply.body) == (202, b"mine")
        assert caller.get("/killed").status == 502
        assert caller.get("/").status == 200


def test_without_an_inspector_requests_go_round_or_get_503_where_it_is_required(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, a_lane() as lane:
        patch.chdir(tmp_path)
        lane.serve(inspect=True)
        with Caller(lane.port) as caller:
            assert caller.get("/", method="POST", body=b"once").status == 200
        lane.serve(inspect=True, inspect_required=True)
        with Caller(lane.port) as caller:
            reply = caller.get("/")
            assert (reply.status, reply.header("retry-after")) == (503, "5")
        assert {report["what"] for report in lane.reports if report["kind"] == "limit"} == {"inspector"}
