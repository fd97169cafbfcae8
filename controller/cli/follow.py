"""
Following a change to its end: first what became of the order, then the rollout that it began.

Only the app's view is looked at, again and again, so a dropped connection or a restarted service costs time
and nothing else. Nothing is judged before the service has looked at our change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

from controller.cli.client import Client, app_path
from controller.cli.ends import (
    CODES,
    End,
    default_text,
    hint_failed,
    hint_for,
    progress_text,
    serves_text,
    wait_text,
)
from controller.cli.show import plain
from controller.cli.trouble import CONFLICT, FAILED, MISSING, OK, TIMEOUT, UNREACHABLE, WAITING, Trouble

LOOK_S = 0.15
"""Between two looks at the app."""
ENGINE_AWAY_S = 10.0
"""How long the engine may be away before we stop waiting; the rollout goes on once it is back."""
AWAY_S = 60.0
"""How long the service may be away before we give up on it."""


class Screen(Protocol):
    """Where progress is shown."""

    def show(self, app: str, text: str) -> None:
        """Show where an app is; the same text again shows nothing new."""
        ...


@dataclass(slots=True, kw_only=True)
class Watch:
    """One app being followed; `look` once in a while until it returns an end."""

    app: str
    verb: str
    change: int
    result: str = ""
    release: int | None = None
    undoes: bool = False
    """The release that is followed is the one that the order takes back."""
    engine_away_since: float | None = None

    def look(self, client: Client, screen: Screen, now: float) -> End | None:
        """Look once; return how it ended, or None while it goes on."""
        try:
            view = client.get(app_path(self.app))
        except Trouble as trouble:
            if trouble.code != MISSING:
                raise
            return self.end_missing(client)
        if self.release is None:
            answer = find_answer(client, self.app, self.change, view)
            if answer is None:
                screen.show(self.app, wait_text(view, self.change))
                return self.end_without_engine(view, now)
            ended = self.take_answer(answer, view)
            if ended is not None or self.release is None:
                return ended
        return self.look_at_release(client, screen, view, now)

    def take_answer(self, answer: dict[str, Any], view: dict[str, Any]) -> End | None:
        """Take over what became of the order; return the end unless a release has to be followed."""
        self.result, text = str(answer["result"]), str(answer["text"])
        if self.result == "release" and answer["release"] is not None:
            self.release = int(answer["release"])
            self.undoes = self.verb == "abort" or bool(text)
            return None
        if self.verb == "resume" and self.result == "done" and "progressing" in view.get("conditions", []):
            # What had waited goes on now; that is what the person wants to see end.
            self.release = view["target"]
            return None
        code = CODES.get(self.result, FAILED)
        shown = text or default_text(self.verb, self.result)
        return self.end(code, shown, view, release=answer["release"], hint=hint_for(self.app, self.verb, code, view))

    def look_at_release(self, client: Client, screen: Screen, view: dict[str, Any], now: float) -> End | None:
        """Look at the release that our order began."""
        if view.get("target") == self.release:
            screen.show(self.app, progress_text(view))
            return self.end_waiting(view) or self.end_without_engine(view, now)
        release = client.get(app_path(self.app, "releases", self.release or 0))
        # What was undone may serve until the one before it is back: only then can be said what serves.
        is_going = release["outcome"] in ("failed", "rolled_back") and view["release"] == self.release
        if release["outcome"] == "rolling_out" or (is_going and view["target"] is not None):
            screen.show(self.app, progress_text(view))
            return self.end_waiting(view) or self.end_without_engine(view, now)
        if release["outcome"] == "live" and view.get("missing_routes"):
            screen.show(self.app, f"release {self.release} is live; {view['missing_routes'][0]} follows")
            return self.end_incomplete(view)
        return self.end_release(release, view)

    def end_incomplete(self, view: dict[str, Any]) -> End | None:
        """Return the end of a release that serves without some of its routes; None while those are on their way."""
        if view["sync"] == "synced" and view["health"] == "healthy" and not view["maintenance"]:
            return None
        text = f"release {self.release} is live, but another app still has {', '.join(view['missing_routes'])}"
        return self.end(CONFLICT, text, view, release=self.release, outcome="live", hint=f"oton status {self.app}")

    def end_release(self, release: dict[str, Any], view: dict[str, Any]) -> End:
        """Return the end that a release's outcome means."""
        outcome, span = release["outcome"], release["duration_s"]
        number, image = release["release"], release["image"]
        facts = {"release": number, "outcome": outcome, "duration_s": span}
        if outcome == "live":
            return self.end(OK, f"release {number} is live ({image})", view, **facts)
        if outcome == "superseded":
            return self.end(
                CONFLICT,
                f"release {number} was overtaken by a newer one",
                view,
                hint=f"oton history {self.app}",
                **facts,
            )
        if self.undoes:
            pinned = f"; release {view['release']} serves, pinned" if view.get("pin") else ""
            return self.end(OK, f"release {number} was undone{pinned}", view, **facts)
        first, *rest = plain(release["message"] or "").strip().splitlines() or ["no reason given"]
        word = "failed" if outcome == "failed" else "was rolled back"
        return self.end(
            FAILED, f"release {number} {word}: {first}", view, lines=tuple(rest), hint=hint_failed(self.app), **facts
        )

    def end_waiting(self, view: dict[str, Any]) -> End | None:
        """Return the end where the rollout waits for a person."""
        if view["sync"] == "suspended":
            text = f"release {self.release} waits: the app is suspended"
            return self.end(WAITING, text, view, release=self.release, hint=f"oton resume {self.app}")
        if view.get("waits_for_person"):
            text = f"release {self.release} is ready and waits for promotion"
            return self.end(
                WAITING, text, view, release=self.release, hint=f"oton promote {self.app}, or: oton abort {self.app}"
            )
        return None

    def end_without_engine(self, view: dict[str, Any], now: float) -> End | None:
        """Return the end where the engine has been away for too long to wait."""
        if view.get("engine", "up") == "up":
            self.engine_away_since = None
            return None
        self.engine_away_since = now if self.engine_away_since is None else self.engine_away_since
        if now - self.engine_away_since < ENGINE_AWAY_S:
            return None
        text = "accepted, but the service does not reach the engine; it goes on once that is back"
        return self.end(UNREACHABLE, text, view, release=self.release, hint="oton doctor")

    def end_missing(self, client: Client) -> End | None:
        """Return the end where the app is not there (any more)."""
        if self.verb == "delete":
            return self.end(OK, "removed", None)
        try:
            answer = client.get(app_path(self.app, "orders", self.change))
        except Trouble:
            return self.end(MISSING, "no such app", None)
        if answer["state"] == "open":
            return None
        return self.end(MISSING, answer["text"] or "the app was removed meanwhile", None)

    def end_late(self, timeout_s: float) -> End:
        """Return the end where --timeout has passed."""
        text = f"still under way after {timeout_s:g} s; it goes on"
        return self.end(TIMEOUT, text, None, release=self.release, hint=f"oton status {self.app} -w")

    def end(
        self,
        code: int,
        text: str,
        view: dict[str, Any] | None,
        *,
        lines: tuple[str, ...] = (),
        hint: str = "",
        release: int | None = None,
        outcome: str | None = None,
        duration_s: float | None = None,
    ) -> End:
        """Return an end with what is known of the change."""
        return End(
            app=self.app,
            code=code,
            text=text,
            lines=lines,
            serves=serves_text(view) if view is not None and code not in (OK, TIMEOUT) else "",
            hint=hint,
            change=self.change,
            result=self.result or ("done" if code == OK else ""),
            release=release,
            outcome=outcome,
            duration_s=duration_s,
        )


