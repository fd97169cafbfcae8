"""How a validator says what is allowed, so that the parser can put file, line and field in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import PydanticCustomError

Place = tuple[str | int, ...]
"""A path of keys and list positions from the field that is being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong: either *allowed* beside what was found there, or a whole *message*."""

    at: Place = ()
    allowed: str = ""
    message: str = ""

    @property
    def text(self) -> str:
        """The fault in words, without what was found."""
        return self.message or f"allowed: {self.allowed}"


def faulty(faults: Sequence[Fault]) -> PydanticCustomError:
    """Return the error to raise for *faults*; the parser reads them from its context."""
    text = "; ".join(".".join(map(str, fault.at)) + (": " if fault.at else "") + fault.text for fault in faults)
    return PydanticCustomError("spec", "{text}", {"text": text, "faults": tuple(faults)})


def allowed(text: str, *at: str | int) -> PydanticCustomError:
    """Return the error that says what is allowed at *at*, below the field being read."""
    return faulty([Fault(at=at, allowed=text)])
