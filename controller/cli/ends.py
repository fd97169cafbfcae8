"""How following ended, and the words for it: what happened, what serves now, what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.cli.trouble import CONFLICT, FAILED, MISSING, OK, USAGE, WAITING

CODES = {
    "done": OK,
    "unchanged": OK,
    "conflict": CONFLICT,
    "refused": USAGE,
    "missing": MISSING,
    "failed": FAILED,
    "waiting": WAITING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How the following of one app ended."""

    app: str
    code: int
    text: str
    lines: tuple[str, ...] = ()
    """Failure: the probe, the last log lines."""
    serves: str = ""
    hint: str = ""
    change: int = 0
    result: str = ""
    release: int | None = None
    outcome: str | None = None
    duration_s: float | None = None

    def render(self) -> dict[str, Any]:
        """Render it for programs."""
        return {
            "app": self.app,
            "change": self.change,
            "result": self.result,
            "release": self.release,
            "outcome": self.outcome,
            "exit": self.code,
            "message": self.text,
            "lines": list(self.lines),
            "duration_s": self.duration_s,
        }


def wait_text(view: dict[str, Any], change: int) -> str:
    """Say what is going on before our order is answered."""
    if view.get("engine", "up") != "up":
        return "waiting for the engine, which is not reachable"
    return view["message"] if view.get("change", 0) >= change and view["message"] else "waiting for the controller"


def progress_text(view: dict[str, Any]) -> str:
    """Say where a rollout is."""
    parts = [f"release {view['target']}", view["phase"] or "", view["step"] or ""]
    return " ".join(part for part in parts if part) + (f": {view['message']}" if view["message"] else "")


def serves_text(view: dict[str, Any]) -> str:
    """Say what serves now."""
    if view.get("release") is None:
        return "nothing is live: no release ever was"
    counts = view["replicas"]
    return f"release {view['release']} serves ({view['image']}, {counts['ready']} of {counts['wanted']} replicas ready)"


DONE = {"suspend": "suspended", "resume": "resumed"}
"""What is said of an order that was carried out."""


def default_text(verb: str, result: str) -> str:
    """Say what happened where the service gave no words for it."""
    known = {"unchanged": "unchanged: this is already live", "done": DONE.get(verb, f"{verb}: done")}
    return known.get(result, f"{verb}: {result}")


def hint_failed(app: str) -> str:
    """Say what to do after a failed rollout."""
    return f"fix the spec and apply it again, or retry as it is: oton retry {app}"


def hint_for(app: str, verb: str, code: int, view: dict[str, Any]) -> str:
    """Say what to do after an order that did not begin a release."""
    conditions = view.get("conditions", [])
    if code == WAITING:
        next_by = {"suspended": f"oton resume {app}", "held": f"oton retry {app}"}
        found = next((text for name, text in next_by.items() if name in conditions), "")
        return found or f"oton status {app}"
    if code == CONFLICT:
        return f"oton unpin {app}" if "pinned" in conditions and verb == "apply" else f"oton status {app}"
    if code == MISSING:
        return f"oton history {app}"
    return hint_failed(app) if code == FAILED else ""