def follow_all(
    client: Client,
    watches: Sequence[Watch],
    screen: Screen,
    *,
    timeout_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> list[End]:
    """Follow several changes at once until each has ended; the ends come in the order of *watches*."""
    until = None if timeout_s is None else clock() + timeout_s
    ends: dict[str, End] = {}
    while True:
        for watch in (one for one in watches if one.app not in ends):
            left_s = AWAY_S if until is None else min(AWAY_S, max(0.0, until - clock()))
            ended = bear(partial(watch.look, client, screen, clock()), left_s, pause)
            if ended is None and until is not None and clock() >= until:
                ended = watch.end_late(timeout_s or 0.0)
            if ended is not None:
                ends[watch.app] = ended
        if len(ends) == len(watches):
            return [ends[watch.app] for watch in watches]
        pause(LOOK_S)


def bear[T](look: Callable[[], T], limit_s: float, pause: Callable[[float], None]) -> T:
    """Return what *look* returns, trying again while the service is away; raises Trouble once that lasts too long."""
    for attempt in Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, Trouble) and error.code == UNREACHABLE),
        wait=wait_exponential(multiplier=LOOK_S, max=2.0) + wait_random(0, LOOK_S),
        stop=stop_after_delay(limit_s),
        sleep=pause,
        reraise=True,
    ):
        with attempt:
            return look()
    raise AssertionError("the last attempt returns or raises")


def find_answer(client: Client, app: str, change: int, view: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answered order; None while it is open."""
    for line in view.get("orders", []):
        if line["change"] == change:
            return dict(line)
    if view.get("change", 0) < change:
        return None
    try:
        asked = client.get(app_path(app, "orders", change))
    except Trouble as trouble:
        if trouble.code == MISSING:
            return None
        raise
    return dict(asked) if asked["state"] == "answered" else None
