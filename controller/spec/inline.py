"""Takes `env_file` out of a file before it is uploaded, so that the server never needs the user's files."""

from __future__ import annotations

from controller.spec.model import AppSpec
from controller.spec.parse import Document, Parsed, ReadEnv, parse_file
from controller.spec.render import render_spec, render_yaml
from controller.spec.split import Chunk, split_documents, split_lines
from controller.spec.tree import Fields, compose


def inline_env_files(data: bytes, file: str, read_env: ReadEnv) -> tuple[bytes, Parsed]:
    """Return *data* with every `env_file` replaced by `environment`, and what was read.

    Other lines stay as they are, comments too, wherever that is possible. With problems, or where nothing is
    to be done, *data* comes back as it is.
    """
    parsed = parse_file(data, file, read_env=read_env)
    if parsed.problems or b"env_file" not in data:
        return data, parsed
    text = data.decode("utf-8-sig")
    lines = split_lines(text)
    chunks = split_documents(text)
    for chunk, document in reversed(list(zip(chunks, parsed.documents, strict=True))):
        lines[chunk.first_line - 1 : chunk.last_line] = split_lines(_inline(chunk, document))
    return ("\n".join(lines) + "\n").encode(), parsed


def _inline(chunk: Chunk, document: Document) -> str:
    root, _ = compose(chunk.text, 1)
    if document.spec is None or not isinstance(root, Fields) or "env_file" not in root.nodes:
        return chunk.text
    spec = document.spec
    edited = _edit(split_lines(chunk.text), root, _write_environment(spec))
    again = parse_file(edited.encode(), "").documents
    if len(again) == 1 and again[0].spec == spec:
        return edited
    # Flow style, anchors or the like: there are no lines that could be exchanged.
    return f"---\n{render_spec(spec)}"


def _write_environment(spec: AppSpec) -> str:
    return render_yaml({"environment": dict(spec.environment)}) if spec.environment else ""


def _edit(lines: list[str], root: Fields, environment: str) -> str:
    borders = sorted({line for line, _ in root.nodes.values()} | {len(lines) + 1})
    spans = {}
    for name in ("env_file", "environment"):
        if name in root.nodes:
            first = root.nodes[name][0]
            spans[name] = (first, _last_line(lines, first, next(line for line in borders if line > first)))
    keeper = "environment" if "environment" in spans else "env_file"
    for name, (first, last) in sorted(spans.items(), key=lambda span: -span[1][0]):
        lines[first - 1 : last] = split_lines(environment) if name == keeper else []
    return "\n".join(lines) + "\n"


def _last_line(lines: list[str], first: int, border: int) -> int:
    """Return the last line of a field that begins on *first*; comments ahead of the next one are not its own."""
    last = border - 1
    while last > first and lines[last - 1].strip()[:1] in {"", "#"}:
        last -= 1
    return last
