"""
Which rule a host and a path belong to.

A host is looked up exactly, then as a wildcard's subdomain, then among the rules for any host; within the
first of these that has a matching path, the longest path wins. The cost of a look-up grows with the segments
of the path (and no further than the deepest rule of that host), never with the number of routes. Announced rules
take part as all others do, but take no request from the app that announces them, nor from one that answers until
its heir is ready.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from controller.routing.table import AppRoutes, Rule, Table

HostClass = Literal["exact", "wildcard", "any"]
_CLASSES: tuple[HostClass, ...] = ("any", "wildcard", "exact")
"""The more specific, the later."""


class BadTarget(ValueError):
    """The request's host or path cannot be read in one way only; the answer is 400."""


@dataclass(frozen=True, slots=True)
class Match:
    """One rule that a request belongs to, and why."""

    app: str
    rule: Rule
    host_class: HostClass

    def explain(self) -> str:
        """Render the reason for a person, such as `host shop.example.com (exact), path /api`."""
        host = self.rule.host or "any host"
        return f"host {host} ({self.host_class}), path {self.rule.path}"


@dataclass(slots=True)
class _Paths:
    """The rules of one host, by their normalised path without its final slash."""

    by_path: dict[str, Match] = field(default_factory=dict)
    waiting: dict[str, list[Match]] = field(default_factory=dict)
    """Rules whose host and path another app has, in case that one leaves."""
    depth: int = 0

    def find(self, path: str) -> Match | None:
        by_path = self.by_path
        best = by_path.get("")
        end = 0
        for _ in range(self.depth):
            end = path.find("/", end + 1)
            if end < 0:
                return by_path.get(path, best)
            best = by_path.get(path[:end], best)
        return best

    def add(self, path: str, match: Match) -> None:
        owner = self.by_path.setdefault(path, match)
        self.depth = max(self.depth, path.count("/"))
        if owner is match:
            return
        first, second = sorted((owner, match), key=lambda claim: claim.app)
        self.by_path[path] = first
        self.waiting.setdefault(path, []).append(second)

    def without(self, apps: Collection[str]) -> _Paths:
        kept = _Paths({path: match for path, match in self.by_path.items() if match.app not in apps})
        kept.depth = max((path.count("/") for path in kept.by_path), default=0)
        for path, matches in self.waiting.items():
            for match in matches:
                if match.app not in apps:
                    kept.add(path, match)
        return kept


@dataclass(frozen=True, slots=True)
class _Index:
    """Rules by their host; immutable once made."""

    hosts: Mapping[str, _Paths] = field(default_factory=dict)
    has_wildcards: bool = False

    def find(self, host: str, path: str) -> Match | None:
        paths = self.hosts.get(host)
        if paths is not None and (match := paths.find(path)) is not None:
            return match
        if self.has_wildcards:
            paths = self.hosts.get("*." + host.partition(".")[2])
            if paths is not None and (match := paths.find(path)) is not None:
                return match
        paths = self.hosts.get("")
        return paths.find(path) if paths is not None else None

    def change(self, before: Iterable[AppRoutes | None], after: Iterable[AppRoutes], *, announced: bool) -> _Index:
        """Return the index without the rules of *before*, and with those of *after*."""
        hosts = dict(self.hosts)
        left = [entry for entry in before if entry is not None]
        names = frozenset(entry.app for entry in left)
        for host in {rule_host(rule) for entry in left for rule in _rules(entry, announced=announced)}:
            kept = hosts.pop(host).without(names)
            if kept.by_path:
                hosts[host] = kept
        fresh: dict[str, _Paths] = {}
        for entry in after:
            for rule in _rules(entry, announced=announced):
                host = rule_host(rule)
                paths = fresh.get(host) or fresh.setdefault(host, _copy(hosts.get(host)))
                paths.add(rule_path(rule), Match(entry.app, rule, _class_of(host)))
        hosts.update(fresh)
        return _Index(hosts, self.has_wildcards or any(host.startswith("*.") for host in fresh))


class Matcher:
    """A compiled table; immutable once made, so that readers need no lock."""

    def __init__(self, table: Table, rules: _Index, announced: _Index) -> None:
        self.table = table
        self._rules = rules
        self._announced = announced

    def find(self, host: str, path: str) -> Match | None:
        """
        Return the match for a normalised host (see `normalise_host`) and a path without query; None: no route.

        Raises BadTarget where the path has an encoded slash, backslash or NUL, a broken escape, or where
        removing its dot segments and needless escapes would lead to another rule.
        """
        if "%" in path or "/." in path or "\\" in path:
            return self._find_careful(host, path)
        return self._find_plain(host, path)

    def _find_careful(self, host: str, path: str) -> Match | None:
        clean = normalise_path(path)
        match = self._find_plain(host, clean)
        if self._find_plain(host, path) is not match:
            raise BadTarget("path changes its route when it is normalised")
        return match

    def _find_plain(self, host: str, path: str) -> Match | None:
        match = self._rules.find(host, path)
        if not self._announced.hosts or (coming := self._announced.find(host, path)) is None:
            return match
        return coming if match is None or _takes(coming, match) else match

    def has_host(self, host: str) -> bool:
        """Say whether some rule names *host*, exactly or by a wildcard."""
        wild = "*." + host.partition(".")[2]
        return any(name in index.hosts for index in (self._rules, self._announced) for name in (host, wild))

    def change(self, table: Table, names: Collection[str]) -> Matcher:
        """Return the matcher of *table*, whose entries of *names* are other ones than here."""
        before = [self.table.apps.get(name) for name in names]
        after = [table.apps[name] for name in sorted(names) if name in table.apps]
        return Matcher(
            table,
            self._rules.change(before, after, announced=False),
            self._announced.change(before, after, announced=True),
        )


