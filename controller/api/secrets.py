"""An app's secrets: values go in and never come out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from controller.api.apps import AppName
from controller.api.auth import Who
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.rights import Guarded, needs
from controller.clock import render_time
from controller.queries import Row

Key = Annotated[str, Path(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$", examples=["DATABASE_URL"])]


class SecretWish(BaseModel):
    """A value to keep."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    value: Annotated[str, Field(min_length=1, max_length=65536)]


def build_key_router(parts: Parts) -> APIRouter:
    """Return the route that concerns the secrets of all apps at once."""
    router = APIRouter(route_class=Guarded, prefix="/v1/secrets", tags=["secrets"])

    @router.post("/rotate-key", summary="Encrypt all secrets with a new key; no value and no version changes")
    @needs("admin", whole=True)
    def rotate_key(who: Who) -> Row:
        return {"key": parts.orders.act("secret rotate-key", "", who.name, parts.ledger.secrets.rotate_key)}

    return router


def build_router(parts: Parts) -> APIRouter:
    """Return /v1/apps/{app}/secrets."""
    router = APIRouter(route_class=Guarded, prefix="/v1/apps", tags=["secrets"])
    secrets = parts.ledger.secrets

    @router.get("/{app}/secrets", summary="An app's secrets, without their values")
    @needs("deploy")
    def list_secrets(app: AppName, who: Who) -> list[Row]:
        return [render_secret(one) for one in secrets.list(app)]

    @router.put("/{app}/secrets/{key}", summary="Set a secret; a changed one makes a new release of its app")
    @needs("deploy")
    def set_secret(app: AppName, key: Key, wish: SecretWish, who: Who) -> Row:
        def keep() -> Any:
            return secrets.set(app, key, wish.value, who.name)

        return render_secret(parts.orders.act(f"secret set {key}", app, who.name, keep, ring=True))

    @router.delete("/{app}/secrets/{key}", status_code=204, summary="Forget a secret")
    @needs("deploy")
    def remove_secret(app: AppName, key: Key, who: Who) -> None:
        if not any(one.name == key for one in secrets.list(app)):
            raise Problem(404, "no-such-secret", f"{app}: no secret {key}")
        parts.orders.act(f"secret rm {key}", app, who.name, lambda: secrets.remove(app, key), ring=True)

    return router


def render_secret(secret: Any) -> Row:
    """Render a secret without its value."""
    return {"name": secret.name, "version": secret.version, "set": render_time(secret.at), "by": secret.by}
