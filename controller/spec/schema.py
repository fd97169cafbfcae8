"""The JSON Schema of a spec, for editors."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticUndefined

from controller.spec.base import Part
from controller.spec.model import AppSpec
from controller.spec.plain import written_field
from controller.spec.strategies import STRATEGIES

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def render_schema() -> dict[str, Any]:
    """Return the schema: every field that a file may hold, with its text, default and shape.

    It is as strict as a schema can be; rules between fields are `oton validate`'s. Editors take it for YAML too.
    """
    schema = AppSpec.model_json_schema(by_alias=True, mode="validation")
    definitions: dict[str, Any] = schema["$defs"]
    kinds = {kind.__name__: kind for kind in Part.__subclasses__()}
    _tidy(schema, AppSpec)
    for name, definition in definitions.items():
        _tidy(definition, kinds[name])
    properties = schema["properties"]
    properties["strategy"] = _strategy(properties["strategy"])
    for kind in ("Rolling", "BlueGreen", "Canary", "Recreate"):
        definitions[kind]["required"] = ["type"]
    definitions["CanaryStep"]["properties"]["weight"] = {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 100}, {"type": "string", "pattern": r"^\d{1,3}%$"}],
        "description": definitions["CanaryStep"]["properties"]["weight"]["description"],
    }
    for name, field in properties.items():
        if name not in schema["required"]:
            properties[name] = _or_nothing(field)
    properties["env_file"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "Files of KEY=VALUE lines; read by `oton apply` and put below `environment`.",
    }
    return {
        "$schema": DIALECT,
        "title": "Oton Pilot app",
        **{key: value for key, value in schema.items() if key != "title"},
        "patternProperties": {"^x-": {"description": "Ignored; a place for anchors."}},
    }


def _tidy(definition: dict[str, Any], kind: type[Part]) -> None:
    """Take out titles that only repeat the names, and write defaults as a file would."""
    for name, info in kind.model_fields.items():
        field = definition["properties"][info.alias or name]
        field.pop("title", None)
        field.pop("default", None)
        default = written_field(kind, info.alias or name, info.get_default(call_default_factory=True))
        if default not in (None, [], {}, PydanticUndefined):
            field["default"] = default


def _or_nothing(field: dict[str, Any]) -> dict[str, Any]:
    """Return *field* so that a key without a value passes: all its lines may be commented out."""
    outer = {key: value for key, value in field.items() if key in {"description", "default", "examples"}}
    inner = {key: value for key, value in field.items() if key not in outer}
    kinds = inner["anyOf"] if set(inner) == {"anyOf"} else [inner]
    return {"anyOf": [*(kind for kind in kinds if kind != {"type": "null"}), {"type": "null"}], **outer}


def _strategy(field: dict[str, Any]) -> dict[str, Any]:
    kinds = field.get("oneOf") or field["anyOf"]
    return {
        "anyOf": [{"enum": list(STRATEGIES)}, *kinds],
        "default": "rolling",
        "description": field["description"],
    }
