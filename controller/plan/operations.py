"""The closed family of things a pass may do: one operation, one outside act, one reason."""

from __future__ import annotations

from dataclasses import dataclass

from controller.routing.table import AppRoutes


@dataclass(frozen=True, slots=True)
class ResolveImage:
    """Start turning the image reference of a release (or of a check for a moved image) into an id."""

    key: str
    """Names this resolution in `World.resolutions`; a second one under the same key is not started."""
    ref: str
    policy: str
    """missing, always or never."""
    because: str


@dataclass(frozen=True, slots=True)
class RunBefore:
    """Start the release's `before` command as a one-off container and return."""

    release: int
    because: str


@dataclass(frozen=True, slots=True)
class StartReplica:
    """Create and start one replica; where it was created already, start it."""

    release: int
    """Whose spec and image it is made from."""
    index: int
    because: str


@dataclass(frozen=True, slots=True)
class RestartReplica:
    """Start an existing, exited container again (recreate's way back; after a reboot)."""

    replica: str
    name: str
    because: str


@dataclass(frozen=True, slots=True)
class PublishRoutes:
    """Hand the app's new entry of the table to the proxy; None takes the app out of it."""

    routes: AppRoutes | None
    because: str


@dataclass(frozen=True, slots=True)
class StopReplica:
    """Send the stop signal and return; a later pass sees it exited or kills it."""

    replica: str
    name: str
    because: str


@dataclass(frozen=True, slots=True)
class KillReplica:
    """Send SIGKILL: the grace is over."""

    replica: str
    name: str
    because: str


@dataclass(frozen=True, slots=True)
class RemoveReplica:
    """Remove a container that does not run."""

    replica: str
    name: str
    because: str


@dataclass(frozen=True, slots=True)
class KeepLogs:
    """Read the last lines of a container before it goes, so that a person can be shown why."""

    replica: str
    name: str
    because: str


Operation = (
    ResolveImage
    | RunBefore
    | StartReplica
    | RestartReplica
    | PublishRoutes
    | StopReplica
    | KillReplica
    | RemoveReplica
    | KeepLogs
)
