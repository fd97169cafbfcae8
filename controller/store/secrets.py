"""
Secrets of apps: encrypted in the file, in memory only for as long as the service runs.

A version is a change number, so a value that was set after the database was lost or an older copy restored
never passes for the one that a running container was made with.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import select, update

from controller.clock import Clock
from controller.errors import Refused
from controller.store.counters import Counters
from controller.store.hiding import Hidden, hide, list_hidden
from controller.store.keyfile import Key, load_keys, make_key, save_keys
from controller.store.schema import SecretRow
from controller.store.statements import put_row
from controller.store.thread import StoreThread, Transaction

LONGEST_BYTES = 64 * 1024
"""Beyond it the kernel would refuse the environment of a container together with a few others."""
RETIRED = 16
"""So many former values of an app stay masked: replicas that were made with them may still run and write logs."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One secret as people see it: all but its value."""

    name: str
    version: int
    at: float
    """Wall seconds when it was set."""
    by: str = ""


@dataclass(frozen=True, slots=True)
class _Sealed:
    shown: Secret
    key_id: str
    sealed: bytes


_Apps = Mapping[str, Mapping[str, _Sealed]]


class Secrets:
    """The secrets of all apps. A deleted app keeps its own."""

    def __init__(self, thread: StoreThread, counters: Counters, clock: Clock, key_file: Path) -> None:
        self._thread = thread
        self._counters = counters
        self._clock = clock
        self._key_file = key_file
        self._keys: tuple[Key, ...] | None = None
        self._apps: _Apps = MappingProxyType({})
        self._open: dict[tuple[str, str, int], str] = {}
        self._retired: dict[str, tuple[str, ...]] = {}
        self._masks: dict[str, tuple[Mapping[str, _Sealed], tuple[str, ...], Hidden]] = {}
        self._gate = threading.Lock()
        thread.on_open(self._read_all)

    def set(self, app: str, name: str, value: str, by: str = "") -> Secret:
        """Store a value under a new version and return what people may see of it; the same value changes nothing."""
        if not _NAME.fullmatch(name):
            raise Refused(f'secret name: found "{name[:80]}", allowed: letters, digits and _ . -, not a digit first')
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > LONGEST_BYTES:
            raise Refused(f"secret {name}: found {size} bytes, allowed: at most {LONGEST_BYTES}")
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise Refused(f"secret {name}: found a NUL or bytes that are not text, allowed: UTF-8 text")
        return self._thread.call(lambda tx: self._set(tx, app, name, value, by))

    def list(self, app: str) -> tuple[Secret, ...]:
        """Return the app's secrets by name, without their values."""
        return tuple(one.shown for _, one in sorted(self._apps.get(app, {}).items()))

    def remove(self, app: str, name: str) -> None:
        """Forget a secret's value; Refused if there is none."""
        self._thread.call(lambda tx: self._remove(tx, app, name))

    def versions(self, app: str) -> Mapping[str, int]:
        """Return the version of each of the app's secrets, by name."""
        return {name: one.shown.version for name, one in sorted(self._apps.get(app, {}).items())}

    def values(self, app: str, names: Collection[str]) -> Mapping[str, str]:
        """Return the values of *names*; Refused, naming all that are missing, if one is not set."""
        kept = self._apps.get(app, {})
        missing = sorted(name for name in names if name not in kept)
        if missing:
            raise Refused(
                f"secret {', '.join(missing)} of {app} is not set; set it with: oton secret set {app} {missing[0]}"
            )
        return {name: self._value(app, kept[name]) for name in sorted(names)}

    def mask(self, app: str, text: str) -> str:
        """Return *text* with every known value of the app's secrets, and every long line of one, as `***`."""
        if not text or (app not in self._apps and app not in self._retired):
            return text
        return hide(text, self._hidden(app))

    def rotate_key(self) -> str:
        """Encrypt everything with a new key, drop the old ones and return the new one's id."""
        return self._thread.call(self._rotate)

    def _value(self, app: str, kept: _Sealed) -> str:
        at = (app, kept.shown.name, kept.shown.version)
        with self._gate:
            value = self._open.get(at)
            if value is None:
                value = self._key(kept.key_id).open(kept.sealed, _label(*at))
                self._open[at] = value
        return value

    def _hidden(self, app: str) -> Hidden:
        kept, retired = self._apps.get(app, {}), self._retired.get(app, ())
        known = self._masks.get(app)
        # Logs ask for each line: what is hidden is worked out once for as long as nothing changes.
        if known is None or known[0] is not kept or known[1] is not retired:
            known = (kept, retired, list_hidden([*self._open_values(app, kept), *retired]))
            self._masks[app] = known
        return known[2]

    def _open_values(self, app: str, kept: Mapping[str, _Sealed]) -> Iterator[str]:
        for one in kept.values():
            with suppress(Refused):  # its key is gone, so no container can have the value either
                yield self._value(app, one)

    def _key(self, key_id: str) -> Key:
        for key in self._load_keys():
            if key.id == key_id:
                return key
        raise Refused(f"{self._key_file}: key {key_id} of the secrets is missing; put the file back or set them again")

    def _load_keys(self) -> tuple[Key, ...]:
        if self._keys is None:
            self._keys = load_keys(self._key_file)
        return self._keys

    def _key_in_use(self) -> Key:
        keys = self._load_keys()
        if not keys:
            keys = (make_key(),)
            save_keys(self._key_file, keys)
            self._keys = keys
        return keys[0]

    def _set(self, tx: Transaction, app: str, name: str, value: str, by: str) -> Secret:
        kept = self._apps.get(app, {}).get(name)
        if kept is not None and self._holds(app, kept, value):
            return kept.shown
        with self._gate:
            key = self._key_in_use()
        shown = Secret(name=name, version=self._counters.next(tx, "change"), at=self._clock.now().wall, by=by)
        sealed = key.seal(value, _label(app, name, shown.version))
        values = {
            "app": app,
            "name": name,
            "version": shown.version,
            "key_id": key.id,
            "sealed": sealed,
            "at": shown.at,
            "by": by,
        }
        tx.connection.execute(put_row(SecretRow), values)
        after = {**self._apps.get(app, {}), name: _Sealed(shown, key.id, sealed)}
        tx.afterwards(lambda: self._replace(app, after))
        return shown

    def _holds(self, app: str, kept: _Sealed, value: str) -> bool:
        try:
            return self._value(app, kept) == value
        except Refused:
            return False  # it cannot be opened any more: setting it anew is the way out

    def _remove(self, tx: Transaction, app: str, name: str) -> None:
        after = dict(self._apps.get(app, {}))
        if after.pop(name, None) is None:
            raise Refused(f"secret {name} of {app}: not set; see: oton secret list {app}")
        row = update(SecretRow).where(SecretRow.app == app, SecretRow.name == name)
        tx.connection.execute(row.values(sealed=None, at=self._clock.now().wall))
        tx.afterwards(lambda: self._replace(app, after))

    def _rotate(self, tx: Transaction) -> str:
        old, new = self._load_keys(), make_key()
        # Both keys are on the disk before any row needs the new one, and until no row needs the old.
        save_keys(self._key_file, (new, *old))
        self._keys = (new, *old)
        apps = {
            app: {name: self._seal_anew(tx, app, kept, new) for name, kept in of.items()}
            for app, of in self._apps.items()
        }
        tx.afterwards(lambda: self._rotated(apps, new))
        return new.id

    def _seal_anew(self, tx: Transaction, app: str, kept: _Sealed, key: Key) -> _Sealed:
        sealed = key.seal(self._value(app, kept), _label(app, kept.shown.name, kept.shown.version))
        row = update(SecretRow).where(SecretRow.app == app, SecretRow.name == kept.shown.name)
        tx.connection.execute(row.values(sealed=sealed, key_id=key.id))
        return _Sealed(kept.shown, key.id, sealed)

    def _rotated(self, apps: _Apps, key: Key) -> None:
        self._apps = apps
        save_keys(self._key_file, (key,))
        self._keys = (key,)

    def _replace(self, app: str, kept: Mapping[str, _Sealed]) -> None:
        self._retire(app, kept)
        current = {(app, name, one.shown.version) for name, one in kept.items()}
        with self._gate:
            self._open = {at: value for at, value in self._open.items() if at[0] != app or at in current}
        self._apps = MappingProxyType({**self._apps, app: kept})

    def _retire(self, app: str, kept: Mapping[str, _Sealed]) -> None:
        """Remember values that are no longer in force, for masking, as long as this process lives."""
        for name, one in self._apps.get(app, {}).items():
            if name in kept and kept[name].shown.version == one.shown.version:
                continue
            with suppress(Refused):
                value = self._value(app, one)
                former = (*(v for v in self._retired.get(app, ()) if v != value), value)
                self._retired = {**self._retired, app: former[-RETIRED:]}

    def _read_all(self, tx: Transaction) -> None:
        row = SecretRow
        query = select(row.app, row.name, row.version, row.key_id, row.sealed, row.at, row.by)
        apps: dict[str, dict[str, _Sealed]] = {}
        for app, name, version, key_id, sealed, at, by in tx.connection.execute(query):
            if sealed is not None:
                shown = Secret(name=name, version=version, at=at, by=by)
                apps.setdefault(app, {})[name] = _Sealed(shown, key_id, sealed)
        tx.afterwards(lambda: self._replace_all(apps))

    def _replace_all(self, apps: _Apps) -> None:
        self._apps = apps


def _label(app: str, name: str, version: int) -> str:
    # Bound to its place, so that a row copied over another one in the file does not open there.
    return f"{app}\n{name}\n{version}"
