"""A lane that listens with TLS, and certificates of an authority of its own."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import trustme

from controller.proxy.addon import OtonAddon, port_of
from tests.proxy.rig import Caller, Lane


class Shop:
    """A certificate authority and a lane that listens with TLS."""

    def __init__(self, lane: Lane, sock: socket.socket) -> None:
        self.lane = lane
        self.ca = trustme.CA()
        self.port = port_of(sock)
        lane.call(lambda: setattr(lane.core, "start", lambda: None))
        self.addon = OtonAddon(lane.core, (), (sock,))
        lane.do(self.addon.listen())

    def issue(self, *names: str) -> tuple[str, str]:
        cert = self.ca.issue_cert(*names)
        chain = "".join(pem.bytes().decode() for pem in cert.cert_chain_pems)
        return chain, cert.private_key_pem.bytes().decode()

    def trust_file(self, folder: Path) -> str:
        """Write the authority's certificate for clients that are no Python."""
        place = folder / "authority.pem"
        self.ca.cert_pem.write_to_path(str(place))
        return str(place)

    def take(self, **by_host: tuple[str, str]) -> dict[str, str]:
        refused: dict[str, str] = self.lane.call(lambda: self.lane.core.take_certificates(by_host))
        return refused

    def call(
        self, name: str | None, session: ssl.SSLSession | None = None, version: ssl.TLSVersion | None = None
    ) -> Caller:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if version is not None:
            context.minimum_version = context.maximum_version = version
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else the client itself refuses the old ones
        if name is None:
            context.check_hostname = False
        caller = Caller(self.port)
        self.context = context
        caller.sock = context.wrap_socket(caller.sock, server_hostname=name, session=session)
        return caller
