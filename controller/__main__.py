"""
`oton`: which of our processes is this one?

The first argument decides; only what that process needs is imported, so that `oton status` feels instant
and the proxy's side never loads the controller's.
"""

from __future__ import annotations

import sys

from controller.kernel import tighten_umask


def main() -> int:
    """Run this process and return its exit code."""
    tighten_umask()
    match sys.argv[1:]:
        case ["_nursery", birth]:
            from controller.proxy.nursery import run_nursery  # noqa: PLC0415

            return run_nursery(birth)
        case ["_inspector", birth, number, app]:
            from controller.proxy.inspector.start import start_inspector  # noqa: PLC0415

            return start_inspector(birth, int(number), app)
        case ["_controller", control]:
            from controller.app import run_controller  # noqa: PLC0415
            from controller.settings import load_settings  # noqa: PLC0415

            return run_controller(load_settings(), int(control))
        case _:
            from controller.cli.main import main as run_cli  # noqa: PLC0415

            return run_cli()


if __name__ == "__main__":
    sys.exit(main())
