"""The scripts of examples/09-ci deploy, and a build is red exactly when its version does not serve."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.cli.main import VERBS
from tests.parts.service import Service

CI = Path(__file__).resolve().parents[1] / "examples/09-ci"


def deploy(service: Service, image: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run deploy.sh as a build would, with an `oton` on its path."""
    place = service.root / "build"
    shutil.copytree(CI, place, dirs_exist_ok=True)
    (place / "bin").mkdir(exist_ok=True)
    oton = place / "bin/oton"
    oton.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m controller "$@"\n')
    oton.chmod(0o755)
    path = f"{oton.parent}:{os.environ['PATH']}"
    variables = {"OTON_HOST": f"unix://{service.socket}", "IMAGE": image, "PATH": path, **environment}
    return subprocess.run(
        ["./deploy.sh", "shop.yaml"],
        cwd=place,
        env={**service.environment, **variables},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.core
def test_a_build_deploys_its_image_and_is_red_when_that_does_not_serve(service: Service, backend: Any) -> None:
    (service.root / "build").mkdir()
    first = deploy(service, backend("v1"))
    assert first.returncode == 0, first.stderr
    assert "deployed oton-test-backend:v1" in first.stdout
    assert service.get(host="ci.localhost").headers["x-version"] == "v1"
    broken = deploy(service, backend("v2-broken", CRASH_AT_START="no database"))
    assert broken.returncode == 3, broken.stdout + broken.stderr
    assert "no database" in broken.stdout + broken.stderr
    assert "the old release serves on" in broken.stderr
    assert service.get(host="ci.localhost").headers["x-version"] == "v1"
    again = deploy(service, "oton-test-backend:v1")
    assert again.returncode == 0, again.stderr


def test_a_build_that_does_not_say_where_to_or_what_ends_at_once() -> None:
    done = subprocess.run(
        ["sh", str(CI / "deploy.sh")], env={"PATH": "/bin"}, capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode != 0
    assert "OTON_HOST" in done.stderr


def test_the_workflow_is_one_and_every_command_in_it_exists() -> None:
    workflow = yaml.safe_load((CI / "github-actions.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert {step["run"] for step in steps if "run" in step} >= {"oton validate shop.yaml", "./deploy.sh shop.yaml"}
    texts = [file.read_text() for file in CI.iterdir() if file.is_file()]
    said = {verb for text in texts for verb in re.findall(r"(?:^|[`&|;] ?|: )oton ([a-z-]+)", text, re.MULTILINE)}
    assert said
    assert said <= set(VERBS)
