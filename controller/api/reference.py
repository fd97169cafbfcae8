"""The OpenAPI document as one plain page of HTML: no script, nothing from another host, readable on a phone."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

Part = Mapping[str, Any]
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid; } h3 { margin: 2rem 0 0; font-size: 1.05rem; }
code, pre { font: .9em ui-monospace, monospace; } pre { overflow-x: auto; border-left: 3px solid; padding-left: .8rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
nav li { display: inline-block; margin-right: 1rem; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; } nav ul { padding: 0; }
"""
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'"
)
"""What a browser may load for the page: its own style, and nothing else."""
METHODS = ("get", "post", "put", "delete")


def render_reference(document: Part) -> str:
    """Return the page for an OpenAPI document."""
    info = document["info"]
    sections = group_by_tag(document)
    links = "".join(f'<li><a href="#{escape(tag)}">{escape(tag)}</a></li>' for tag in [*sections, "schemas"])
    body = "".join(render_section(tag, operations) for tag, operations in sections.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}: REST API</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('summary', ''))}. "
        'The same for programs: <a href="/v1/openapi.json"><code>/v1/openapi.json</code></a>, with a bearer token.</p>'
        f"<nav><ul>{links}</ul></nav><main>{body}{render_schemas(document)}</main></body></html>\n"
    )


def group_by_tag(document: Part) -> dict[str, list[tuple[str, str, Part]]]:
    """Return path, method and operation of everything, by the first tag."""
    found: dict[str, list[tuple[str, str, Part]]] = {}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                tag = next(iter(operations[method].get("tags", ())), "other")
                found.setdefault(tag, []).append((path, method, operations[method]))
    return found


def render_section(tag: str, operations: Iterable[tuple[str, str, Part]]) -> str:
    """Return the section of one tag."""
    shown = "".join(render_operation(path, method, operation) for path, method, operation in operations)
    return f'<section id="{escape(tag)}"><h2>{escape(tag)}</h2>{shown}</section>'


def render_operation(path: str, method: str, operation: Part) -> str:
    """Return one operation: what it takes, and what it answers."""
    public = " No token is needed." if operation.get("security") == [] else ""
    return (
        f"<article><h3><code>{method.upper()} {escape(path)}</code></h3>"
        f"<p>{escape(operation.get('summary', ''))}.{public}</p>"
        f"{render_parameters(operation.get('parameters', ()))}"
        f"{render_body(operation.get('requestBody'))}"
        f"{render_answers(operation.get('responses', {}))}</article>"
    )


def render_parameters(parameters: Iterable[Part]) -> str:
    """Return the table of parameters; nothing where there are none."""
    rows = [
        (
            f"<code>{escape(one['name'])}</code>",
            escape(one["in"] + (", required" if one.get("required") else "")),
            escape(say_type(one.get("schema", {}))),
            escape(one.get("description", "")),
        )
        for one in parameters
    ]
    return render_table(("parameter", "where", "type", ""), rows)


def render_body(body: Part | None) -> str:
    """Return what a request carries."""
    if body is None:
        return ""
    kinds = "".join(render_content(kind, content) for kind, content in body.get("content", {}).items())
    need = "required" if body.get("required") else "optional"
    return f"<p>Body ({need}). {escape(body.get('description', ''))}</p>{kinds}"


def render_answers(answers: Mapping[str, Part]) -> str:
    """Return the table of answers."""
    rows = []
    for status, answer in answers.items():
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in answer.get("content", {}))
        schemas = [say_type(content.get("schema", {})) for content in answer.get("content", {}).values()]
        name = "else" if status == "default" else status
        rows.append((escape(name), escape(answer.get("description", "")), kinds, escape(", ".join(schemas))))
    return render_table(("answer", "", "as", "type"), rows)


def render_content(kind: str, content: Part) -> str:
    """Return one way to write a body, with its example."""
    example = content.get("example")
    shown = f"<pre>{escape(json.dumps(example, indent=1))}</pre>" if example is not None else ""
    return f"<p><code>{escape(kind)}</code>: {escape(say_type(content.get('schema', {})))}</p>{shown}"


def render_schemas(document: Part) -> str:
    """Return every named schema, field by field."""
    shown = []
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        required = schema.get("required", ())
        rows = [
            (f"<code>{escape(field)}</code>", escape(say_type(inner)), "required" if field in required else "",
             escape(inner.get("description", "")))
            for field, inner in schema.get("properties", {}).items()
        ]  # fmt: skip
        table = render_table(("field", "type", "", ""), rows)
        shown.append(f"<h3><code>{escape(name)}</code></h3><p>{escape(schema.get('description', ''))}</p>{table}")
    return f'<section id="schemas"><h2>schemas</h2>{"".join(shown)}</section>'


def render_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells that are HTML already; nothing without rows."""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f"<th>{escape(one)}</th>" for one in headings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>" if lines else ""


def say_type(schema: Part) -> str:
    """Return a schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(say_type(one) for one in choices))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kinds = schema.get("type", "any")
    kind = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    inner = f" of {say_type(schema['items'])}" if schema.get("items") else ""
    return " ".join([kind + inner, *say_bounds(schema)])


def say_bounds(schema: Part) -> Iterator[str]:
    """Yield what a value is bound by."""
    words = {"minimum": "≥", "maximum": "≤", "maxLength": "length ≤", "pattern": "like", "default": "default"}
    yield from (f"{word} {schema[key]}" for key, word in words.items() if schema.get(key) is not None)
