"""Volumes, in Compose's short form and in its mapping form."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from controller.spec.base import Part
from controller.spec.faults import allowed
from controller.spec.values import Flag

NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$", re.ASCII)
MODES = {
    "ro": None,
    "rw": None,
    "z": "any",
    "Z": "any",
    "nocopy": "volume",
    "shared": "bind",
    "slave": "bind",
    "private": "bind",
    "rshared": "bind",
    "rslave": "bind",
    "rprivate": "bind",
}
OPTIONS = tuple(mode for mode, kind in MODES.items() if kind is not None)
IGNORED_MODES = frozenset({"cached", "delegated", "consistent"})
"""Docker Desktop's old consistency words; Compose takes them and they do nothing."""

SAY_VOLUME = "NAME:/path, /host/path:/path (with :ro if need be), or {name: X, external: true, target: /path}"
SAY_TARGET = "an absolute path in the container, below /"
SAY_SOURCE = "a volume name ([a-zA-Z0-9][a-zA-Z0-9_.-]*) or an absolute host path"


class Volume(Part):
    """One mount of a replica."""

    type: Literal["volume", "bind"] = "volume"
    """volume: kept by the engine; bind: a path of the host."""
    source: str = ""
    """Volume name or absolute host path; empty: an anonymous volume that goes with its container."""
    target: str
    """Absolute path in the container."""
    read_only: Flag = False
    """Mount it read-only."""
    external: Flag = False
    """The volume bears exactly this name and is somebody else's; without it, `data` of app `shop` is `shop_data`."""
    options: tuple[str, ...] = ()
    """Further mount options of the short form: z, Z, nocopy, or a bind's propagation."""

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any) -> Any:
        if isinstance(value, str):
            return _read_short(value)
        return _read_long(value) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _check_target(self.target)
        if self.type == "bind" and not _is_host_path(self.source):
            raise allowed("an absolute host path", "source")
        if self.type == "volume" and self.source and not NAME.fullmatch(self.source):
            raise allowed("a volume name ([a-zA-Z0-9][a-zA-Z0-9_.-]*)", "source")
        if self.external and (self.type != "volume" or not self.source):
            raise allowed("external only for a named volume", "external")
        for option in self.options:
            if option not in OPTIONS or MODES[option] not in {"any", self.type}:
                raise allowed(f"{_say_modes(self.type, OPTIONS)}; read_only is a field", "options")
        return self


def _say_modes(kind: str, modes: Collection[str] = MODES) -> str:
    return ", ".join(mode for mode in modes if MODES[mode] in {None, "any", kind})


def _check_target(target: str) -> None:
    if not _is_host_path(target) or target.strip("/") == "":
        raise allowed(SAY_TARGET, "target")


def _is_host_path(path: str) -> bool:
    return path.startswith("/") and "\0" not in path and ".." not in path.split("/")


def _read_short(text: str) -> dict[str, Any]:
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise allowed(SAY_VOLUME)
    if len(parts) == 1:
        return {"target": parts[0]} if parts[0].startswith("/") else _refuse(SAY_VOLUME)
    source, target = parts[:2]
    kind = "bind" if source.startswith("/") else "volume"
    if kind == "volume" and not NAME.fullmatch(source):
        # A relative path has nothing to be relative to: uploads move documents between files.
        raise allowed(SAY_SOURCE)
    if not _is_host_path(target):
        raise allowed(SAY_VOLUME)
    modes = [mode for mode in (parts[2].split(",") if len(parts) == 3 else []) if mode not in IGNORED_MODES]
    for mode in modes:
        if mode not in MODES or MODES[mode] not in {None, "any", kind}:
            raise allowed(f"the modes {_say_modes(kind)}")
    options = tuple(sorted(set(modes) - {"ro", "rw"}))
    return {"type": kind, "source": source, "target": target, "read_only": "ro" in modes, "options": options}


def _refuse(text: str) -> Any:
    raise allowed(text)


def _read_long(raw: Mapping[str, Any]) -> dict[str, Any]:
    value = dict(raw)
    if "name" in value:
        if "source" in value:
            raise allowed("either name or source", "name")
        if value.get("external") is not True:
            raise allowed("name only together with external: true; without it, use source", "name")
        value["source"] = value.pop("name")
    if "type" not in value and isinstance(value.get("source"), str) and value["source"].startswith("/"):
        value["type"] = "bind"
    return value


_SHORT_SCHEMA = {"type": "string", "pattern": r"^[^:]+(:/[^:]*(:[A-Za-z,]+)?)?$", "examples": ["data:/var/lib/app"]}
_LONG_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["target"],
    "properties": {
        "type": {"enum": ["volume", "bind"]},
        "name": {"type": "string", "description": "Exact name of an existing volume; together with external: true."},
        "source": {"type": "string", "description": "Volume name, or absolute host path."},
        "target": {"type": "string", "pattern": "^/", "description": "Absolute path in the container."},
        "read_only": {"type": "boolean", "default": False},
        "external": {"type": "boolean", "default": False},
        "options": {"type": "array", "items": {"enum": sorted(OPTIONS)}},
    },
}


def _read_volumes(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise allowed(f"a list; each item {SAY_VOLUME}")
    return value


Volumes = Annotated[
    tuple[Volume, ...],
    BeforeValidator(_read_volumes),
    WithJsonSchema({"type": "array", "items": {"anyOf": [_SHORT_SCHEMA, _LONG_SCHEMA]}}),
]
