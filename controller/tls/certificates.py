"""The certificates of the public side, each a file of the state directory, and what the workers are handed."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from controller.clock import Clock
from controller.errors import Refused, Retry
from controller.tls.pair import Pair, read_pair

log = structlog.get_logger("tls")

SOON_S = 14 * 86400.0
"""A certificate that ends within this time is worth a warning."""
_KEY_MARK = "-----BEGIN "

Publish = Callable[[Mapping[str, tuple[str, str]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One host's certificate, without its key."""

    host: str
    names: tuple[str, ...] = ()
    issuer: str = ""
    not_before: float = 0.0
    not_after: float = 0.0
    problem: str = ""
    """Why its file cannot be used; empty: it serves."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for `oton doctor`."""

    what: str
    state: Literal["ok", "warning", "error"]
    text: str
    mend: str = ""


class Certificates:
    """Keeps the folder and the workers in step; safe to use from any thread.

    *publish* is handed every pair by host at each change, and *tell* the names that they are for.
    A file holds chain and key, mode 0600, and is replaced by a rename: a crash leaves the old one or the new one.
    """

    def __init__(
        self, folder: Path, clock: Clock, publish: Publish, tell: Callable[[Collection[str]], None] = lambda _: None
    ) -> None:
        self._folder, self._clock, self._publish, self._tell = folder, clock, publish, tell
        self._lock = threading.Lock()
        self._pairs: dict[str, Pair] = {}
        self._problems: dict[str, str] = {}

    def load(self) -> None:
        """Read every file and hand the good ones out; a bad one is told and stays where it is."""
        with self._lock:
            pairs, problems = {}, {}
            for host, place in self._files():
                try:
                    pairs[host] = read_pair(*_split(place.read_text()))
                except (Refused, OSError, UnicodeDecodeError) as error:
                    problems[host] = f"{place}: {error}"
                    log.error("a certificate cannot be used", host=host, why=str(error))
            self._pairs, self._problems = pairs, problems
            self._hand_out()

    def add(self, host: str, chain: str, key: str) -> Certificate:
        """Take a certificate for *host*; Refused where it is not good for it, and the one in force stays."""
        pair = read_pair(chain, key)
        if not pair.covers(host) and host not in pair.names:
            raise Refused(f"{host}: the certificate is for {', '.join(pair.names) or 'no host'}")
        now = self._clock.now().wall
        if pair.not_after <= now:
            raise Refused(f"{host}: the certificate has expired; request a new one")
        if pair.not_before > now + 60:
            raise Refused(f"{host}: the certificate is not valid yet; is the clock right?")
        with self._lock:
            self._write(host, pair)
            self._pairs[host] = pair
            self._problems.pop(host, None)
            self._hand_out()
        return _show(host, pair)

    def remove(self, host: str) -> None:
        """Take a host's certificate away; Refused where it has none. Open connections go on."""
        with self._lock:
            if host not in self._pairs and host not in self._problems:
                raise Refused(f"{host}: no certificate; see: oton cert list")
            self._place(host).unlink(missing_ok=True)
            self._pairs.pop(host, None)
            self._problems.pop(host, None)
            self._hand_out()

    def list(self) -> tuple[Certificate, ...]:
        """Return all, by host; those that cannot be used with the reason."""
        with self._lock:
            good = [_show(host, pair) for host, pair in self._pairs.items()]
            bad = [Certificate(host=host, problem=text) for host, text in self._problems.items()]
        return tuple(sorted((*good, *bad), key=lambda one: one.host))

    def file_for(self, host: str) -> Path:
        """Return the file of chain and key that is in force for *host*; Refused says what is missing."""
        now = self._clock.now().wall
        with self._lock:
            covering = [(name, pair) for name, pair in self._pairs.items() if name == host or pair.covers(host)]
            for name, pair in sorted(covering, key=lambda one: one[0] != host):
                if pair.not_before <= now < pair.not_after:
                    return self._place(name)
        raise Refused(f"there is no certificate for {host}")

    def names(self) -> frozenset[str]:
        """Return every name that a certificate in force is for, wildcards as they are."""
        with self._lock:
            return self._names()

    def _names(self) -> frozenset[str]:
        return frozenset(name for pair in self._pairs.values() for name in pair.names)

    def findings(self) -> Iterator[Finding]:
        """Say which certificates end soon, have ended, or cannot be used."""
        now = self._clock.now().wall
        for one in self.list():
            left_days = (one.not_after - now) / 86400
            again = f"oton cert add {one.host} --cert F --key F"
            if one.problem:
                yield Finding("certificate", "error", one.problem, again)
            elif left_days <= 0:
                yield Finding("certificate", "error", f"{one.host}: expired", again)
            elif one.not_after - now < SOON_S:
                yield Finding("certificate", "warning", f"{one.host}: ends in {left_days:.0f} days", again)
            else:
                yield Finding("certificate", "ok", f"{one.host}: {left_days:.0f} days left")

    def _hand_out(self) -> None:
        self._tell(self._names())
        self._publish({host: (pair.chain, pair.key) for host, pair in sorted(self._pairs.items())})

    def _files(self) -> Iterator[tuple[str, Path]]:
        if self._folder.is_dir():
            for place in sorted(self._folder.glob("*.pem")):
                yield place.stem, place

    def _place(self, host: str) -> Path:
        return self._folder / f"{host}.pem"

    def _write(self, host: str, pair: Pair) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd, name = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".tmp")
            with os.fdopen(fd, "w") as file:
                file.write(pair.chain.rstrip() + "\n" + pair.key.rstrip() + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._place(host))
        except OSError as error:
            raise Retry(f"the certificate could not be written to {self._folder}: {error.strerror}") from error


def _split(text: str) -> tuple[str, str]:
    """Return chain and key of one file: the key is the block that is no certificate."""
    blocks = [_KEY_MARK + part for part in text.split(_KEY_MARK)[1:]]
    chain = "".join(b for b in blocks if b.startswith(_KEY_MARK + "CERTIFICATE"))
    return chain, "".join(b for b in blocks if not b.startswith(_KEY_MARK + "CERTIFICATE"))


def _show(host: str, pair: Pair) -> Certificate:
    return Certificate(
        host=host,
        names=pair.names,
        issuer=pair.issuer,
        not_before=pair.not_before,
        not_after=pair.not_after,
    )
