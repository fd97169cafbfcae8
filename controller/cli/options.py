"""What many verbs share: options, where to talk to, and how a duration is read."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import typer

from controller.cli.target import Asked, Target, find_target
from controller.cli.trouble import USAGE, Trouble

Form = Literal["table", "json", "yaml", "name"]
F = TypeVar("F", bound=Callable[..., Any])

AppName = Annotated[str, typer.Argument(metavar="APP", help="The app's name.", show_default=False)]
Output = Annotated[Form, typer.Option("--output", "-o", help="How data is printed.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once the order is accepted.")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="T", help="Longest time to wait, such as 5m; default: none.")
]

Host = Annotated[
    str | None,
    typer.Option("--host", metavar="URL", help="The service: unix:///path, https://host, ssh://user@host."),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="A server named with `oton context add`.")
]

_asked: dict[str, str | None] = {"host": None, "context": None}


def placed(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return *run* with the options --host and --context, which `target` then follows."""

    def call(host: str | None = None, context: str | None = None, **rest: Any) -> Any:
        remember(host=host, context=context)
        return run(**rest)

    return with_options(run, call, {"host": Host, "context": Context})


def remember(*, host: str | None, context: str | None) -> None:
    """Keep what the flags say; the verb's own come after the program's and win."""
    for name, value in (("host", host), ("context", context)):
        if value is not None:
            _asked.update({"host": None, "context": None, name: value})


def with_options(run: Callable[..., Any], call: Callable[..., Any], more: Mapping[str, Any]) -> Callable[..., Any]:
    """Return *call* under the name and parameters of *run*, with the options *more* after them; all default to None."""
    signature = inspect.signature(run, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    own = [parameter.replace(kind=kind) for parameter in signature.parameters.values()]
    added = [inspect.Parameter(name, kind, default=None, annotation=found) for name, found in more.items()]
    call.__name__, call.__doc__, call.__module__ = run.__name__, run.__doc__, run.__module__
    call.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in (*own, *added)}
    return call


def target() -> Target:
    """Return the service that this call talks to."""
    return find_target(Asked(host=_asked["host"], context=_asked["context"]), os.environ)


def forget() -> None:
    """Forget the flags of an earlier call in this process."""
    _asked.update(host=None, context=None)


def group(text: str) -> typer.Typer:
    """Return a group of verbs, such as `oton token …`."""
    return typer.Typer(help=text, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def verb(app: typer.Typer, name: str, *, place: bool = True) -> Callable[[F], F]:
    """Add a function to a group as one of its verbs; without *place* it has a --host of its own."""

    def add(run: F) -> F:
        app.command(name)(placed(run) if place else run)
        return run

    return add


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)


def read_duration(text: str | None, option: str) -> float | None:
    """Return seconds for a text such as 90s, 5m or 1h30m; None stays None."""
    if text is None:
        return None
    pieces = _PIECE.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise Trouble(USAGE, f'{option}: found "{text[:40]}", allowed: a duration such as 30s, 5m, 1h30m')
    return sum(float(number) * _UNITS[unit] for number, unit in pieces)
