"""The verbs that order something for one app and follow it to its end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from controller.cli.apply import accepted, finish, follow
from controller.cli.client import Client, app_path
from controller.cli.follow import Watch
from controller.cli.options import AppName, Form, NoWait, Output, Timeout, read_duration, target
from controller.cli.trouble import USAGE, Trouble

To = Annotated[int | None, typer.Option("--to", metavar="N", min=1, help="The release; without it, the one before.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def rollback(
    app: AppName, to: To = None, no_wait: NoWait = False, timeout: Timeout = None, output: Output = "table"
) -> int:
    """Go back to an earlier release, whole spec, pinned there until the file changes or `oton unpin`."""
    body = {} if to is None else {"to": to}
    return order("rollback", app, no_wait, timeout, output, lambda client: client.post(app_path(app, "rollback"), body))


def unpin(app: AppName, no_wait: NoWait = False, timeout: Timeout = None, output: Output = "table") -> int:
    """Undo the pin of a rollback: the file decides again."""
    return plain_order("unpin", app, no_wait, timeout, output)


def promote(app: AppName, no_wait: NoWait = False, timeout: Timeout = None, output: Output = "table") -> int:
    """Move a rollout on that waits for promotion."""
    return plain_order("promote", app, no_wait, timeout, output)


def abort(app: AppName, no_wait: NoWait = False, timeout: Timeout = None, output: Output = "table") -> int:
    """Undo a running rollout: what served before serves again."""
    return plain_order("abort", app, no_wait, timeout, output)


def retry(app: AppName, no_wait: NoWait = False, timeout: Timeout = None, output: Output = "table") -> int:
    """Try a failed or held rollout again."""
    return plain_order("retry", app, no_wait, timeout, output)


def restart(app: AppName, no_wait: NoWait = False, timeout: Timeout = None, output: Output = "table") -> int:
    """Replace every container by the app's strategy: a new release with the same image."""
    return plain_order("restart", app, no_wait, timeout, output)


def suspend(app: AppName, no_wait: NoWait = False, timeout: Timeout = None, output: Output = "table") -> int:
    """Stop reconciling one app; traffic is untouched."""
    return plain_order("suspend", app, no_wait, timeout, output)


def resume(app: AppName, no_wait: NoWait = False, timeout: Timeout = None, output: Output = "table") -> int:
    """Go on reconciling a suspended app."""
    return plain_order("resume", app, no_wait, timeout, output)


def maintenance(
    app: AppName,
    state: Annotated[Literal["on", "off"], typer.Argument(metavar="on|off", show_default=False)],
    message: Annotated[str, typer.Option("--message", "-m", metavar="M", help="What visitors are told.")] = "",
    no_wait: NoWait = False,
    timeout: Timeout = None,
    output: Output = "table",
) -> int:
    """Answer 503 with the message on all of the app's routes, or serve again."""
    if message and state == "off":
        raise Trouble(USAGE, "--message goes with `on`")
    body = {"on": state == "on", "message": message}
    return order("maintenance", app, no_wait, timeout, output, lambda c: c.post(app_path(app, "maintenance"), body))


def delete(
    app: AppName, yes: Yes = False, no_wait: NoWait = False, timeout: Timeout = None, output: Output = "table"
) -> int:
    """Take an app away: routes, containers and its spec; volumes, secrets and history stay."""
    if not yes:
        confirm(app)
    return order("delete", app, no_wait, timeout, output, lambda client: client.delete(app_path(app)))


def confirm(app: str) -> None:
    """Ask for the app's name. Raises Trouble where nobody can be asked, or another name is given."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Trouble(USAGE, f"delete {app}: needs -y: not a terminal", hint=f"oton delete {app} -y")
    sys.stderr.write(f"this removes every container of {app} and its routes; type its name to continue: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != app:
        raise Trouble(USAGE, f"delete {app}: the name does not match; nothing was changed")


def plain_order(verb: str, app: str, no_wait: bool, timeout: str | None, output: Form) -> int:
    """Give an order that is only a verb, and follow it."""
    return order(verb, app, no_wait, timeout, output, lambda client: client.post(app_path(app, verb)))


def order(verb: str, app: str, no_wait: bool, timeout: str | None, output: Form, give: Callable[[Client], Any]) -> int:
    """Give an order, follow it to its end, and return the exit code."""
    timeout_s = read_duration(timeout, "--timeout")
    with Client(target()) as client:
        watch = Watch(app=app, verb=verb, change=int(give(client)["change"]))
        return finish([accepted(watch)] if no_wait else follow(client, [watch], timeout_s), output)
