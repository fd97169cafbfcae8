"""Certificates of the public side, for admins: names and expiry are shown, keys never."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from controller.api.auth import Who
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.rights import Guarded, needs
from controller.api.tokens import HOST
from controller.clock import render_time
from controller.queries import Row
from controller.tls import Certificate

Subject = Annotated[str, Field(pattern=rf"{HOST}|^[0-9a-f]{{0,4}}:[0-9a-f:.]{{1,40}}$")]
"""A host name, or an IP address."""
Pem = Annotated[str, Field(max_length=256 * 1024)]


class CertificateWish(BaseModel):
    """A certificate for a host."""

    model_config = ConfigDict(extra="forbid")
    host: Subject
    cert: Pem
    """PEM: the host's own certificate, then its chain."""
    key: Pem
    """PEM: its private key, without a password."""


def build_router(parts: Parts) -> APIRouter:
    """Return /v1/certs."""
    router = APIRouter(route_class=Guarded, prefix="/v1/certs", tags=["access"])
    certificates = parts.certificates

    @router.get("", summary="All certificates: names and expiry")
    @needs("admin", whole=True)
    def list_certs(who: Who) -> list[Row]:
        return [render_certificate(one) for one in certificates.list()]

    @router.post("", status_code=201, summary="Put a certificate in force; a bad one is refused, the old one stays")
    @needs("admin", whole=True)
    def add(who: Who, wish: CertificateWish) -> Row:
        def put() -> Certificate:
            added: Certificate = certificates.add(wish.host, wish.cert, wish.key)
            return added

        return render_certificate(parts.orders.act(f"cert add {wish.host}", "", who.name, put))

    @router.delete("/{host}", summary="Take a certificate out of force; open connections go on")
    @needs("admin", whole=True)
    def remove(host: str, who: Who) -> Row:
        known = {one.host: one for one in certificates.list()}
        if host not in known:
            raise Problem(404, "no-such-certificate", f"{host[:253]}: no certificate for it")
        parts.orders.act(f"cert rm {host}", "", who.name, lambda: certificates.remove(host))
        return render_certificate(known[host])

    return router


def render_certificate(one: Certificate) -> Row:
    """Render a certificate, without its key."""
    return {
        "host": one.host,
        "names": list(one.names),
        "issuer": one.issuer,
        "not_before": render_time(one.not_before) if one.not_before else None,
        "expires": render_time(one.not_after) if one.not_after else None,
        "problem": one.problem,
    }
