"""Named volumes: made with our label where they are missing, never removed, and never a stranger's by accident."""

from __future__ import annotations

from typing import Any

import docker.errors

from controller.engine import labels
from controller.engine.calls import Calls
from controller.engine.translate import volume_name
from controller.errors import Refused
from controller.spec.model import AppSpec


class Volumes:
    """Makes sure that the volumes of a spec are there before a container is made."""

    def __init__(self, calls: Calls, instance: str) -> None:
        self._calls = calls
        self._instance = instance

    def ensure(self, spec: AppSpec) -> None:
        """Make missing volumes; raise Refused for an external one that is missing, or a stranger of that name."""
        for volume in spec.volumes:
            if volume.type != "volume" or not volume.source:
                continue
            name = volume_name(spec.name, volume)
            found = self._inspect(name)
            if volume.external:
                if found is None:
                    raise Refused(f"volumes: {name} does not exist; make it with `docker volume create {name}`")
            elif found is None:
                self._create(name, spec.name)
            elif not labels.is_ours(found.get("Labels"), self._instance):
                raise Refused(
                    f"volumes: volume {name} exists already and is not ours; to use it on purpose write "
                    f"{{name: {name}, external: true, target: {volume.target}}}, else choose another name"
                )

    def _inspect(self, name: str) -> dict[str, Any] | None:
        with self._calls.doing(f"look at volume {name}") as client:
            try:
                found: dict[str, Any] = client.inspect_volume(name)
            except docker.errors.NotFound:
                return None
        return found

    def _create(self, name: str, app: str) -> None:
        with self._calls.doing(f"make volume {name}") as client:
            client.create_volume(name, labels={labels.INSTANCE: self._instance, labels.APP: app})
