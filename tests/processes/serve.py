"""The real service around the stub controller."""

from __future__ import annotations

import sys
from pathlib import Path

from controller.settings import load_settings
from controller.supervisor import run_supervisor
from controller.supervisor.programs import Programs

STUB = Path(__file__).with_name("stub_controller.py")

if __name__ == "__main__":
    sys.exit(run_supervisor(load_settings(), Programs(controller=(sys.executable, str(STUB)))))
