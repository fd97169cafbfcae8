"""F46: a worker or an inspector that lies, or says what nobody can read, costs itself alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.garbage import UNREADABLE
from tests.parts.service import Service
from tests.parts.stage import Stage
from tests.parts.takeover import say
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.core]

DEEP = UNREADABLE["deep list"]
PRY = """
import json, os, socket, struct

found = {}

def attempt(name, what):
    try:
        found[name] = what()
    except BaseException as error:
        found[name] = type(error).__name__

def meet(place, hello):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(place)
        sock.sendall(json.dumps({"hello": hello}).encode() + b"\\n")
        return sock.recv(10).decode() or "sent away"

attempt("uid", lambda: str(os.getuid()))
attempt("feed", lambda: meet("../../feed.sock", {"worker": 1, "version": 0}))
attempt("table", lambda: open("../../table.json").read(10))
attempt("state", lambda: os.listdir("../../.."))
attempt("others", lambda: os.listdir("../blog"))
attempt("name of another", lambda: os.rename("in.sock", "../blog/in.sock"))

def response(flow):
    for name, what in found.items():
        flow.response.headers["x-" + name.replace(" ", "-")] = str(what)
"""
CLAIM = """
import json, socket

with socket.socket(socket.AF_UNIX) as sock:
    sock.connect("../desk.sock")
    sock.sendall(b'{"hello": {"app": "blog"}}' + b"\\n")
    sock.settimeout(5)
    said = sock.recv(10)

def response(flow):
    flow.response.headers["x-said"] = repr(said)
"""


def put_addon(service: Service, name: str, source: str) -> None:
    (service.state / "addons").mkdir(exist_ok=True)
    (service.state / "addons" / f"{name}.py").write_text(source)


def test_a_process_that_cannot_be_understood_is_replaced_and_everybody_else_goes_on(
    house: Service, stage: Callable[..., Stage]
) -> None:
    shop = stage()
    shop.deploy(proxy={"inspect": True})
    wait_for(lambda: house.pids_of("oton-inspect"), 20, "an inspector")
    supervisor, controller = house.process.pid, house.pid_of("_controller")  # type: ignore[union-attr]
    for name, listener in (("oton-worker", supervisor), ("oton-worker", controller), ("oton-inspect", supervisor)):
        be_replaced(house, name, listener, shop)
    assert house.process.poll() is None  # type: ignore[union-attr]
    assert house.pid_of("_controller") == controller
    assert "its message cannot be read" in house.log_tail(2000)
    shop.deploy("v2", proxy={"inspect": True})


def be_replaced(house: Service, name: str, listener: int, shop: Stage) -> None:
    """Have one process say what nobody can read, and wait for its successor; the others are untouched meanwhile."""
    before = house.pids_of(name)
    say(before[0], listener, DEEP)
    wait_for(lambda: before[0] not in house.pids_of(name), 20, f"the end of one {name}")
    assert set(before[1:]) <= set(house.pids_of(name))
    assert house.get(host=shop.host).status_code == 200
    wait_for(lambda: len(house.pids_of(name)) == len(before), 20, f"another {name}")


def test_an_inspector_reaches_neither_the_feed_nor_the_table_nor_another_inspector(
    house: Service, stage: Callable[..., Stage]
) -> None:
    put_addon(house, "pry", PRY)
    shop, blog = stage(), stage()
    blog.deploy(proxy={"inspect": True})
    put_addon(house, "pry", PRY.replace("../blog", f"../{blog.name}"))
    shop.deploy(proxy={"inspect": True, "addons": ["pry"]})
    wait_for(lambda: "x-uid" in house.get(host=shop.host).headers, 30, "the addon's findings")
    found = house.get(host=shop.host).headers
    for closed in ("x-feed", "x-table", "x-state", "x-others", "x-name-of-another"):
        assert found[closed] == "PermissionError", closed
    uids = {pid: (Path("/proc") / str(pid)).stat().st_uid for pid in house.pids_of("oton-")}
    inspectors = {uids[pid] for pid in house.pids_of("oton-inspect")}
    others = {uid for pid, uid in uids.items() if pid not in house.pids_of("oton-inspect")}
    assert len(inspectors) == 2
    assert int(found["x-uid"]) in inspectors
    assert not inspectors & others
    assert os.geteuid() == 0, "run as root: only then are there walls to try"
    shop.deploy("v2", proxy={"inspect": True, "addons": ["pry"]})


def test_an_inspector_that_gives_itself_out_for_another_apps_is_killed(
    house: Service, stage: Callable[..., Stage]
) -> None:
    blog, shop = stage(), stage()
    put_addon(house, "claim", CLAIM.replace("blog", blog.name))
    blog.deploy(proxy={"inspect": True})
    [honest] = wait_for(lambda: house.pids_of("oton-inspect"), 20, "the honest one")
    shop.deploy(proxy={"inspect": True, "addons": ["claim"]})
    text = f"the inspector of {shop.name} says that it is that of {blog.name}"
    wait_for(lambda: text in house.log_tail(2000), 20, "it is told")
    assert honest in house.pids_of("oton-inspect")
    assert house.get(host=shop.host).status_code == 200
