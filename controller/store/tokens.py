"""
AppTokens: `oton_` and 32 random bytes, of which only the hash is stored.

Checking one asks memory alone, so it works while the disk is full and ends at once for a revoked one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal, cast

import structlog
from sqlalchemy import Row, Select, insert, select, update

from controller.clock import Clock
from controller.errors import ControllerError, Refused
from controller.store.codec import dump
from controller.store.schema import TokenRow
from controller.store.thread import StoreThread, Transaction

Scope = Literal["read", "deploy", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "deploy", "admin")
PREFIX = "oton_"
USED_EVERY_S = 60.0
"""How exactly `last_used` is kept; finer would be a write per request."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/-]{0,63}")
_SECRET = re.compile(re.escape(PREFIX) + r"[A-Za-z0-9_-]{43}")
_log = structlog.get_logger("store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """One who asks with a valid token, and what it may touch."""

    token: int
    name: str
    scope: Scope
    apps: frozenset[str] | None = None
    """None: all."""
    hosts: tuple[str, ...] = ()
    """Host patterns that its specs may claim beside those that the app has."""
    expires: float | None = None
    """Wall second at which the token ends by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One AppToken as people see it; its secret is nowhere. Times are wall seconds."""

    id: int
    name: str
    scope: Scope
    apps: frozenset[str] | None = None
    hosts: tuple[str, ...] = ()
    by: str = ""
    created: float = 0.0
    expires: float | None = None
    last_used: float | None = None
    """To the minute."""
    revoked: float | None = None

    @property
    def principal(self) -> Principal:
        """Return who asks when this token is shown."""
        return Principal(
            token=self.id, name=self.name, scope=self.scope, apps=self.apps, hosts=self.hosts, expires=self.expires
        )


class Tokens:
    """All AppTokens."""

    def __init__(self, thread: StoreThread, clock: Clock) -> None:
        self._thread = thread
        self._clock = clock
        self._by_hash: dict[str, Token] = {}
        self._used: dict[int, float] = {}
        self._gate = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        thread.on_open(self._read_all)

    def create(
        self,
        name: str,
        *,
        scope: Scope = "deploy",
        apps: Collection[str] | None = None,
        hosts: Collection[str] = (),
        ttl_s: float | None = None,
        by: str = "",
    ) -> tuple[str, Token]:
        """Make a token; return its secret, to be shown this once, and what is kept. Refused if the name is taken."""
        if not _NAME.fullmatch(name):
            raise Refused(f'token name: found "{name[:80]}", allowed: up to 64 of letters, digits and . _ - @ /')
        if scope not in SCOPES:
            raise Refused(f'scope: found "{scope}", allowed: {", ".join(SCOPES)}')
        if ttl_s is not None and ttl_s <= 0:
            raise Refused(f"ttl: found {ttl_s:g} s, allowed: more than 0")
        secret = PREFIX + secrets.token_urlsafe(32)
        now = self._clock.now().wall
        token = Token(
            id=0,
            name=name,
            scope=scope,
            apps=None if apps is None else frozenset(apps),
            hosts=tuple(sorted(set(hosts))),
            by=by,
            created=now,
            expires=None if ttl_s is None else now + ttl_s,
        )
        return secret, self._thread.call(lambda tx: self._insert(tx, token, _hash(secret)))

    def list(self) -> tuple[Token, ...]:
        """Return all tokens, revoked and expired ones too, oldest first."""
        return tuple(sorted(self._by_hash.copy().values(), key=lambda token: token.id))

    def revoke(self, name: str) -> Token:
        """End the token of that name at once; Refused if there is none that is not revoked already."""
        return self._thread.call(lambda tx: self._revoke(tx, name))

    def verify(self, secret: str) -> Principal | None:
        """Return who shows *secret*; None if it is wrong, expired or revoked."""
        shown = _hash(secret if _SECRET.fullmatch(secret) else "")
        now = self._clock.now().wall
        token = None
        for hash_, one in self._by_hash.copy().items():
            # No early way out: how long it takes must not tell which token is near.
            if hmac.compare_digest(shown, hash_):
                token = one
        if token is None or not _is_valid(token, now):
            return None
        self._note_use(token, now)
        return token.principal

    def is_in_force(self, number: int) -> bool:
        """Say whether the token of that number is there, neither revoked nor expired."""
        now = self._clock.now().wall
        return any(one.id == number and _is_valid(one, now) for one in self._by_hash.copy().values())

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call *listener* whenever tokens were revoked or replaced; one that expires does so in silence."""
        self._listeners.append(listener)

    def _tell_end(self) -> None:
        for listener in self._listeners:
            listener()

    def _note_use(self, token: Token, now: float) -> None:
        with self._gate:
            if now - self._used.get(token.id, token.last_used or 0.0) < USED_EVERY_S:
                return
            self._used[token.id] = now
        try:
            # Nobody waits for it: a full disk must not lock people out who come to mend it.
            self._thread.submit(lambda tx: self._save_use(tx, token.id, now))
        except ControllerError as error:
            _log.debug("the use of a token is not recorded", token=token.name, error=str(error))

    def _read_all(self, tx: Transaction) -> None:
        tokens = dict(map(_token, tx.connection.execute(_columns())))
        tx.afterwards(lambda: self._replace_all(tokens))

    def _replace_all(self, tokens: dict[str, Token]) -> None:
        self._by_hash = tokens
        self._tell_end()

    def _insert(self, tx: Transaction, token: Token, hash_: str) -> Token:
        if self._find(token.name) is not None:
            raise Refused(f"token {token.name}: already exists; revoke it first or choose another name")
        values = {
            "name": token.name,
            "hash": hash_,
            "scope": token.scope,
            "apps": None if token.apps is None else dump(sorted(token.apps)),
            "hosts": dump(list(token.hosts)),
            "by": token.by,
            "created": token.created,
            "expires": token.expires,
        }
        number = tx.connection.execute(insert(TokenRow).values(values).returning(TokenRow.id)).scalar_one()
        stored = replace(token, id=number)
        tx.afterwards(lambda: self._by_hash.__setitem__(hash_, stored))
        return stored

    def _revoke(self, tx: Transaction, name: str) -> Token:
        found = self._find(name)
        if found is None:
            raise Refused(f"token {name}: no valid token of that name; see: oton token list")
        hash_, token = found
        revoked = replace(token, revoked=self._clock.now().wall)
        tx.connection.execute(update(TokenRow).where(TokenRow.id == token.id).values(revoked=revoked.revoked))
        tx.afterwards(lambda: self._end(hash_, revoked))
        return revoked

    def _end(self, hash_: str, revoked: Token) -> None:
        self._by_hash[hash_] = revoked
        self._tell_end()

    def _save_use(self, tx: Transaction, number: int, at: float) -> None:
        tx.connection.execute(update(TokenRow).where(TokenRow.id == number).values(last_used=at))
        used = {hash_: replace(one, last_used=at) for hash_, one in self._by_hash.items() if one.id == number}
        tx.afterwards(lambda: self._by_hash.update(used))

    def _find(self, name: str) -> tuple[str, Token] | None:
        now = self._clock.now().wall
        return next((pair for pair in self._by_hash.items() if pair[1].name == name and _is_valid(pair[1], now)), None)


def _is_valid(token: Token, now: float) -> bool:
    return token.revoked is None and (token.expires is None or now < token.expires)


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _columns() -> Select[int, str, str, str, str | None, str, str, float, float | None, float | None, float | None]:
    row = TokenRow
    return select(
        row.id,
        row.name,
        row.hash,
        row.scope,
        row.apps,
        row.hosts,
        row.by,
        row.created,
        row.expires,
        row.last_used,
        row.revoked,
    )


def _token(
    row: Row[int, str, str, str, str | None, str, str, float, float | None, float | None, float | None],
) -> tuple[str, Token]:
    id_, name, hash_, scope, apps, hosts, by, created, expires, last_used, revoked = row
    return hash_, Token(
        id=id_,
        name=name,
        scope=cast(Scope, scope),
        apps=None if apps is None else frozenset(json.loads(apps)),
        hosts=tuple(json.loads(hosts)),
        by=by,
        created=created,
        expires=expires,
        last_used=last_used,
        revoked=revoked,
    )
