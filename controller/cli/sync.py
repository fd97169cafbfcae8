"""`oton sync`: have the service look at its Git repository now."""

from __future__ import annotations

from controller.cli.client import Client
from controller.cli.options import target
from controller.cli.show import out
from controller.cli.trouble import OK


def sync() -> int:
    """Have the service look at its Git repository now, instead of at the next interval."""
    with Client(target()) as client:
        commit = client.post("/v1/sync")["commit"]
    out(f"asked; until then at {commit[:7] if commit else 'nothing'}; what comes of it: oton events, oton doctor")
    return OK
