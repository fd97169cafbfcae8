"""`oton cert`: HTTPS by name, replaced while traffic goes on, and never a made-up certificate."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trustme

from tests.parts.service import Service
from tests.parts.stage import Stage
from tests.parts.wait import free_port, wait_for

pytestmark = pytest.mark.e2e


def save(folder: Path, authority: trustme.CA, host: str, name: str) -> tuple[str, str]:
    issued = authority.issue_cert(host)
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return str(cert), str(key)


def serial(port: int, host: str, trust: ssl.SSLContext, address: str = "127.0.0.1") -> str:
    with socket.create_connection((address, port), 5) as raw, trust.wrap_socket(raw, server_hostname=host) as tls:
        found = tls.getpeercert()
    return str(found["serialNumber"]) if found else ""


class Visits(threading.Thread):
    """Asks over HTTPS again and again, each time on a connection of its own."""

    def __init__(self, port: int, host: str, trust: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self.port, self.host, self.trust = port, host, trust
        self.enough = threading.Event()
        self.answers: list[int] = []
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                with httpx.Client(verify=self.trust, timeout=5) as client:
                    request = client.build_request(
                        "GET",
                        f"https://127.0.0.1:{self.port}/",
                        headers={"Host": self.host},
                        extensions={"sni_hostname": self.host},
                    )
                    self.answers.append(client.send(request).status_code)
            except httpx.HTTPError as error:
                self.failures.append(repr(error))


@pytest.mark.timeout(120)
@pytest.mark.slow
@pytest.mark.core
def test_a_host_is_served_over_https_and_its_certificate_replaced_under_load(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    port = free_port()
    service = services(settings={"TLS_PORT": str(port)})
    stage = Stage(service, "secure")
    assert stage.apply().returncode == 0
    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        serial(port, stage.host, trust)

    cert, key = save(tmp_path, authority, stage.host, "one")
    added = service.oton("cert", "add", stage.host, "--cert", cert, "--key", key)
    assert added.returncode == 0, added.stderr
    first = wait_for(lambda: serial(port, stage.host, trust), 5, "the certificate is served")
    plain = httpx.get(f"http://127.0.0.1:{service.port}/x?y=1", headers={"Host": stage.host})
    assert (plain.status_code, plain.headers["location"]) == (308, f"https://{stage.host}:{port}/x?y=1")
    for stranger in ("other.test", "a.secure.test"):
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            serial(port, stranger, trust)
    dear = ssl.create_default_context()
    authority.configure_trust(dear)
    dear.set_ecdh_curve("ffdhe8192")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        serial(port, stage.host, dear)

    visits = Visits(port, stage.host, trust)
    visits.start()
    wrong = save(tmp_path, authority, "other.test", "wrong")
    refused = service.oton("cert", "add", stage.host, "--cert", wrong[0], "--key", wrong[1])
    assert refused.returncode == 2
    assert "the certificate is for other.test" in refused.stderr
    assert serial(port, stage.host, trust) == first
    again = save(tmp_path, authority, stage.host, "two")
    assert service.oton("cert", "add", stage.host, "--cert", again[0], "--key", again[1]).returncode == 0
    wait_for(lambda: serial(port, stage.host, trust) != first, 5, "the new certificate is served")
    visits.enough.set()
    visits.join(10)
    assert visits.failures == []
    assert len(visits.answers) > 10
    assert set(visits.answers) == {200}

    listed = service.oton("cert", "list")
    assert stage.host in listed.stdout
    assert "PRIVATE" not in service.api("GET", "/v1/certs").text
    assert stage.host in service.oton("doctor").stdout
    assert service.oton("cert", "rm", stage.host).returncode == 0
    assert service.oton("cert", "rm", stage.host).returncode == 6


def serve_beyond_loopback(service: Service, place: str, subject: str, pair: tuple[str, str]) -> None:
    """Start a stopped service with its API at *place*: refused without a certificate for *subject*, served with one."""
    service.settings["OTON_API"] = place
    refused = service.oton("serve")
    assert refused.returncode == 2
    assert f'OTON_API: found "{place}"' in refused.stderr
    assert f"there is no certificate for {subject}" in refused.stderr
    assert f"oton cert add {subject} --cert" in refused.stderr
    del service.settings["OTON_API"]
    service.start()
    added = service.oton("cert", "add", subject, "--cert", pair[0], "--key", pair[1])
    assert added.returncode == 0, added.stderr
    service.stop()
    service.settings["OTON_API"] = place
    service.start()


@pytest.mark.timeout(120)
@pytest.mark.slow
@pytest.mark.core
def test_beyond_loopback_the_api_speaks_tls_by_its_hosts_certificate_or_is_not_started(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    service, port, host = services(), free_port(), "api.oton.test"
    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    cert, key = save(tmp_path, authority, host, "one")
    token = service.oton("token", "create", "ci", "--scope", "read", "-o", "json")
    assert token.returncode == 0, token.stderr
    service.stop()

    serve_beyond_loopback(service, f"{host}:{port}", host, (cert, key))
    first = serial(port, host, trust)
    with httpx.Client(verify=trust, base_url=f"https://127.0.0.1:{port}", headers={"Host": host}) as client:

        def get(path: str, **headers: str) -> int:
            request = client.build_request("GET", path, headers=headers)
            request.extensions["sni_hostname"] = host
            return client.send(request).status_code

        secret = json.loads(token.stdout)["secret"]
        assert get("/v1/apps") == 401
        assert get("/v1/apps", Authorization=f"Bearer {secret}") == 200
        again = save(tmp_path, authority, host, "two")
        assert service.oton("cert", "add", host, "--cert", again[0], "--key", again[1]).returncode == 0
        wait_for(lambda: serial(port, host, trust) != first, 5, "the new certificate is shown")
        assert get("/v1/apps", Authorization=f"Bearer {secret}") == 200, "the open connection goes on"
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5)


def own_address(family: socket.AddressFamily, far: str) -> str:
    """Return this machine's address on the way to *far*, which is never reached; "" where it has none."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((far, 9))
        except OSError:
            return ""
        found = str(probe.getsockname()[0])
    return "" if ipaddress.ip_address(found).is_loopback else found


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("family", "far"), [(socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1")], ids=["IPv4", "IPv6"]
)
def test_an_address_beyond_loopback_is_served_with_tls_by_a_certificate_for_it(
    services: Callable[..., Service], tmp_path: Path, family: socket.AddressFamily, far: str
) -> None:
    address = own_address(family, far)
    if not address:
        pytest.skip("this machine has no such address beyond loopback")
    service, port = services(settings={"XDG_CONFIG_HOME": str(tmp_path / "config")}), free_port()
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    made = service.oton("token", "create", "ci", "--scope", "read", "-o", "json")
    assert made.returncode == 0, made.stderr
    (tmp_path / "token").write_text(json.loads(made.stdout)["secret"])
    service.stop()

    serve_beyond_loopback(service, place, address, save(tmp_path, authority, address, "one"))
    words = ("--token-file", str(tmp_path / "token"), "--ca", str(tmp_path / "ca.pem"))
    assert service.oton("context", "add", "far", f"https://{place}", *words).returncode == 0
    status = service.oton("--context", "far", "status", "-o", "json")
    assert (status.returncode, status.stdout) == (0, "[]\n"), status.stderr
    first = serial(port, address, trust, address)
    again = save(tmp_path, authority, address, "two")
    assert service.oton("cert", "add", address, "--cert", again[0], "--key", again[1]).returncode == 0
    wait_for(lambda: serial(port, address, trust, address) != first, 5, "the new certificate is shown")
    assert service.oton("cert", "rm", address).returncode == 0
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{place}/healthz", timeout=5)