def compile_table(table: Table, previous: Matcher | None = None, changed: Collection[str] | None = None) -> Matcher:
    """
    Compile *table*; with *previous*, only what apps whose entry is another object claim is compiled anew.

    *changed* are the names of those apps, gone ones among them, where the caller knows them already. Where two
    apps claim the same host and path, the first app by name has it.
    """
    base = previous or Matcher(Table(), _Index(), _Index())
    names = find_changes(base.table.apps, table.apps) if changed is None else changed
    return base.change(table, frozenset(names))


def find_changes(before: Mapping[str, AppRoutes], after: Mapping[str, AppRoutes]) -> list[str]:
    """Return the names of apps whose entry is another object, and of those that are gone."""
    changed = [name for name, routes in after.items() if before.get(name) is not routes]
    if len(before) + len(changed) > len(after):
        changed += [name for name in before if name not in after]
    return changed


def conflicts(routes: AppRoutes, others: Iterable[AppRoutes]) -> tuple[tuple[Rule, str], ...]:
    """Return the rules of *routes* that another app already has, each with that app's name, sorted."""
    mine = {(rule_host(rule), rule_path(rule)): rule for rule in routes.rules}
    found = {
        (key, other.app)
        for other in others
        if other.app != routes.app
        for rule in other.rules
        if (key := (rule_host(rule), rule_path(rule))) in mine
    }
    return tuple((mine[key], app) for key, app in sorted(found))


def rule_host(rule: Rule) -> str:
    """Return the rule's host as it is compared: normalised, a wildcard with its `*.`, "" for any host."""
    if rule.host is None or rule.host == "":
        return ""
    if rule.host.startswith("*."):
        return "*." + normalise_host(rule.host[2:])
    return normalise_host(rule.host)


def rule_path(rule: Rule) -> str:
    """Return the rule's path as it is compared: normalised and without its final slash."""
    return normalise_path(rule.path or "/").rstrip("/")


def normalise_host(raw: str) -> str:
    """
    Return a Host value in lower case, in punycode, without port and final dot.

    Raises BadTarget where it is not a host name, an IPv4 address or a bracketed IPv6 address.
    """
    plain = _PLAIN_HOST.fullmatch(raw)
    if plain is not None:
        return plain[1].lower()
    bracketed = _BRACKETED_HOST.fullmatch(raw)
    if bracketed is not None:
        return bracketed[1].lower()
    try:
        host, _, port = raw.partition(":")
        name = host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise BadTarget(f"host cannot be read: {error.__class__.__name__}") from error
    if (port and not (port.isdigit() and len(port) < 6)) or not (plain := _PLAIN_HOST.fullmatch(name)):
        raise BadTarget("host has characters that are not allowed")
    return plain[1].lower()


def normalise_path(path: str) -> str:
    """
    Return *path* with unreserved escapes decoded and dot segments removed.

    Raises BadTarget for an encoded slash, backslash or NUL, a raw backslash and a broken escape.
    """
    if "\\" in path:
        raise BadTarget("path has a backslash")
    if "%" in path:
        path = _ESCAPE.sub(_decode_escape, path)
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


_PLAIN_HOST = re.compile(r"([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_-])?)\.?(?::[0-9]{0,5})?", re.ASCII)
_BRACKETED_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?", re.ASCII)
_ESCAPE = re.compile(r"%(..?)?", re.DOTALL)
_HEX = re.compile(r"[0-9A-Fa-f]{2}", re.ASCII)
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _decode_escape(found: re.Match[str]) -> str:
    digits = found[1]
    if digits is None or _HEX.fullmatch(digits) is None:
        raise BadTarget("path has a broken escape")
    char = chr(int(digits, 16))
    if char in "/\\\0":
        raise BadTarget("path has an encoded slash, backslash or NUL")
    return char if char in _UNRESERVED else "%" + digits.upper()


def _takes(coming: Match, match: Match) -> bool:
    """Say whether an announced rule takes the request that a rule in force matches."""
    if coming.app == match.app or match.rule.kept_for:
        return False
    return _rank(coming) > _rank(match)


def _rank(match: Match) -> tuple[int, int]:
    return (_CLASSES.index(match.host_class), len(rule_path(match.rule)))


def _rules(entry: AppRoutes, *, announced: bool) -> tuple[Rule, ...]:
    return tuple(rule for rule in entry.rules if rule.announced == announced)


def _copy(paths: _Paths | None) -> _Paths:
    # A reader may hold the table before: what it sees must not change under it.
    return paths.without(()) if paths is not None else _Paths()


def _class_of(host: str) -> HostClass:
    return "any" if host == "" else "wildcard" if host.startswith("*.") else "exact"
