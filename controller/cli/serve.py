"""`oton serve`: every setting as a flag, then the supervisor."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controller.cli.options import with_options
from controller.cli.pipes import unguard
from controller.cli.trouble import OK, USAGE, Trouble
from controller.errors import Refused
from controller.settings import Knob, list_knobs, load_settings


def run_service() -> int:
    """Run the service in the foreground; each setting is a flag here and a variable of the environment."""
    return OK


def call(**flags: Any) -> int:
    """Run the service with the settings that flags and environment give."""
    from controller.supervisor import run_supervisor

    unguard()
    try:
        return int(run_supervisor(load_settings(flags)) or OK)
    except Refused as error:
        lines = str(error).splitlines()
        raise Trouble(USAGE, lines[0], lines=lines[1:]) from None


def option(knob: Knob) -> Any:
    """Return the option that a setting is."""
    text = f"{knob.meaning.split(chr(10), 1)[0]} [{knob.variable}]"
    return Annotated[str | None, typer.Option(knob.flag, metavar="VALUE", help=text, show_default=False)]


serve = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
serve.command("serve")(with_options(run_service, call, {knob.field: option(knob) for knob in list_knobs()}))
