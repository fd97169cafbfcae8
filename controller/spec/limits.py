"""What one replica may use, and which secrets it gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, WithJsonSchema, model_validator

from controller.spec.base import Part
from controller.spec.faults import allowed
from controller.spec.values import Cpus, Flag, Size, Whole

LEAST_MEMORY = 6 * 1024**2
_SECRET = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$", re.ASCII)


class Resources(Part):
    """Limits of one replica; what is absent is not limited."""

    cpus: Cpus | None = None
    """Cores that it may use at most, such as 0.5."""
    memory: Size | None = None
    """Memory that it may use at most; at least 6M. Beyond it the kernel kills it."""
    pids: Whole | None = Field(default=None, ge=1, le=4_194_304)
    """Processes and threads that it may have at most."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.memory is not None and self.memory < LEAST_MEMORY:
            raise allowed("at least 6M, which is the least that the engine takes", "memory")
        return self


class Ulimit(Part):
    """One kernel limit; -1 is unlimited."""

    soft: Whole = Field(ge=-1)
    """What holds at first."""
    hard: Whole = Field(ge=-1)
    """What the process may raise it to."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"soft": value, "hard": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.hard != -1 and (self.soft == -1 or self.soft > self.hard):
            raise allowed("soft at most as large as hard", "soft")
        return self


class SecretRef(Part):
    """A secret of the app, by name."""

    name: str = Field(pattern=_SECRET.pattern)
    """Its name in `oton secret set`."""
    file: Flag = False
    """Hand it in as the file /run/secrets/NAME; otherwise as an environment variable."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


_SECRET_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": _SECRET.pattern},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "pattern": _SECRET.pattern},
                "file": {"type": "boolean", "default": False},
            },
        },
    ]
}
_ULIMIT_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": -1},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["soft", "hard"],
            "properties": {"soft": {"type": "integer", "minimum": -1}, "hard": {"type": "integer", "minimum": -1}},
        },
    ]
}

Secrets = Annotated[tuple[SecretRef, ...], WithJsonSchema({"type": "array", "items": _SECRET_SCHEMA})]
Ulimits = Annotated[Mapping[str, Ulimit], WithJsonSchema({"type": "object", "additionalProperties": _ULIMIT_SCHEMA})]
