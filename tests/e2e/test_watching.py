"""What a person watches goes on when the controller is restarted under it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.parts.service import Service
from tests.parts.stage import Stage

pytestmark = pytest.mark.e2e


@contextmanager
def watching(service: Service, *words: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Yield the objects that a command prints until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "controller", *words, "-o", "json"],
        env={**service.environment, "OTON_HOST": f"unix://{service.socket}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield map(json.loads, process.stdout)
        process.kill()


def test_top_and_status_w_go_on_when_the_controller_is_restarted(house: Service, stage: Callable[..., Stage]) -> None:
    shop = stage()
    shop.deploy()
    shop.version()
    with watching(house, "top") as figures, watching(house, "status", shop.name, "-w") as rows:
        assert next(rows)["app"] == shop.name
        next(row for row in figures if row["app"] == shop.name)
        old = house.signal_child("_controller", signal.SIGKILL)
        house.wait_next("_controller", old)
        shop.deploy("v2")
        shop.version()
        assert next(row for row in rows if row["release"] == 2)["image"].endswith(":v2")
        assert next(row for row in figures if row["app"] == shop.name and row["release"] == 2)
