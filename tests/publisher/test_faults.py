"""An app that workers could not serve is refused by itself; what they report all the same reaches people."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.errors import Refused
from controller.publisher import Publisher
from controller.routing.table import Policy, Redirect, Rule
from tests.publisher.fakes import FakeWorker, publishing, routes, until

BAD = replace(routes("shop", "a"), policy=Policy(redirects=(Redirect(source="http://[shop/old", to="/new"),)))


def test_an_entry_that_workers_could_not_serve_is_refused_and_nothing_changes(tmp_path: Any) -> None:
    publisher = Publisher(tmp_path, ring=lambda _: None)
    publisher.publish("shop", routes("shop", "a"))
    file = tmp_path / "proxy" / "table.json"
    before = file.read_bytes()
    with pytest.raises(Refused, match=r"^shop cannot be served like this: proxy\.redirects\[0\]\.from: found"):
        publisher.publish("shop", BAD)
    assert publisher.table().apps["shop"] == routes("shop", "a")
    assert file.read_bytes() == before
    assert publisher.fault("shop").startswith("shop cannot be served like this: proxy.redirects[0].from")
    publisher.publish("blog", routes("blog", "b"))
    assert publisher.fault("blog") == ""
    publisher.publish("shop", routes("shop", "b"))
    assert publisher.fault("shop") == ""


@pytest.mark.parametrize(
    "entry",
    [
        replace(BAD, policy=Policy(allow=("nowhere",))),
        replace(BAD, policy=Policy(basic_auth=("ann:secret",))),
        replace(BAD, policy=Policy(), rules=(Rule(host="shop.test", group="odd"),)),  # type: ignore[arg-type]
        replace(BAD, policy=Policy(), weights=((1,),)),  # type: ignore[arg-type]
        replace(BAD, policy=Policy(), app="another"),
    ],
)
def test_whatever_a_worker_compiles_is_compiled_before_it_is_published(tmp_path: Any, entry: Any) -> None:
    publisher = Publisher(tmp_path, ring=lambda _: None)
    with pytest.raises(Refused) as refused:
        publisher.publish("shop", entry)
    assert "secret" not in str(refused.value)


def test_what_workers_cannot_serve_is_told_once_shown_and_told_when_it_is_over(tmp_path: Any) -> None:
    told: list[tuple[str, str]] = []
    with publishing(tmp_path, on_fault=lambda app, why: told.append((app, why))) as publisher:
        publisher.set_roster([1, 2])
        publisher.publish("shop", routes("shop", "a"))
        one, two = FakeWorker(tmp_path, 1), FakeWorker(tmp_path, 2)
        until(publisher.is_current)
        for _ in range(2):
            one.say({"confirm": 1, "faults": {"shop": "short of \x1b[31mmemory", "stranger": "x"}})
        until(lambda: told)
        assert publisher.fault("shop") == ("answers 503 on 1 of 2 workers, which cannot serve it: short of  [31mmemory")
        assert publisher.fault("stranger") == ""
        one.say({"confirm": 1})
        until(lambda: len(told) > 1)
        assert told == [("shop", "short of  [31mmemory"), ("shop", "")]
        assert publisher.fault("shop") == ""
        two.say({"kind": "fault", "app": "shop", "why": "MemoryError"})
        until(lambda: publisher.fault("shop"))
        assert publisher.fault("shop").endswith("its policy could not be checked: MemoryError")
        one.close()
        two.close()
