"""
What an engine says while it pulls: layers under way, errors that come inside a good answer, what came of it.

Pure but for the clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from controller.clock import steady_seconds
from controller.errors import Retry

_MISSING = re.compile(r"manifest unknown|not found|does not exist|no such image|name unknown", re.IGNORECASE)
_REFUSED = re.compile(
    r"unauthorized|authentication required|denied|no basic auth|forbidden|incorrect username", re.IGNORECASE
)
_PASSING = re.compile(
    r"timeout|timed out|connection (?:refused|reset)|temporary failure|no such host|EOF|unavailable|bad gateway|"
    r"toomanyrequests|too many requests|internal server error|TLS handshake|network is unreachable|i/o",
    re.IGNORECASE,
)
_DIGEST = re.compile(r"^Digest:\s*(sha256:[0-9a-f]{64})", re.IGNORECASE)


class PullError(Exception):
    """The image cannot be had; the text is for a person."""


class Progress:
    """Follows one pull; *show* gets a short line whenever there is news."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._sizes: dict[str, int] = {}
        self._loaded: dict[str, int] = {}
        self._unpacked: dict[str, int] = {}
        self._done: set[str] = set()
        self._best = (0, 0, 0)
        self._error = ""
        self._last = steady_seconds()
        self.digest = ""
        """The manifest that the pull came to; "" if the engine did not say."""
        self.text = "asking the registry"

    def quiet_s(self) -> float:
        """Return the seconds since there was more than ever before; the same again after a retry is no news."""
        return steady_seconds() - self._last

    def touch(self) -> None:
        """Count the silence from now on."""
        self._last = steady_seconds()

    def take(self, line: Mapping[str, Any]) -> None:
        """Take one message of the stream."""
        if "error" in line or "errorDetail" in line:
            detail = line.get("errorDetail") or {}
            self._error = str(line.get("error") or detail.get("message") or "unknown error")
        status, layer = str(line.get("status", "")), str(line.get("id", ""))
        if match := _DIGEST.match(status):
            self.digest = match[1]
        if layer and not status.startswith("Pulling from"):
            self._layer(layer, status, line.get("progressDetail") or {})

    def begin(self) -> None:
        """Forget the errors of an earlier try."""
        self._error, self.digest = "", ""

    def check(self, ref: str) -> None:
        """Raise if the stream, though it ended well, carried an error."""
        if self._error:
            raise judge_pull(ref, self._error)

    def _layer(self, layer: str, status: str, detail: Mapping[str, Any]) -> None:
        current = int(detail.get("current") or 0)
        self._sizes.setdefault(layer, 0)
        match status:
            case "Downloading":
                self._sizes[layer] = int(detail.get("total") or 0)
                self._loaded[layer] = current
            case "Extracting":
                self._unpacked[layer] = current
            case "Pull complete" | "Already exists":
                self._done.add(layer)
        now = (len(self._done), sum(self._loaded.values()), sum(self._unpacked.values()))
        if any(new > best for new, best in zip(now, self._best, strict=True)):
            self._best = tuple(map(max, now, self._best))  # type: ignore[assignment]
            self.touch()
        self._say(now[1])

    def _say(self, loaded: int) -> None:
        total = sum(self._sizes.values())
        size = f", {loaded / 1e6:.1f} of {total / 1e6:.1f} MB" if total else ""
        text = f"{len(self._done)} of {len(self._sizes)} layers{size}"
        if text != self.text:
            self.text = text
            self._show(text)


def judge_pull(ref: str, text: str) -> PullError | Retry:
    """Turn what the engine or the registry said into what a person can do, or into Retry if it may pass."""
    said = " ".join(text.split())[:400]
    if _PASSING.search(said) and not _REFUSED.search(said):
        return Retry(f"the registry of {ref} is not responding properly: {said}")
    if _REFUSED.search(said):
        return PullError(
            f"the registry refused the login for {ref} (or it does not exist there): {said}; "
            "run `docker login` as the user that runs oton, or check the name"
        )
    if _MISSING.search(said):
        return PullError(f"image {ref} does not exist in its registry: {said}; check name and tag")
    return PullError(f"cannot pull {ref}: {said}")
