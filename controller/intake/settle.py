"""
When what a look found counts: not while somebody is still writing.

Knows nothing of the disk; moments arrive as arguments, in steady seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from controller.intake.scan import Seen

QUIET_S = 0.015
"""A sound change counts once it stayed the same this long, so that one checkout of many files is one change."""
BATCH_S = 0.25
"""The longest that a change waits for others to come to rest."""
DOUBT_S = 0.25
"""What is empty, broken, without a last line break or missing is doubted this long: editors truncate, then write."""
DOUBT_LIMIT_S = 2.0
"""A file that keeps changing and never gets sound is a problem after this."""
NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that does not count yet."""

    seen: Seen | None
    """None: the file is not there."""
    first: float
    """Since when the file is other than what counts."""
    since: float
    """Since when it is as it is now."""

    @property
    def doubtful(self) -> bool:
        """Say whether it looks like something half done."""
        return self.seen is None or not (self.seen.sound and self.seen.whole_line)

    def ripe_at(self) -> float:
        """Return when it counts if nothing changes any more."""
        if self.doubtful:
            return min(self.since + DOUBT_S, self.first + DOUBT_LIMIT_S)
        return min(self.since + QUIET_S, self.first + BATCH_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The directory as it counts."""

    files: Mapping[str, Seen] = field(default_factory=dict)
    pending: Mapping[str, Pending] = field(default_factory=dict)
    complete: bool = True
    """False: sound changes are still coming in; judge nothing yet."""
    again_at: float | None = None


def settle_files(
    before: Settled,
    found: Mapping[str, Seen],
    now: float,
    trusted: Mapping[str, str] = NOBODY,
    *,
    urgent: bool = False,
) -> Settled:
    """
    Return what counts at *now*.

    *trusted* are files known to be whole, by digest ("": removed on purpose). *urgent*: what has come to rest
    counts even while other files are still changing.
    """
    pending = {
        file: _pend(before.pending.get(file), found.get(file), now)
        for file in sorted({*before.files, *found})
        if not _is_same(before.files.get(file), found.get(file))
    }
    ripe = {
        file
        for file, change in pending.items()
        if change.ripe_at() <= now or trusted.get(file) == (change.seen.digest if change.seen else "")
    }
    waiting = {file: change for file, change in pending.items() if file not in ripe}
    again_at = min((change.ripe_at() for change in waiting.values()), default=None)
    files = {file: seen for file, seen in before.files.items() if file not in ripe}
    if not urgent and any(not change.doubtful for change in waiting.values()):
        return Settled(files=before.files, pending=pending, complete=False, again_at=again_at)
    taken = {file: seen for file in ripe if (seen := pending[file].seen) is not None}
    return Settled(files=files | taken, pending=waiting, again_at=again_at)


def _is_same(before: Seen | None, found: Seen | None) -> bool:
    if before is None or found is None:
        return before is found
    return (before.digest, before.problem) == (found.digest, found.problem)


def _pend(known: Pending | None, seen: Seen | None, now: float) -> Pending:
    if known is None:
        return Pending(seen, now, now)
    if not _is_same(known.seen, seen) or (known.seen and seen and known.seen.stamp != seen.stamp):
        return Pending(seen, known.first, now)
    return Pending(seen, known.first, known.since)
