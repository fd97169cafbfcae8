"""The unit file closes the service in as far as it says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "examples/systemd"
MOST = 4.0
"""Exposure by `systemd-analyze security`: 0 is closed, 10 is open."""


def test_the_unit_keeps_what_the_service_needs_and_closes_the_rest() -> None:
    unit = (FOLDER / "oton.service").read_text()
    lines = set(unit.splitlines())
    assert {"NoNewPrivileges=true", "ProtectSystem=strict", "UMask=0022", "RestrictNamespaces=true"} <= lines
    assert {"SystemCallArchitectures=native", "LockPersonality=true", "ProtectKernelModules=true"} <= lines
    [bounding] = re.findall(r"^CapabilityBoundingSet=(.+)$", unit, re.MULTILINE)
    assert {"CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"} <= set(bounding.split())
    assert not {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_RAW", "CAP_SYS_MODULE"} & set(bounding.split())
    for path in ("PrivateTmp", "PrivateDevices"):
        assert f"{path}=true" not in lines, "bound folders are judged by what the engine sees"


def test_systemd_rates_the_unit_as_the_page_says(tmp_path: Path) -> None:
    page = (FOLDER / "README.md").read_text()
    [said] = re.findall(r"rates the unit (\d\.\d)", page)
    assert float(said) <= MOST
    program = shutil.which("systemd-analyze")
    if program is None:
        return  # the page is held to its own figure then
    for unit in FOLDER.glob("oton.*"):
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/local/bin/oton", "/bin/true"))
    words = (program, "security", "--offline=true", "--no-pager", str(tmp_path / "oton.service"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    rated = re.search(r"exposure level for oton.service: (\d+\.\d)", done.stdout)
    assert rated is not None, done.stderr
    assert float(rated[1]) <= MOST
