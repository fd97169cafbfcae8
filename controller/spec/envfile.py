"""`env_file`: files of KEY=VALUE lines that the CLI reads at apply and puts below `environment`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from controller.spec.faults import Fault
from controller.spec.values import read_text

_LINE = re.compile(r"^\s*(?:export\s+)?([^\s=#]+)\s*(?:=(.*))?$", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def parse_env_file(text: str) -> dict[str, str | None]:
    r"""Return the variables of an env file, as Compose reads one, but for `$`, which is literal.

    Blank lines and `#` comments are skipped; `export` is allowed; single quotes keep everything, double quotes
    know `\n`, `\r`, `\t`, `\"`, `\\`; unquoted values end at ` #`. A key alone has no value (None).
    Raises ValueError with the line's number.
    """
    found: dict[str, str | None] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ValueError(f"line {number}: allowed: KEY=VALUE")
        found[match[1]] = None if match[2] is None else _read_value(match[2].strip(), number)
    return found


def _read_value(text: str, number: int) -> str:
    if text[:1] in {"'", '"'}:
        end = _closing_quote(text)
        if end is None:
            raise ValueError(f"line {number}: the quote is not closed")
        inner = text[1:end]
        return inner if text[0] == "'" else re.sub(r"\\(.)", lambda mark: _ESCAPES.get(mark[1], mark[0]), inner)
    return re.split(r"\s#", text, maxsplit=1)[0].rstrip()


def _closing_quote(text: str) -> int | None:
    position = 1
    while position < len(text):
        if text[position] == "\\" and text[0] == '"':
            position += 2
        elif text[position] == text[0]:
            return position
        else:
            position += 1
    return None


def merge_env_files(
    values: Mapping[str, Any], read: Callable[[str], bytes] | None
) -> tuple[dict[str, Any], list[Fault]]:
    """Return *values* with `env_file` read into `environment` (whose own entries win), and what went wrong."""
    rest = dict(values)
    if "env_file" not in rest:
        return rest, []
    names = rest.pop("env_file")
    if read is None:
        message = "is read by `oton apply` only; write the values into `environment`"
        return rest, [Fault(at=("env_file",), message=message)]
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list) or not all(isinstance(name, str) and name for name in listed):
        return rest, [Fault(at=("env_file",), allowed="a file name, or a list of file names")]
    merged: dict[str, str | None] = {}
    faults = []
    for name in listed:
        try:
            merged |= parse_env_file(read(name).decode("utf-8"))
        except (OSError, ValueError) as error:
            reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            faults.append(Fault(at=("env_file",), message=f"{name}: {reason}"))
    if merged:
        rest["environment"] = _below(merged, rest.get("environment"))
    return rest, faults


def _below(merged: Mapping[str, str | None], own: Any) -> Any:
    if own is None:
        return dict(merged)
    if isinstance(own, Mapping):
        return {**merged, **own}
    if isinstance(own, list) and all(isinstance(entry, str) for entry in own):
        keys = {read_text(entry).partition("=")[0] for entry in own}
        return [*(key if item is None else f"{key}={item}" for key, item in merged.items() if key not in keys), *own]
    return own
