"""`oton`: finds the verb, runs it, and turns however it ends into one of the contract's exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command as build_command

from controller.cli import options
from controller.cli.pipes import ReaderGone, guarded, silence
from controller.cli.show import out, say
from controller.cli.trouble import INTERRUPTED, OK, READER_GONE, USAGE, Trouble

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Start": {
        "serve": ("serve:serve", "run the service: supervisor, controller, proxy workers"),
        "init": ("offline:init", "write a commented spec to start from"),
        "doctor": ("service:doctor", "what is wrong on that machine, and how to fix it"),
        "backup": ("backup:backup", "database and state as one file, while running"),
        "restore": ("backup:restore", "put a backup in place; the controller restarts, traffic goes on"),
    },
    "Deploy": {
        "validate": ("offline:validate", "check specs without a server: every problem at once"),
        "diff": ("apply:diff", "what an apply would change, and the plan in words"),
        "apply": ("apply:apply", "upload specs and follow each rollout until it is live or fails"),
        "rollback": ("orders:rollback", "back to an earlier release, pinned there"),
        "unpin": ("orders:unpin", "follow the file again"),
        "promote": ("orders:promote", "let a waiting rollout continue"),
        "abort": ("orders:abort", "undo a running rollout"),
        "retry": ("orders:retry", "retry a failed or held rollout"),
        "restart": ("orders:restart", "replace every container, by the app's strategy"),
        "delete": ("orders:delete", "take an app away; volumes, secrets and history stay"),
    },
    "Operate": {
        "suspend": ("orders:suspend", "stop reconciling one app; traffic is untouched"),
        "resume": ("orders:resume", "start reconciling it again"),
        "maintenance": ("orders:maintenance", "answer 503 with a message, or serve again"),
        "exec": ("shell:exec_", "run a command inside a replica"),
        "run": ("shell:run", "run a command in a one-off container with the app's spec"),
        "sync": ("sync:sync", "look at the Git repository now (OTON_GIT_URL)"),
        "secret": ("secret:app", "set, list and remove an app's secrets"),
    },
    "Look": {
        "status": ("status:status", "apps: sync, health, release, replicas, message"),
        "history": ("status:history", "releases of an app: what, who, when, why, outcome"),
        "logs": ("logs:logs", "logs of all replicas"),
        "capture": ("capture:capture", "record an inspected app's requests as HAR"),
        "top": ("top:top", "live requests, errors and latency per app and release"),
        "events": ("logs:events", "what the controller saw, decided and did"),
        "routes": ("service:routes", "the table; `routes explain URL`: what a URL would get"),
        "schema": ("offline:schema", "JSON Schema of the spec, for editors"),
    },
    "Access": {
        "token": ("token:app", "AppTokens for the API"),
        "cert": ("cert:app", "certificates of the public side"),
        "context": ("context:app", "named servers for this command"),
        "dial-stdio": ("dial_stdio:dial_stdio", "connect stdin and stdout to the service (for ssh)"),
        "version": ("service:version", "version of this program and of the service"),
    },
}
WITH_VALUE = ("--replica", "--release", "--host", "--context")
"""Options of exec and run that take the next word."""
VERBS = {name: entry for verbs in GROUPS.values() for name, entry in verbs.items()}


class Verbs(TyperGroup):
    """All verbs; each one's module is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of the help screen."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return one verb."""
        return load_verb(cmd_name) if cmd_name in VERBS else None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the one screen of help."""
        formatter.write(render_help())


def load_verb(name: str) -> Any:
    """Return one verb as a command."""
    where, text = VERBS[name]
    module, _, attribute = where.partition(":")
    found = getattr(importlib.import_module(f"controller.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(name, short_help=text)(options.placed(found))
        found = app
    command: Any = build_command(found)
    command.name = name
    command.short_help = text
    return command


def render_help() -> str:
    """Return the help screen: every verb in its group."""
    width = max(len(name) for name in VERBS)
    lines = [
        "Usage: oton [--host URL | --context NAME] VERB …",
        "",
        "Deploys containers behind its own proxy, without a lost request.",
    ]
    for title, verbs in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name.ljust(width)}  {text}" for name, (_, text) in verbs.items()]
    lines += ["", "oton VERB --help says more; oton --install-completion teaches your shell."]
    return "\n".join(lines) + "\n"


root = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@root.callback()
def oton(host: options.Host = None, context: options.Context = None) -> None:
    """Deploy containers behind Oton Pilot's own proxy, without a lost request."""
    options.remember(host=host, context=context)


def main(argv: list[str] | None = None) -> int:
    """Run one command (this process's own where none is given) and return its exit code."""
    options.forget()
    try:
        with guarded():
            return answer(sys.argv[1:] if argv is None else argv)
    except ReaderGone:
        silence()
        return READER_GONE


def answer(words: list[str]) -> int:
    """Run one command; say what went wrong."""
    if not words and "_OTON_COMPLETE" not in os.environ:
        out(render_help().rstrip("\n"))
        return OK
    try:
        return run(guard_command(words))
    except Trouble as trouble:
        say(trouble.render())
        return trouble.code
    except KeyboardInterrupt:
        say("", "oton: interrupted")
        return INTERRUPTED


def guard_command(words: list[str]) -> list[str]:
    """Return the words with `--` before the command of exec and run, so that its options stay its own."""
    places = [index for index, word in enumerate(words) if word in ("exec", "run")]
    if not places or "--" in words or set(words[: places[0]]) & set(VERBS):
        return words
    index, bare = places[0] + 1, 0
    while index < len(words):
        if words[index].startswith("-"):
            index += 2 if words[index] in WITH_VALUE else 1
            continue
        bare += 1
        if bare == 2:
            return [*words[:index], "--", *words[index:]]
        index += 1
    return words


def run(argv: list[str]) -> int:
    """Run one command; what it returns, or exits with, is the code."""
    command: Any = build_command(root)
    try:
        result = command.main(args=list(argv), prog_name="oton", standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    except Exception as error:
        code = report_usage(error)
        if code is None:
            raise
        return code
    return result if isinstance(result, int) else OK


def report_usage(error: Exception) -> int | None:
    """Say what was wrong with the command line; None where the error is another one."""
    if type(error).__name__ == "Abort":
        raise KeyboardInterrupt from error
    show = getattr(error, "show", None)
    if show is None or not hasattr(error, "exit_code"):
        return None
    if type(error).__name__ == "NoArgsIsHelpError":
        say(str(error.format_message()))  # type: ignore[attr-defined]
        return USAGE
    text = str(error.format_message()).replace("Value error, ", "")  # type: ignore[attr-defined]
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "oton"
    say(f"{path}: {text}", f"  next: {path} --help")
    return USAGE
