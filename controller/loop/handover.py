"""A release's secrets on their way into one container: values for its environment, files below /run/secrets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from controller.errors import Refused
from controller.plan.reasons import say_missing
from controller.plan.situation import Release


class Secrets(Protocol):
    """The secrets of apps, as far as a pass asks them."""

    def versions(self, app: str) -> Mapping[str, int]: ...
    def values(self, app: str, names: Collection[str]) -> Mapping[str, str]: ...
    def mask(self, app: str, text: str) -> str: ...


class Files(Protocol):
    """Where secret files lie for the engine to mount."""

    def lay(self, app: str, key: str, values: Mapping[str, str], *, anew: bool = True) -> Mapping[str, str]: ...
    def has(self, app: str, key: str, names: Collection[str]) -> bool: ...
    def drop(self, app: str, key: str) -> None: ...


class NoSecrets:
    """Nobody has any."""

    def versions(self, app: str) -> Mapping[str, int]:
        return {}

    def values(self, app: str, names: Collection[str]) -> Mapping[str, str]:
        return {}

    def mask(self, app: str, text: str) -> str:
        return text


class NoFiles:
    """Nowhere to lay any."""

    def lay(self, app: str, key: str, values: Mapping[str, str], *, anew: bool = True) -> Mapping[str, str]:
        if values:
            raise Refused("secret files: there is no place for them")
        return {}

    def has(self, app: str, key: str, names: Collection[str]) -> bool:
        return not names

    def drop(self, app: str, key: str) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """What one container gets."""

    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Name under /run/secrets -> path on the host."""


def hand_out(app: str, release: Release, secrets: Secrets, files: Files, key: str = "") -> Handed:
    """
    Return what a new container of *release* gets, with its files laid out under *key* (the release's own).

    Raises Refused, with the next command, if a secret is not set.
    """
    names = [one.name for one in release.spec.secrets]
    if not names:
        return Handed()
    values = dict(secrets.values(app, names))
    lacking = [name for name in names if name not in values]
    if lacking:
        raise Refused(say_missing(app, lacking))
    as_file = set(names_of_files(release))
    return Handed(
        environment={name: values[name] for name in names if name not in as_file},
        files=files.lay(app, key or release.container_digest, {name: values[name] for name in sorted(as_file)}),
    )


def hand_again(app: str, release: Release, secrets: Secrets, files: Files) -> None:
    """
    Put the files of a container that is started again back in their place, as after a reboot.

    Files that are still there stay: they are the ones that this container was made with.
    """
    names = names_of_files(release)
    if names and not files.has(app, release.container_digest, names):
        files.lay(app, release.container_digest, secrets.values(app, names), anew=False)


def names_of_files(release: Release) -> tuple[str, ...]:
    """Return the secrets that the release wants as files."""
    return tuple(one.name for one in release.spec.secrets if one.file)
