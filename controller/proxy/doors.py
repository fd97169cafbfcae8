"""
What an app's policy says about a request before any replica is asked, and how headers are edited.

A `Door` is compiled once from a policy; an app without special wishes has almost nothing to check.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.routing.table import HeaderEdit, Policy


@dataclass(frozen=True, slots=True)
class Edit:
    """Header edits, ready for bytes: names in lower case, lines with their line end."""

    remove: frozenset[bytes]
    lines: bytes


class Door:
    """One app's policy, compiled."""

    __slots__ = ("hsts", "policy", "request_edit", "response_edit")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.hsts = f"Strict-Transport-Security: max-age={int(policy.hsts_s)}\r\n".encode() if policy.hsts_s else b""
        self.request_edit = _edit(policy.request_headers)
        self.response_edit = _edit(policy.response_headers)


def open_door(policy: Policy) -> Door:
    """Compile *policy*."""
    return Door(policy)


def _edit(edit: HeaderEdit) -> Edit | None:
    if not edit.set and not edit.remove:
        return None
    names = {name.lower().encode() for name in edit.remove} | {name.lower().encode() for name, _ in edit.set}
    lines = "".join(f"{name}: {value}\r\n" for name, value in edit.set)
    return Edit(frozenset(names), lines.encode("latin-1"))
