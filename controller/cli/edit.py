"""Edits of a spec's text that leave every comment where it is: another image, and what `env_file` holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from controller.cli.trouble import USAGE, Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key of the document's top mapping: where it and its value stand in the text."""

    key_start: int
    start: int
    end: int
    node: Any
    is_alias: bool
    column: int


def set_image(text: str, ref: str, file: str) -> str:
    """Return the one document *text* with *ref* as its image, everything else as it was."""
    entry = find_entries(text).get("image")
    if entry is None:
        raise Trouble(
            USAGE, f"{file}: --image needs a line `image:` at the top of the document", hint="add that line once"
        )
    old = text[entry.start : entry.end]
    # The end of a block scalar is the start of the next line.
    tail = "\n" if old.endswith("\n") else ""
    return text[: entry.start] + quote(ref) + tail + text[entry.end :]


def set_environment(text: str, values: Mapping[str, str | None], file: str) -> str:
    """Return the document with `env_file` taken out and *values* put below `environment`, whose own entries win."""
    entries = find_entries(text)
    own = entries.get("environment")
    if own is None:
        return replace_env_file(text, entries["env_file"], render_block(values))
    known = own_names(own.node)
    missing = {name: value for name, value in values.items() if name not in known}
    if own.is_alias or not isinstance(own.node, yaml.MappingNode | yaml.SequenceNode):
        raise Trouble(USAGE, f"{file}: env_file needs an `environment` that is a mapping or a list of its own")
    added = insert_into(text, own, missing)
    return replace_env_file(added, find_entries(added)["env_file"], "")


def find_entries(text: str) -> dict[str, Entry]:
    """Return the keys of the first document's top mapping; empty where it is none."""
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return {}
    places = list(top_places(text))
    found = {}
    for (key, value), (key_mark, start, end, is_alias) in zip(root.value, places, strict=True):
        found[str(key.value)] = Entry(
            key_start=key_mark.index,
            start=start,
            end=end,
            node=value,
            is_alias=is_alias,
            column=key_mark.column,
        )
    return found


def top_places(text: str) -> Iterator[tuple[Any, int, int, bool]]:
    """Yield for each pair of the top mapping: the key's mark, the value's start and end, and whether it is an alias."""
    depth = 0
    key: Any = None
    start, opened = 0, False
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.DocumentEndEvent):
            return
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth == 2:
                start, opened = begin(event), True
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            if depth == 1 and opened and key is not None:
                yield key, start, finish(event), False
                key, opened = None, False
        elif depth == 1 and isinstance(event, yaml.NodeEvent):
            if key is None:
                key = event.start_mark
            else:
                yield key, skip_anchor(text, event), finish(event), isinstance(event, yaml.AliasEvent)
                key = None


def begin(event: Any) -> int:
    """Return where an event begins in the text."""
    return int(event.start_mark.index)


def finish(event: Any) -> int:
    """Return where an event ends in the text."""
    return int(event.end_mark.index)


def skip_anchor(text: str, event: Any) -> int:
    """Return where a scalar itself begins, after its anchor: another place may refer to that."""
    start: int = event.start_mark.index
    if isinstance(event, yaml.ScalarEvent) and event.anchor and text[start : start + 1] == "&":
        start += len(event.anchor) + 1
        while text[start : start + 1] in (" ", "\t"):
            start += 1
    return start


def own_names(node: Any) -> set[str]:
    """Return the variables that an `environment` sets itself."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value) for key, _ in node.value}
    if isinstance(node, yaml.SequenceNode):
        return {str(entry.value).partition("=")[0] for entry in node.value}
    return set()


def insert_into(text: str, entry: Entry, values: Mapping[str, str | None]) -> str:
    """Return *text* with *values* put first into a mapping or list, in the form that it has."""
    if not values:
        return text
    is_list = isinstance(entry.node, yaml.SequenceNode)
    items = [render_item(name, value, is_list=is_list) for name, value in values.items()]
    if entry.node.flow_style:
        rest = ", " if entry.node.value else ""
        return text[: entry.start + 1] + ", ".join(items) + rest + text[entry.start + 1 :]
    column = entry.node.start_mark.column
    lead = "- " if is_list else ""
    lines = "".join(f"{lead}{item}\n{' ' * column}" for item in items)
    return text[: entry.node.start_mark.index] + lines + text[entry.node.start_mark.index :]


def replace_env_file(text: str, entry: Entry, block: str) -> str:
    """Return *text* with the `env_file` entry replaced by *block*."""
    end = entry.end
    if text[end - 1 : end] != "\n":
        line_end = text.find("\n", end)
        rest = text[end : line_end if line_end >= 0 else len(text)]
        if rest.strip() == "" or rest.lstrip().startswith("#"):
            end = len(text) if line_end < 0 else line_end + 1
            return text[: entry.key_start] + (block + "\n" if block else "") + text[end:]
        # A flow mapping on one line: the comma after it goes with it.
        comma = rest.lstrip().startswith(",")
        return text[: entry.key_start] + block + text[end + (rest.index(",") + 1 if comma and not block else 0) :]
    return text[: entry.key_start] + (block + "\n" if block else "") + text[end:]


def render_block(values: Mapping[str, str | None]) -> str:
    """Return an `environment` on one line: JSON is YAML, and needs to know nothing of indentation."""
    items = ", ".join(render_item(name, value, is_list=False) for name, value in values.items())
    return f"environment: {{{items}}}"


def render_item(name: str, value: str | None, *, is_list: bool) -> str:
    """Return one variable as an entry of a mapping or of a list."""
    if is_list:
        return quote(name if value is None else f"{name}={value}")
    return f"{quote(name)}: {'null' if value is None else quote(value)}"


def quote(text: str) -> str:
    """Return *text* as a double-quoted YAML scalar."""
    return json.dumps(text, ensure_ascii=False)
