"""
YAML 1.2 documents as trees of nodes that know their lines, composed from libyaml's events.

libyaml's own composer is not used: it recurses without limit (100,000 brackets end the process) and its
types are those of YAML 1.1, where the country code NO is false. Depth, aliases and nodes are counted while
the events come in, so a bomb is refused before it is built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml._yaml import CParser

from controller.spec.faults import Place
from controller.spec.problems import cut
from controller.spec.values import written_float, written_int

DEEPEST = 64
MOST_ALIASES = 100
MOST_NODES = 10_000
LONGEST_NUMBER = 40
"""Digits; beyond it a number is a number that no field can take. int() refuses 5,000 digits outright."""

_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_OCTAL = re.compile(r"0o[0-7]+", re.ASCII)
_HEX = re.compile(r"0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
# U+0085, U+2028 and U+2029 are text in YAML 1.2 but line breaks to libyaml, which would change the value.
_FORBIDDEN = re.compile("[^\\t\\n\\r\\x20-\\x7e\\xa0-\\u2027\\u202a-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


@dataclass(slots=True)
class Scalar:
    """One scalar; *plain* ones may be null, booleans or numbers."""

    line: int
    text: str
    plain: bool
    size: int = 1
    height: int = 0


@dataclass(slots=True)
class Items:
    """A sequence of nodes."""

    line: int
    nodes: list[Node] = field(default_factory=list)
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Fields:
    """A mapping: key text to the key's line and the node; merges are done."""

    line: int
    nodes: dict[str, tuple[int, Node]] = field(default_factory=dict)
    size: int = 1
    height: int = 1


Node = Scalar | Items | Fields


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that YAML, or our limits, do not allow, on one line."""

    line: int
    message: str
    at: Place = ()


class UnreadableError(Exception):
    """The document cannot be composed; carries the one flaw that ended it."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.message)
        self.flaw = flaw


def compose(text: str, first_line: int) -> tuple[Node | None, tuple[Flaw, ...]]:
    """Return the root of the one document in *text* and what is wrong in it; raises UnreadableError.

    None as root: nothing but comments. With flaws (a repeated key, a tag) the tree still shows the rest,
    so that all problems can be told at once.
    """
    strange = _FORBIDDEN.search(text)
    if strange:
        line = first_line + text.count("\n", 0, strange.start())
        code = f"{ord(strange[0]):04X}"
        message = f"control character U+{code}; only printable characters are allowed (in double quotes: \\u{code})"
        raise UnreadableError(Flaw(line, message))
    composer = _Composer(text, first_line)
    try:
        return composer.document(), tuple(composer.flaws)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first_line + (mark.line if mark else 0)
        raise UnreadableError(Flaw(line, _say_syntax(error))) from None
    except (yaml.YAMLError, ValueError) as error:
        raise UnreadableError(Flaw(first_line, f"not YAML: {str(error)[:200]}")) from None


def _say_syntax(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or "syntax error")[:200]
    if "\\t" in problem or "'\t'" in problem:
        return "not YAML: a tab where only spaces may indent"
    context = f" ({error.context})" if error.context else ""
    return f"not YAML: {problem}{context[:200]}"


