"""`oton apply` and `oton diff`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from controller.cli.client import Client, app_path
from controller.cli.ends import End
from controller.cli.follow import Watch, follow_all
from controller.cli.options import Form, NoWait, Output, Timeout, read_duration, target
from controller.cli.progress import report, screen, with_name
from controller.cli.show import cell, out, print_data, say
from controller.cli.specs import Piece, read_pieces
from controller.cli.trouble import DIFFERENT, INTERRUPTED, OK, UNREACHABLE, Trouble, worst

Files = Annotated[list[str], typer.Argument(metavar="FILE…", help="Spec files or directories; - reads one from stdin.")]
Image = Annotated[str | None, typer.Option("--image", metavar="REF", help="Another image for the one app.")]


def apply(
    files: Files,
    image: Image = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    output: Output = "table",
) -> int:
    """Upload specs into the watched directory and follow each rollout to its end."""
    timeout_s = read_duration(timeout, "--timeout")
    pieces = read_pieces(files, image)
    with Client(target()) as client:
        watches, ends = upload(client, pieces)
        if no_wait:
            return finish([*ends, *(accepted(watch) for watch in watches)], output)
        return finish([*ends, *follow(client, watches, timeout_s)], output)


def upload(client: Client, pieces: Sequence[Piece]) -> tuple[list[Watch], list[End]]:
    """Upload every piece; one that is refused does not keep the others from going on."""
    watches: list[Watch] = []
    ends: list[End] = []
    for piece in pieces:
        try:
            answer = client.put(app_path(piece.app, "spec"), piece.data)
        except Trouble as trouble:
            if trouble.code == UNREACHABLE and not watches:
                raise
            ends.append(
                End(app=piece.app, code=trouble.code, text=trouble.text, lines=trouble.lines, hint=trouble.hint)
            )
            continue
        watches.append(Watch(app=piece.app, verb="apply", change=int(answer["change"])))
    return watches, ends


def follow(client: Client, watches: Sequence[Watch], timeout_s: float | None) -> list[End]:
    """Follow changes to their end; Ctrl-C leaves the rollouts running and says how to follow them."""
    try:
        with screen() as shown:
            return follow_all(client, watches, shown, timeout_s=timeout_s)
    except KeyboardInterrupt:
        names = " ".join(watch.app for watch in watches)
        hint = " or: ".join(f"oton status {watch.app} -w" for watch in watches)
        raise Trouble(INTERRUPTED, f"stopped watching; the rollout of {names} continues", hint=hint) from None


def accepted(watch: Watch) -> End:
    """Return the end of a change that nobody waits for."""
    text = f"accepted as change {watch.change}"
    return End(app=watch.app, code=OK, text=text, change=watch.change, result="accepted")


def finish(ends: Sequence[End], output: Form) -> int:
    """Print how each app ended and return the exit code for all of them."""
    report(ends)
    if output == "table":
        for end in ends:
            if end.code == OK:
                took = f", took {end.duration_s:.1f} s" if end.duration_s is not None else ""
                out(with_name(end) + took)
    else:
        print_data([end.render() for end in ends], output)
    return worst(end.code for end in ends)


def diff(files: Files, image: Image = None, output: Output = "table") -> int:
    """Show what an apply would change compared with what is live, and the plan in words; exit 1 if it would."""
    rows: list[dict[str, Any]] = []
    with Client(target()) as client:
        for piece in read_pieces(files, image):
            rows += client.post_yaml("/v1/diff", piece.data)
    if output == "table":
        for row in rows:
            print_diff(row)
    else:
        print_data(rows, output)
    return DIFFERENT if any(row["changes"] for row in rows) else OK


def print_diff(row: dict[str, Any]) -> None:
    """Print one app's changes and plan for a person."""
    if not row["changes"]:
        say(f"{row['app']}: no changes compared with release {row['release']}")
        return
    out(f"{row['app']}: compared with release {row['release']}" if row["release"] is not None else f"{row['app']}: new")
    for change in row["changes"]:
        old, new = cell(change, "old"), cell(change, "new")
        out(f"  {change['field']}: {old} -> {new}" + ("  (replaces containers)" if change["replaces"] else ""))
    if row["plan"]:
        out("  plan:")
        for line in row["plan"]:
            out(f"    {cell({'line': line}, 'line')}")
