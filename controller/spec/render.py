"""A spec as YAML again: the shortest document that reads back as the same spec."""

from __future__ import annotations

from typing import Any

import yaml

from controller.spec.model import AppSpec
from controller.spec.plain import written_part
from controller.spec.tree import resolve_plain


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.2 would not read as a string; PyYAML itself only minds the types of YAML 1.1."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text.strip() and all(line.isprintable() for line in text.split("\n")) else None
    if not isinstance(resolve_plain(text), str):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def render_spec(spec: AppSpec) -> str:
    """Return the document of *spec*, without defaults, in the order of the model's fields."""
    return render_yaml(written_part(spec))


def render_yaml(value: Any) -> str:
    """Return plain values as YAML 1.2: mappings in blocks, their innermost ones on one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def render_flow(value: Any) -> str:
    """Return plain values on one line, as in `{cpus: 0.5, memory: 256M}`."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**30, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")
