"""What differs between two specs, field by field, as people write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.spec.base import Part
from controller.spec.model import CONTAINER_FIELDS, AppSpec
from controller.spec.plain import written_field, written_value
from controller.spec.render import render_flow

BAKED_IN = frozenset(CONTAINER_FIELDS)


@dataclass(frozen=True, slots=True)
class Change:
    """One field that two specs have differently."""

    field: str
    """Dotted: `resources.memory`, `environment.LOG_LEVEL`."""
    old: str | None
    """As people write it, on one line; None: it was not there."""
    new: str | None
    """None: it is not there any more."""
    replaces: bool
    """A change of it replaces containers."""

    @property
    def text(self) -> str:
        """The change in one line."""
        if self.old is None:
            return f"{self.field}: {self.new}"
        return f"{self.field}: {self.old} -> {'(none)' if self.new is None else self.new}"


def diff_specs(old: AppSpec | None, new: AppSpec) -> tuple[Change, ...]:
    """Return what differs, in the order of the model's fields; *old* None: everything that *new* sets.

    Equal specs give (). A value is shown although it is a default, so that `1 -> 2` can be read.
    """
    before = AppSpec(name=new.name, image=new.image) if old is None else old
    changes = tuple(_diff_parts((), before, new))
    if old is not None:
        return changes
    firsts = (Change("image", None, render_flow(new.image), replaces=True),)
    return firsts + tuple(Change(change.field, None, change.new, change.replaces) for change in changes)


def _diff_parts(path: tuple[str, ...], old: Part, new: Part) -> Iterator[Change]:
    for name, info in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        place = (*path, info.alias or name)
        if before == after:
            continue
        if isinstance(before, Part) and type(before) is type(after):
            yield from _diff_parts(place, before, after)
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _diff_mappings(place, before, after)
        else:
            yield _change(
                place,
                written_field(type(old), place[-1], before),
                written_field(type(new), place[-1], after),
            )


def _diff_mappings(path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for key in sorted({*old, *new}):
        if key in old and key in new and old[key] == new[key]:
            continue
        place = (*path, key)
        before = _show(written_value(old[key])) if key in old else None
        after = _show(written_value(new[key])) if key in new else None
        yield Change(".".join(place), before, after, replaces=_is_baked_in(place))


def _change(place: tuple[str, ...], old: Any, new: Any) -> Change:
    before = None if old in (None, []) else _show(old)
    after = None if new in (None, []) else _show(new)
    return Change(".".join(place), before, after, replaces=_is_baked_in(place))


def _show(value: Any) -> str:
    return render_flow(value)


def _is_baked_in(place: tuple[str, ...]) -> bool:
    return place[0] in BAKED_IN or place[:2] == ("health", "command")
