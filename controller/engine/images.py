"""Images that releases of ours once used: remembered in the state directory, removed when nothing uses them."""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker.errors
import structlog

from controller.clock import steady_seconds
from controller.engine.calls import Calls
from controller.errors import ControllerError

FRESH_S = 600.0

_log = structlog.get_logger("engine")


class Images:
    """Knows which images came here through us; only those are ever removed."""

    def __init__(self, calls: Calls, memo: Path | None) -> None:
        self._calls = calls
        self._memo = memo
        self._used: dict[str, set[str]] = {}
        """Image id -> the references under which we met it."""
        self._met: dict[str, float] = {}
        self._lock = threading.Lock()
        self._load()

    def used(self, ref: str, image_id: str) -> None:
        """Note that a release of ours uses this image, met under *ref*."""
        with self._lock:
            self._met[image_id] = steady_seconds()
            refs = self._used.setdefault(image_id, set())
            if ref in refs:
                return
            refs.add(ref)
            self._save()

    def has(self, image_id: str) -> bool:
        """Say whether the image is on the engine now."""
        return bool(image_id) and self._inspect(image_id) is not None

    def retain(self, keep: Collection[str]) -> None:
        """Remove what we once used but for *keep*; an image in use by anybody stays, as the engine sees to."""
        with self._lock:
            # One that came a moment ago may belong to a release that is not written down yet.
            fresh = {image_id for image_id, met in self._met.items() if steady_seconds() - met < FRESH_S}
            candidates = {image: set(refs) for image, refs in self._used.items() if image not in {*keep, *fresh}}
        for image_id, refs in sorted(candidates.items()):
            if self._remove(image_id, refs):
                with self._lock:
                    self._used.pop(image_id, None)
                    self._save()

    def _inspect(self, image: str) -> dict[str, Any] | None:
        with self._calls.doing(f"look for image {image[:19]}") as client:
            try:
                found: dict[str, Any] = client.inspect_image(image)  # type: ignore[no-untyped-call]
            except docker.errors.NotFound:
                return None
        return found

    def _remove(self, image_id: str, refs: Collection[str]) -> bool:
        """Take our tags off the image; the engine deletes it with its last one. True: we are done with it."""
        found = self._inspect(image_id)
        if found is None:
            return True
        tags = set(found.get("RepoTags") or ())
        # A tag that points elsewhere by now is not in this list, so a moved tag is never taken off its new image.
        ours = sorted(tag for tag in tags if tag in {_full(ref) for ref in refs})
        if tags - set(ours):
            ours = []  # somebody gave it another name: it is theirs, too
        try:
            for name in ours or ([image_id] if not tags else []):
                with self._calls.doing(f"remove image {name[:80]}") as client:
                    client.remove_image(name, force=False, noprune=False)
        except ControllerError as error:
            _log.debug("image stays", image=image_id[:19], why=str(error))
            return False
        if ours or not tags:
            _log.info("image removed", image=image_id[:19], names=ours)
        return bool(ours) or not tags

    def _load(self) -> None:
        if self._memo is None:
            return
        with suppress(OSError, UnicodeDecodeError):
            for line in self._memo.read_text().splitlines():
                image_id, _, ref = line.partition(" ")
                if image_id.startswith("sha256:"):
                    self._used.setdefault(image_id, set()).add(ref)

    def _save(self) -> None:
        if self._memo is None:
            return
        # Lost lines leave an image behind that a person can remove; a pass must not fail for that.
        with suppress(OSError):
            spare = self._memo.with_suffix(".tmp")
            rows = [f"{image_id} {ref}" for image_id, refs in sorted(self._used.items()) for ref in sorted(refs)]
            spare.write_text("\n".join(rows) + "\n")
            spare.replace(self._memo)


def _full(ref: str) -> str:
    """Return the reference as the engine lists it: with a tag, without Docker Hub's own host name."""
    name = ref.removeprefix("docker.io/").removeprefix("library/")
    return name if "@" in name or ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"
