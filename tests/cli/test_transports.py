"""The same commands over every way to a service: the socket, http and https with a token, and ssh."""

from __future__ import annotations

import datetime as dt
import getpass
import http.server
import ipaddress
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.api.server import ApiThread
from controller.api.sockets import Listening, open_tcp
from tests.api.stage import DEADLINE_S, Session, Stage, rolling_out
from tests.api.test_tokens import a_server
from tests.cli.conftest import ROOT, Ran

Way = Callable[[pytest.TempPathFactory, Stage], Iterator[dict[str, str]]]
VERIFIES_STRICTLY = bool(ssl.create_default_context().verify_flags & ssl.VERIFY_X509_STRICT)
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One service with settings: what a limited token uploads is judged by them."""
    with Stage(tmp_path_factory.mktemp("stage"), settings=a_server()).open() as opened:
        yield opened


@contextmanager
def listening(stage: Stage, tls: Path | None = None) -> Iterator[int]:
    listener = open_tcp(("127.0.0.1", 0))
    stop = threading.Event()
    api = ApiThread(stage.api, Listening((listener,), tls))
    thread = threading.Thread(target=api.run, args=(stop,))
    thread.start()
    assert api.started.wait(DEADLINE_S)
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        thread.join(DEADLINE_S)


def a_token(stage: Stage, scope: str = "deploy") -> str:
    name = f"t{len(stage.store.tokens.list())}"
    secret, _ = stage.store.tokens.create(name, scope=scope, hosts=["*.example.com"])  # type: ignore[arg-type]
    return secret


@contextmanager
def over_unix(stage: Stage, path: Path) -> Iterator[dict[str, str]]:
    yield {"OTON_HOST": f"unix://{stage.socket}"}


@contextmanager
def over_http(stage: Stage, path: Path) -> Iterator[dict[str, str]]:
    with listening(stage) as port:
        yield {"OTON_HOST": f"http://127.0.0.1:{port}", "OTON_TOKEN": a_token(stage)}


@contextmanager
def over_https(stage: Stage, path: Path) -> Iterator[dict[str, str]]:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    file = path / "cert.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(file)
    authority.cert_pem.write_to_path(path / "ca.pem")
    with listening(stage, file) as port:
        config = path / "config"
        token = path / "token"
        token.write_text(a_token(stage))
        added = oton(
            {"XDG_CONFIG_HOME": str(config)}, path, "context", "add", "far", f"https://127.0.0.1:{port}",
            "--token-file", str(token), "--ca", str(path / "ca.pem"),
        )  # fmt: skip
        assert added.code == 0, added
        assert stat.S_IMODE((config / "oton" / "contexts.json").stat().st_mode) == 0o600
        yield {"XDG_CONFIG_HOME": str(config)}


@contextmanager
def over_a_plain_pipe(stage: Stage, path: Path) -> Iterator[dict[str, str]]:
    """What ssh does, without ssh: the command at the other end runs here."""
    yield {"OTON_HOST": "ssh://deploy@far.example.com:2222", "PATH": f"{a_pretended_ssh(stage, path)}:/usr/bin:/bin"}


def a_pretended_ssh(stage: Stage, path: Path, *more: str) -> Path:
    folder = path / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "ssh"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {path}/asked\n'
        f"OTON_HOST= OTON_SOCKET={stage.socket} PYTHONPATH={ROOT} exec {sys.executable} -m controller dial-stdio {' '.join(more)}\n"
    )
    script.chmod(0o755)
    return folder


@contextmanager
def over_ssh(stage: Stage, path: Path) -> Iterator[dict[str, str]]:
    """A real sshd of our own, on loopback, with keys of its own."""
    if not Path(SSHD).exists() or os.geteuid() != 0:
        pytest.skip("needs an sshd, and root to start one")
    with a_sshd(stage, path) as (port, config):
        wrapper = path / "bin"
        wrapper.mkdir(exist_ok=True)
        (wrapper / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
        (wrapper / "ssh").chmod(0o755)
        yield {"OTON_HOST": f"ssh://{getpass.getuser()}@127.0.0.1:{port}", "PATH": f"{wrapper}:/usr/bin:/bin"}


@contextmanager
def a_sshd(stage: Stage, path: Path) -> Iterator[tuple[int, Path]]:
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path / name)], check=True)
    (path / "far").mkdir()
    oton_there = path / "far" / "oton"
    oton_there.write_text(
        f'#!/bin/sh\nOTON_SOCKET={stage.socket} PYTHONPATH={ROOT} exec {sys.executable} -m controller "$@"\n'
    )
    oton_there.chmod(0o755)
    (path / "authorized").write_text((path / "user.pub").read_text())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = path / "sshd_config"
    server.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {path}/host\nAuthorizedKeysFile {path}/authorized\nStrictModes no\n"
        f"UsePAM no\nPidFile none\nSetEnv PATH={path}/far:/usr/bin:/bin\nPermitRootLogin prohibit-password\n"
    )
    client = path / "ssh_config"
    client.write_text(f"Host *\n  IdentityFile {path}/user\n  UserKnownHostsFile {path}/known\n  IdentitiesOnly yes\n")
    key = (path / "host.pub").read_text().split()[:2]
    (path / "known").write_text(f"[127.0.0.1]:{port} {' '.join(key)}\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(server)], stderr=subprocess.DEVNULL)
    try:
        wait_open(port)
        yield port, client
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def wait_open(port: int) -> None:
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return


def oton(env: dict[str, str], path: Path, *words: str, stdin: bytes = b"") -> Ran:
    base = {"PATH": "/usr/bin:/bin", "HOME": str(path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "controller", *words],
        input=stdin, capture_output=True, check=False, timeout=90, env=base | env, cwd=path,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


WAYS = (over_unix, over_http, over_https, over_a_plain_pipe, over_ssh)


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_the_same_script_works_over_every_way(way: object, stage: Stage, tmp_path: Path) -> None:
    app = f"shop-{WAYS.index(way)}"  # type: ignore[arg-type]
    stage.plays = {"apply": rolling_out(), "rollback": rolling_out()}
    stage.engine.start_session = lambda command: Session(bytes.upper, code=5)
    spec = f"name: {app}\nimage: shop:1\nport: 8000\nroutes: [{{host: {app}.example.com}}]\n".encode()
    with way(stage, tmp_path) as env:  # type: ignore[operator]
        applied = oton(env, tmp_path, "apply", "-", "--image", "shop:2", stdin=spec)
        assert (applied.code, applied.out.split(",")[0]) == (0, f"{app}: release 1 is live (shop:2)"), applied
        status = oton(env, tmp_path, "status", app, "-o", "json")
        assert (status.code, status.json[0]["health"]) == (0, "healthy")
        replica = stage.worlds[app].replicas[0]
        stage.engine.containers[app] = (replica,)
        stage.engine.written[replica.id] = [(1.0, "a line")]
        assert oton(env, tmp_path, "logs", app).out == f"{app}-r1-1 | a line\n"
        ran = oton(env, tmp_path, "exec", app, "--", "cat", stdin=b"bytes \xc3\xa9")
        assert (ran.code, ran.out, ran.err) == (5, "BYTES \xe9", "to stderr\n")
        assert oton(env, tmp_path, "rollback", app).code == 0
        assert oton(env, tmp_path, "status", "no-such-app").code == 6


def test_a_wrong_token_is_7_and_is_never_printed(stage: Stage, tmp_path: Path) -> None:
    with over_http(stage, tmp_path) as env:
        ran = oton(env | {"OTON_TOKEN": "oton_wrong"}, tmp_path, "status")
        assert (ran.code, ran.err) == (7, "oton: this token is not valid, or no longer\n")
        assert oton(env | {"OTON_TOKEN": ""}, tmp_path, "status").code == 7
        lesser = env | {"OTON_TOKEN": a_token(stage, "read")}
        stage.bring_up("mine")
        ran = oton(lesser, tmp_path, "restart", "mine")
        assert (ran.code, ran.err) == (7, "oton: this needs scope deploy; this token has read\n")


def test_a_certificate_that_nobody_vouches_for_is_refused(stage: Stage, tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    with listening(stage, tmp_path / "cert.pem") as port:
        ran = oton({"OTON_HOST": f"https://127.0.0.1:{port}", "OTON_TOKEN": "oton_x"}, tmp_path, "status")
    assert ran.code == 8
    assert "its certificate is signed by no authority that this machine knows" in ran.err
    assert "oton context add NAME URL --ca FILE" in ran.err
    assert "_ssl.c" not in ran.err


@pytest.mark.skipif(not VERIFIES_STRICTLY, reason="this Python takes any authority")
def test_an_authority_that_openssl_made_without_options_is_told_with_the_way_to_make_a_good_one(
    stage: Stage, tmp_path: Path
) -> None:
    authority(tmp_path, key_usage=None)
    with listening(stage, tmp_path / "cert.pem") as port:
        assert oton({}, tmp_path, "context", "add", "far", f"https://127.0.0.1:{port}", "--ca", "ca.pem").code == 0
        ran = oton({"OTON_TOKEN": "oton_x"}, tmp_path, "status")
    assert ran.code == 8
    assert "ca.pem" in ran.err
    assert "does not include key usage extension" in ran.err
    assert "-addext keyUsage=critical,keyCertSign,cRLSign" in ran.err
    assert "_ssl.c" not in ran.err


def test_an_authority_of_ones_own_is_believed(stage: Stage, tmp_path: Path) -> None:
    authority(tmp_path, key_usage=SIGNS)
    with listening(stage, tmp_path / "cert.pem") as port:
        assert oton({}, tmp_path, "context", "add", "far", f"https://127.0.0.1:{port}", "--ca", "ca.pem").code == 0
        ran = oton({"OTON_TOKEN": "oton_x"}, tmp_path, "status")
    assert (ran.code, "token is not valid" in ran.err) == (7, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "holds no certificate"),
        (b"\x30\x82\x00\xff", "is not text, maybe DER or PKCS #12"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds a private key"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAA\n-----END CERTIFICATE REQUEST-----\n", "an authority has to sign"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds a damaged certificate"),
    ],
)
def test_what_is_no_authority_is_refused_where_it_is_given(tmp_path: Path, text: bytes | None, said: str) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_bytes(text)
    ran = oton({}, tmp_path, "context", "add", "far", "https://far.example.com", "--ca", "ca.pem")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"oton: ca.pem: {said}") or said in ran.err
    assert oton({}, tmp_path, "context", "list", "-o", "name").out == ""


SIGNS = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


def authority(folder: Path, key_usage: x509.KeyUsage | None) -> None:
    """Make ca.pem, as `openssl req -x509` does where no key usage is asked for, and cert.pem, signed by it."""
    own, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "our authority")])
    known_as = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(own.public_key())
    ca = a_certificate(name, own).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    ca = ca.add_extension(known_as, critical=False)
    ca = ca.add_extension(key_usage, critical=True) if key_usage is not None else ca
    leaf = a_certificate(x509.Name([]), theirs, name).add_extension(signed_by, critical=False)
    leaf = leaf.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=True
    )
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.sign(own, hashes.SHA256()).public_bytes(pem))
    (folder / "cert.pem").write_bytes(theirs.private_bytes(*plain) + leaf.sign(own, hashes.SHA256()).public_bytes(pem))


def a_certificate(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name | None = None
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


def test_what_answers_but_is_not_ours_is_8(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        ran = oton({"OTON_HOST": f"http://127.0.0.1:{port}"}, tmp_path, "status")
        thread.join()
    assert (ran.code, ran.err) == (8, f"oton: http://127.0.0.1:{port}: the server there is not Oton Pilot\n")


@pytest.mark.parametrize(
    ("words", "code"), [(("status",), 8), (("events", "-f"), 8), (("exec", "shop", "--", "ls"), 125)]
)
def test_whoever_is_sent_on_is_told_where_to_and_takes_no_token_there(
    tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    class SendOn(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(308)
            self.send_header("Location", f"https://far.example.com{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SendOn) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        ran = oton({"OTON_HOST": f"http://127.0.0.1:{server.server_port}"}, tmp_path, *words)
        server.shutdown()
        thread.join()
    assert (ran.code, ran.out) == (code, ""), ran
    assert "it redirects to https://far.example.com\n" in ran.err


def test_ssh_is_asked_for_dial_stdio_and_nothing_else(stage: Stage, tmp_path: Path) -> None:
    with over_a_plain_pipe(stage, tmp_path) as env:
        assert oton(env, tmp_path, "status").code == 0
    asked = (tmp_path / "asked").read_text()
    assert asked == "-T -o BatchMode=yes -o ConnectTimeout=10 -p 2222 -- deploy@far.example.com oton dial-stdio\n"


def test_an_ssh_key_can_be_limited_to_a_token(stage: Stage, tmp_path: Path) -> None:
    stage.bring_up("mine")
    token = tmp_path / "token"
    token.write_text(a_token(stage, "read") + "\n")
    env = {
        "OTON_HOST": "ssh://far.example.com",
        "PATH": f"{a_pretended_ssh(stage, tmp_path, '--token-file', str(token))}:/usr/bin:/bin",
        "OTON_TOKEN": a_token(stage, "admin"),  # whatever the client says itself does not count
    }
    assert oton(env, tmp_path, "status", "mine").code == 0
    assert oton(env, tmp_path, "restart", "mine").code == 7


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Host key verification failed.' >&2; exit 255", "Host key verification failed."),
        ("echo 'sh: oton: not found' >&2; exit 127", "the program oton is not there on the other side"),
        ("exit 3", "ssh ended with 3"),
        (
            "echo 'oton: no service answers at /run/oton/oton.sock' >&2; exit 8",
            "no service answers at /run/oton/oton.sock",
        ),
    ],
)
def test_an_ssh_that_fails_says_why_and_what_to_try(stage: Stage, tmp_path: Path, script: str, said: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ssh").chmod(0o755)
    ran = oton({"OTON_HOST": "ssh://me@far", "PATH": f"{folder}:/usr/bin:/bin"}, tmp_path, "status")
    assert ran.code == 8
    assert said.casefold() in ran.err.casefold()
    assert "next: try: ssh -T" in ran.err


def test_an_unknown_host_key_is_refused_and_said(stage: Stage, tmp_path: Path) -> None:
    with over_ssh(stage, tmp_path) as env:
        (tmp_path / "known").write_text("")
        ran = oton(env, tmp_path, "status")
    assert ran.code == 8
    assert "host key verification failed" in ran.err
