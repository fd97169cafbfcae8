"""
Whether an app's entry of the table can be served, and what is left of one that cannot.

An entry that cannot be served keeps its rules, so that its hosts answer 503 and go to no other app.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from controller.routing.access import Unfit, check_number, compile_policy, say
from controller.routing.match import rule_host, rule_path
from controller.routing.table import (
    FORMAT,
    AppRoutes,
    Group,
    Mode,
    Rule,
    Table,
    Upstream,
    UpstreamState,
    decode_app,
    decode_rules,
    decode_upstreams,
)

_GROUPS, _MODES, _STATES = get_args(Group), get_args(Mode), get_args(UpstreamState)
_FAULT = 300
"""Longest reason that is kept, in characters."""


def compile_entry(routes: AppRoutes) -> None:
    """Do everything with *routes* that a worker does when it takes them; raises Unfit where that fails."""
    check_entry(routes)
    compile_policy(routes.policy)


def check_entry(routes: AppRoutes) -> None:
    """Raise Unfit where something beside the policy cannot be served."""
    if routes.fault:
        raise Unfit(routes.fault)
    for rule in routes.rules:
        _check_rule(rule)
    for upstream in routes.upstreams:
        _check_upstream(upstream)
    for pair in routes.weights:
        if len(pair) != 2:
            raise Unfit(say("weights", pair, "pairs of release and weight"))
        for number in pair:
            check_number("weights", number)
    check_number("hold", routes.hold_s)
    _check_word("mode", routes.mode, _MODES)
    if not isinstance(routes.message, str):
        raise Unfit(say("message", routes.message, "text"))


def shut_where_unfit(routes: AppRoutes) -> AppRoutes:
    """Return *routes* themselves where they can be served; else the same, shut, with the rules that can be read."""
    try:
        check_entry(routes)
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this app alone
        return replace(routes, rules=_sound_rules(routes.rules), fault=explain(error))
    return routes


def read_entry(app: str, raw: Any, before: AppRoutes | None = None) -> AppRoutes:
    """
    Return the entry that *raw* holds; one that cannot be read is shut.

    What of it can be read is kept, and of what cannot, what the app had *before*: open requests go on to their end.
    """
    try:
        routes = decode_app(raw)
        if routes.app != app:
            raise Unfit(say("app", routes.app, app))
    except Exception as error:  # noqa: BLE001 - as above
        return _salvage(app, raw, before or AppRoutes(app=app), explain(error))
    return routes


def decode_table(raw: Mapping[str, Any], before: Mapping[str, AppRoutes] | None = None) -> Table:
    """
    Read what `encode_table` wrote, or with a `base` a change to the apps that were there *before* (null: gone).

    An entry that cannot be read is shut and harms no other. Raises ValueError for a format that is neither ours nor
    the one before, and where there is no table at all.
    """
    if raw.get("format") not in (FORMAT, FORMAT - 1):
        raise ValueError(f"route table: found format {raw.get('format')!r}, allowed: {FORMAT - 1}, {FORMAT}")
    before, changes = before or {}, raw.get("apps", {})
    apps = dict(before) if raw.get("base") is not None else {}
    for name, entry in changes.items():
        if entry is not None:
            apps[name] = read_entry(name, entry, before.get(name))
        else:
            apps.pop(name, None)
    return Table(version=int(raw["version"]), sticky_key=str(raw.get("sticky_key", "")), apps=apps)


def explain(error: Exception) -> str:
    """Return an exception in words, for a person, at a bounded length."""
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}".strip()
    return (text or type(error).__name__)[:_FAULT]


def _salvage(app: str, raw: Any, before: AppRoutes, fault: str) -> AppRoutes:
    rules, upstreams = before.rules, before.upstreams
    try:
        rules = _sound_rules(decode_rules(raw))
        upstreams = decode_upstreams(raw)
    except Exception:  # noqa: BLE001 - then those before
        return AppRoutes(app=app, rules=rules, upstreams=upstreams, fault=fault)
    return AppRoutes(app=app, rules=rules, upstreams=upstreams, fault=fault)


def _sound_rules(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if _is_sound(rule))


def _is_sound(rule: Rule) -> bool:
    try:
        _check_rule(rule)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _check_rule(rule: Rule) -> None:
    for name, value in (("host", rule.host), ("path", rule.path)):
        if not isinstance(value, str | None):
            raise Unfit(say(f"routes.{name}", value, "text"))
    try:
        rule_host(rule), rule_path(rule)
    except ValueError as error:
        raise Unfit(f"routes: {rule.host or 'any host'}{rule.path}: {error}") from error
    _check_word("routes.group", rule.group, _GROUPS)
    for name, flag in (("strip", rule.strip), ("announced", rule.announced)):
        if not isinstance(flag, bool):
            raise Unfit(say(f"routes.{name}", flag, "true or false"))


def _check_upstream(upstream: Upstream) -> None:
    for name, value in (("id", upstream.id), ("address", upstream.address)):
        if not isinstance(value, str):
            raise Unfit(say(f"upstream {name}", value, "text"))
    check_number("upstream port", upstream.port)
    check_number("upstream release", upstream.release)
    if upstream.until is not None:
        check_number("upstream until", upstream.until)
    _check_word("upstream state", upstream.state, _STATES)
    _check_word("upstream group", upstream.group, _GROUPS)


def _check_word(place: str, value: object, words: tuple[str, ...]) -> None:
    if value not in words:
        raise Unfit(say(place, value, ", ".join(words)))