class _Composer:
    """Turns the events of one document into nodes, counting as it goes."""

    def __init__(self, text: str, first_line: int) -> None:
        self._parser = CParser(text)
        self._first = first_line
        self._anchors: dict[str, Node | None] = {}
        self._aliases = 0
        self._nodes = 0
        self._path: list[str | int] = []
        self.flaws: list[Flaw] = []

    def document(self) -> Node | None:
        event = self._next()
        while isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
            event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        root = self._node(event, 0)
        self._next()
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._fail(after, "a second document that does not begin with --- on a line of its own")
        return root

    def _next(self) -> Any:
        return self._parser.get_event()

    def _line(self, event: Any) -> int:
        return self._first + int(event.start_mark.line)

    def _fail(self, event: Any, message: str) -> None:
        raise UnreadableError(Flaw(self._line(event), message, tuple(self._path)))

    def _flaw(self, line: int, message: str) -> None:
        self.flaws.append(Flaw(line, message, tuple(self._path)))

    def _node(self, event: Any, depth: int) -> Node:
        self._nodes += 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if event.tag is not None:
            message = f"the tag {cut(str(event.tag))} is not allowed; write the value without a tag"
            self._flaw(self._line(event), message)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node: Node = Scalar(self._line(event), event.value, event.style in {None, ""} and event.implicit[0])
        elif depth >= DEEPEST:
            raise UnreadableError(Flaw(self._line(event), f"nested deeper than {DEEPEST} levels"))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            node = self._mapping(event, depth)
        if anchor is not None:
            self._anchors[anchor] = node
        self._count(event, node)
        return node

    def _count(self, event: Any, node: Node) -> None:
        if max(self._nodes, node.size) > MOST_NODES:
            raise UnreadableError(Flaw(self._line(event), f"more than {MOST_NODES} values, aliases counted in full"))

    def _alias(self, event: Any, depth: int) -> Node:
        self._aliases += 1
        if self._aliases > MOST_ALIASES:
            raise UnreadableError(Flaw(self._line(event), f"more than {MOST_ALIASES} aliases"))
        name = str(event.anchor)
        if name not in self._anchors:
            self._fail(event, f"the alias *{cut(name)} has no anchor before it")
        target = self._anchors[name]
        if target is None:
            raise UnreadableError(Flaw(self._line(event), f"the alias *{cut(name)} stands inside its own anchor"))
        if depth + target.height > DEEPEST:
            raise UnreadableError(Flaw(self._line(event), f"nested deeper than {DEEPEST} levels"))
        return target

    def _sequence(self, event: Any, depth: int) -> Items:
        items = Items(self._line(event))
        inner = self._next()
        while not isinstance(inner, yaml.SequenceEndEvent):
            self._path.append(len(items.nodes))
            node = self._node(inner, depth + 1)
            self._path.pop()
            items.nodes.append(node)
            self._grow(items, node, event)
            inner = self._next()
        return items

    def _grow(self, parent: Items | Fields, child: Node, event: Any) -> None:
        parent.size += child.size
        parent.height = max(parent.height, child.height + 1)
        self._count(event, parent)

    def _mapping(self, event: Any, depth: int) -> Fields:
        fields = Fields(self._line(event))
        merged: list[Fields] = []
        seen: dict[str, int] = {}
        inner = self._next()
        while not isinstance(inner, yaml.MappingEndEvent):
            key = self._node(inner, depth + 1)
            line = self._line(inner)
            name = key.text if isinstance(key, Scalar) else ""
            self._path.append(name)
            node = self._node(self._next(), depth + 1)
            self._grow(fields, node, event)
            if not isinstance(key, Scalar) or (key.plain and _WORDS.get(name, "") is None):
                self._path.pop()
                self._flaw(line, "a key has to be a word")
            else:
                if name in seen:
                    self._flaw(line, f"the key is there twice, first on line {seen[name]}")
                elif name == "<<" and key.plain:
                    merged.extend(self._merge_sources(node, line))
                else:
                    fields.nodes[name] = (line, node)
                self._path.pop()
                seen.setdefault(name, line)
            inner = self._next()
        for source in merged:
            for name, entry in source.nodes.items():
                fields.nodes.setdefault(name, entry)
        return fields

    def _merge_sources(self, node: Node, line: int) -> list[Fields]:
        nodes = node.nodes if isinstance(node, Items) else [node]
        sources = [source for source in nodes if isinstance(source, Fields)]
        if len(sources) < len(nodes):
            self._flaw(line, "<< takes a mapping, or a list of mappings")
        return sources


def to_value(node: Node) -> Any:
    """Return the node as plain values: dict, list, str, None, bool, or a number with its text."""
    if isinstance(node, Scalar):
        return resolve_plain(node.text) if node.plain else node.text
    if isinstance(node, Items):
        return [to_value(item) for item in node.nodes]
    return {key: to_value(item) for key, (_, item) in node.nodes.items()}


def resolve_plain(text: str) -> Any:
    """Return what a plain scalar means by YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if not (first.isdigit() or first in "+-."):
        return text
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            too_long = len(text) > LONGEST_NUMBER
            return written_float(float("inf"), text) if too_long else written_int(_to_int(text, base), text)
    if _INFINITY.fullmatch(text):
        return written_float(float(text.lower().replace(".", "")), text)
    if _FLOAT.fullmatch(text):
        return written_float(float(text), text)
    return text


def _to_int(text: str, base: int) -> int:
    return int(text, 10) if base == 10 else int(text[2:], base)
