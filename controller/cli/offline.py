"""The verbs that need no service: `oton init`, `oton validate`, `oton schema`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.options import Output
from controller.cli.show import out, print_data, print_table, say
from controller.cli.specs import expand, load
from controller.cli.trouble import OK, USAGE, Trouble
from controller.spec.model import NAME_PATTERN

Files = Annotated[list[str], typer.Argument(metavar="FILE…", help="Spec files or directories; - reads one from stdin.")]


def init(name: Annotated[str, typer.Argument(metavar="[NAME]", help="The app's name.")] = "app") -> int:
    """Write NAME.yaml, a commented spec to start from; an existing file is never overwritten."""
    from controller.spec.starter import render_starter

    if re.fullmatch(NAME_PATTERN, name) is None:
        allowed = "a-z, 0-9 and -, starting with a letter, at most 40 characters"
        raise Trouble(USAGE, f'init: found "{name[:60]}", allowed: {allowed}')
    # Where there is a watched directory, a spec belongs elsewhere until it is wanted: a file in it is applied at once.
    path = Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(render_starter(name))
    except FileExistsError:
        raise Trouble(USAGE, f"{path} exists already; nothing was changed", hint="choose another NAME") from None
    except OSError as error:
        raise Trouble(USAGE, f"{path}: cannot be written: {error.strerror}") from error
    out(str(path))
    say(f"next: edit it, then: oton validate {path} && oton apply {path}")
    return OK


def validate(files: Files, output: Output = "table") -> int:
    """Check specs without a server; every problem at once, as file:line: field: found, allowed."""
    found = [(file, load(file)[1]) for file in expand(files)]
    rows = [
        {
            "file": file,
            "valid": not parsed.problems,
            "apps": [document.name for document in parsed.documents if document.name is not None],
            "problems": [problem.text for problem in parsed.problems],
            "warnings": [warning.text for warning in parsed.warnings],
        }
        for file, parsed in found
    ]
    if output == "table":
        for _, parsed in found:
            say(*(problem.text for problem in parsed.problems))
            say(*(f"warning: {warning.text}" for warning in parsed.warnings))
        for row in rows:
            if row["valid"]:
                out(f"{row['file']}: valid ({', '.join(str(name) for name in row['apps'])})")  # type: ignore[attr-defined]
    else:
        print_data(rows, output, name="file")
    return OK if all(row["valid"] for row in rows) else USAGE


def schema(output: Output = "json") -> int:
    """Print the JSON Schema of the spec; editors take it as yaml-language-server's $schema."""
    from controller.spec.schema import render_schema

    if output in ("table", "name"):
        properties = render_schema().get("properties", {})
        rows = [[name, str(field.get("description", "")).split("\n", 1)[0]] for name, field in properties.items()]
        print_table(rows, ["FIELD", "MEANING"])
    else:
        print_data(render_schema(), output)
    return OK
