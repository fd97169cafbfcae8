"""
The tests' images, made without a registry: this machine's own Python, the backend, a shell and a few tools.

An image is made once per machine and content; its versions share one layer.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from tests.parts.daemon import connect

BACKEND = Path(__file__).with_name("backend.py")
REPOSITORY = "oton-test-backend"
CONTENT = "oton-test.content"
TOOLS = (
    "sh",
    "cat",
    "sleep",
    "env",
    "id",
    "touch",
    "true",
    "false",
    "head",
    "tr",
    "pwd",
    "hostname",
    "grep",
    "stty",
    "tail",
)
PYTHON = "/usr/bin/python3"
BACKEND_COMMAND = [PYTHON, "-I", "-S", "/backend.py"]
MORE_MODULES = ("site", "_sitebuiltins", "traceback", "linecache", "tokenize", "token", "textwrap")


def ensure_backend_image(tag: str = "v1", repository: str = REPOSITORY, **environment: str) -> str:
    """
    Return the reference of an image of the backend whose version text is *tag*.

    *environment* sets its manners (see `backend.Manners`). Two tags are two image ids.
    """
    ref = f"{repository}:{tag}"
    variables = {"VERSION": tag, **environment}
    changes = [f"ENV {name}={json.dumps(value)}" for name, value in sorted(variables.items())]
    ensure_image(ref, [*changes, f"CMD {json.dumps(BACKEND_COMMAND)}", "EXPOSE 8000"])
    return ref


def ensure_image(ref: str, changes: list[str]) -> None:
    """Make the image *ref* of the tree and of these Dockerfile instructions, unless it is there already."""
    content = hashlib.sha256((_root_digest() + json.dumps(changes)).encode()).hexdigest()[:16]
    repository, tag = ref.split(":")
    client = connect()
    try:
        old = _find(client, ref)
        if old is None or (old["Config"]["Labels"] or {}).get(CONTENT) != content:
            labelled = [*changes, f"LABEL {CONTENT}={content}"]
            client.import_image_from_data(_root_tree(), repository=repository, tag=tag, changes=labelled)
            if old is not None and old["RepoTags"] == [ref]:
                with suppress(APIError):  # a container still uses it
                    client.remove_image(old["Id"])
    finally:
        client.close()


def remove_images(repository: str) -> None:
    """Remove every tag of *repository*; one that a container still uses stays."""
    client = connect()
    try:
        for image in client.images(name=repository):
            for ref in image["RepoTags"] or ():
                if ref.startswith(f"{repository}:"):
                    client.remove_image(ref, noprune=False)
    finally:
        client.close()


def image_id(ref: str) -> str:
    """Return the id of an image that is there."""
    client = connect()
    try:
        return str(client.inspect_image(ref)["Id"])
    finally:
        client.close()


def _find(client: docker.APIClient, ref: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.inspect_image(ref)
    except ImageNotFound:
        return None
    return found


def host_python() -> str:
    """Return the system's own interpreter: one from a version manager may not run in another root."""
    if not Path(PYTHON).exists():
        raise RuntimeError(f"the test image needs {PYTHON}: install it (Debian, Ubuntu: apt-get install python3)")
    return PYTHON


@cache
def _root_digest() -> str:
    python = Path(host_python()).resolve()
    return hashlib.sha256(BACKEND.read_bytes() + Path(__file__).read_bytes() + python.read_bytes()).hexdigest()


@cache
def _root_tree() -> bytes:
    """Return the whole file system of the image as a tar."""
    python = Path(host_python())
    tools = [Path(found) for name in TOOLS if (found := shutil.which(name, path="/usr/bin:/bin"))]
    modules = _modules(python)
    libraries = _libraries([python, *tools, *(path for path in modules if path.suffix == ".so")])
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder, mode in (("tmp", 0o1777), ("etc", 0o755), ("root", 0o700), ("dev", 0o755), ("proc", 0o755)):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        _add_text(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/tmp:/bin/sh\n")
        _add_text(tar, "etc/group", "root:x:0:\napp:x:1000:\n")
        for path in [python, *modules, *libraries]:
            _add_file(tar, path, str(path))
        for path in tools:
            _add_file(tar, path, f"/bin/{path.name}")
        _add_file(tar, BACKEND, "/backend.py")
    return out.getvalue()


def _modules(python: Path) -> tuple[Path, ...]:
    """Return the library files that the backend loads, with what compiled form they have."""
    more = (
        f"import json, {', '.join(MORE_MODULES)}; print(json.dumps([m.__file__ for m in ({', '.join(MORE_MODULES)})]))"
    )
    found: list[str] = []
    for arguments in ([str(BACKEND), "--files"], ["-c", more]):
        done = subprocess.run([python, "-I", "-S", *arguments], capture_output=True, text=True, check=True)
        found += json.loads(done.stdout)
    paths = {Path(name) for name in found if name != str(BACKEND)}
    tag = subprocess.run(
        [python, "-c", "import sys; print(sys.implementation.cache_tag)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    compiled = {path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc" for path in paths if path.suffix == ".py"}
    return tuple(sorted(paths | {path for path in compiled if path.exists()}))


def _libraries(programs: list[Path]) -> tuple[Path, ...]:
    """Return the shared libraries of *programs*, the loader included."""
    shown = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    return tuple(sorted({Path(name) for name in re.findall(r"(/\S+) \(0x", shown)}))


def _add_file(tar: tarfile.TarFile, path: Path, name: str) -> None:
    real = path.resolve()
    info = tarfile.TarInfo(name.lstrip("/"))
    # The compiled form is taken only if the source has the time that is noted in it.
    info.size, info.mode, info.mtime = (
        real.stat().st_size,
        real.stat().st_mode & 0o755 | 0o444,
        int(real.stat().st_mtime),
    )
    with real.open("rb") as file:
        tar.addfile(info, file)


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(text.encode())
    tar.addfile(info, io.BytesIO(text.encode()))
