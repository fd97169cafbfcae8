"""
A whole service of a test's own: `oton serve` with its own state, ports and instance, and its end.

Whatever a test does, `close` ends the processes and removes every container, network and volume with this
instance's label; nothing else on the engine is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.errors import APIError, NotFound

from tests.parts.client import CheckingClient
from tests.parts.daemon import connect
from tests.parts.wait import free_port, wait_for

START_S = 30.0
STOP_S = 20.0
TOP = Path(__file__).resolve().parents[2]
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does for a service that it hands a socket to (sd_listen_fds(3))."""


class Service:
    """One running `oton serve` below *root*; start it with `start`, end it with `close`."""

    def __init__(self, root: Path, settings: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.desired = root / "desired"
        self.state = root / "state"
        self.logs = root / "logs"
        self.socket = root / "s" / "oton.sock"
        self.log_file = root / "service.log"
        self.port = free_port()
        for folder in (self.desired, self.logs, self.socket.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.logs.chmod(0o777)
        self.socket.parent.chmod(0o700)
        self.settings = dict(settings or {})
        self.listener: socket.socket | None = None
        """The public socket, where a test holds it in place of systemd."""
        self.process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, str] = {}
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://oton", timeout=20
        )

    # processes

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the service and of `oton` beside it."""
        bare = {k: v for k, v in os.environ.items() if not k.startswith("OTON_") and k not in ("PORT", "TLS_PORT")}
        return {
            **bare,
            "PYTHONPATH": str(TOP),
            "PORT": str(self.port),
            "OTON_BIND": "127.0.0.1",
            "OTON_DESIRED": str(self.desired),
            "OTON_STATE": str(self.state),
            "OTON_SOCKET": str(self.socket),
            "DB_PATH": str(self.root / "database.db"),
            "OTON_API": "off",
            "OTON_NETWORK": f"oton-{self.root_key}",
            "OTON_ACCESS_LOG": str(self.root / "access.log"),
            "OTON_STOP_TIMEOUT": "5s",
            "OTON_LOG_FORMAT": "console",
            "LOG_LEVEL": "debug",
            "NO_COLOR": "1",
            **self.settings,
        }

    @property
    def root_key(self) -> str:
        """A name for this service's own things that no other has."""
        return f"t{abs(hash(str(self.root))) % 16**6:06x}{os.getpid() % 10**4}"

    def start(self, *, wait: bool = True) -> None:
        """Start the service and wait until it says that it is ready."""
        held = [self.listener.fileno()] if self.listener is not None else []
        activation = ["-c", ACTIVATE, *map(str, held), sys.executable] if held else []
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *activation, "-m", "controller", "serve"],
                cwd=self.root,
                env=self.environment,
                pass_fds=held,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            try:
                wait_for(self.is_ready, START_S, "the service is ready", look_s=0.05)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.log_tail()}") from None

    def is_ready(self) -> bool:
        """Say whether /readyz answers 200; AssertionError once the process has ended."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"oton serve ended with {self.process.returncode}:\n{self.log_tail()}")
        if not self.is_listening():
            return False
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def is_listening(self) -> bool:
        """Say whether there is an API to ask; httpx leaves the socket of a failed connect to the garbage collector."""
        with socket.socket(socket.AF_UNIX) as side:
            return side.connect_ex(str(self.socket)) == 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the service as a person would, and return its exit code."""
        assert self.process is not None
        self.processes()  # remembered, so that one which outlives its parent is found
        self.process.send_signal(how)
        try:
            return self.process.wait(STOP_S)
        finally:
            self._kill_rest()

    def kill(self) -> None:
        """Kill all its processes at once, as a crash of the machine would."""
        self._kill_rest()
        if self.process is not None:
            self.process.wait(5)

    def _kill_rest(self) -> None:
        """Kill what is left of this service: its processes know their state directory, wherever their parent went."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self.processes(), 5, "the service's processes are gone")

    def children(self, word: str = "") -> list[int]:
        """Return the pids of the supervisor's descendants whose command line or title holds *word*."""
        assert self.process is not None
        return [pid for pid in self.processes() if pid != self.process.pid and word in command_of(pid)]

    def pids_of(self, name: str) -> list[int]:
        """Return the pids of its processes that are named so in process lists, such as "oton-worker"."""
        return [pid for pid in self.processes() if name_of(pid).startswith(name)]

    def pid_of(self, word: str) -> int:
        """Return the pid of the one child whose command line holds *word*, such as "_controller"; 0: there is none."""
        found = self.children(word)
        return found[0] if len(found) == 1 else 0

    def signal_child(self, word: str, how: signal.Signals) -> int:
        """Send a signal to the one child whose command line holds *word* and return its pid."""
        wait_for(lambda: self.pid_of(word), START_S, f"{word} runs")
        pid = self.pid_of(word)
        assert pid, f"no {word} to signal"  # pid 0 would be our own process group
        os.kill(pid, how)
        return pid

    def wait_next(self, word: str, old: int) -> None:
        """Wait until another child than *old* does the work of *word*, and the service is ready."""
        wait_for(lambda: self.pid_of(word) not in (0, old) and self.is_ready(), START_S, f"another {word} acts")

    def processes(self) -> list[int]:
        """Return the pids of all that runs for this service: what was ever below the supervisor and still lives."""
        parents = {pid: born for pid in all_pids() if (born := birth_of(pid))}
        known = {self.process.pid} if self.process is not None and self.process.poll() is None else set()
        while more := {pid for pid, (parent, _) in parents.items() if parent in known} - known:
            known |= more
        self._seen |= {pid: parents[pid][1] for pid in known if pid in parents}
        return sorted(pid for pid, born in self._seen.items() if parents.get(pid, (0, ""))[1] == born)

    def close(self) -> None:
        """End the service and remove everything that carries its label."""
        try:
            if self.process is not None and self.process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    self.stop()
        finally:
            self._kill_rest()
            self._http.close()
            if instance := self.instance:
                remove_instance(instance)

    def log_tail(self, lines: int = 60) -> str:
        """Return the last lines of the service's log."""
        if not self.log_file.exists():
            return ""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    # asking

    @property
    def instance(self) -> str:
        """The instance id, "" before the first start."""
        place = self.state / "instance"
        return place.read_text().strip() if place.exists() else ""

    def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Call the API over the socket."""
        return self._http.request(method, path, **more)

    def app(self, name: str) -> dict[str, Any]:
        """Return the app's row of `status`, {} where there is none."""
        answer = self.api("GET", f"/v1/apps/{name}")
        row: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return row

    def apps(self) -> list[dict[str, Any]]:
        """Return every row of `status`."""
        rows: list[dict[str, Any]] = self.api("GET", "/v1/apps").json()
        return rows

    def releases(self, name: str) -> list[dict[str, Any]]:
        """Return the app's history, newest first."""
        rows: list[dict[str, Any]] = self.api("GET", f"/v1/apps/{name}/releases").json()
        return rows

    def oton(self, *words: str, stdin: str = "", limit_s: float = 90) -> subprocess.CompletedProcess[str]:
        """Run the command line against this service."""
        return subprocess.run(
            [sys.executable, "-m", "controller", *words],
            cwd=self.root,
            env={**self.environment, "OTON_HOST": f"unix://{self.socket}"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def status(self, name: str = "") -> list[dict[str, Any]]:
        """Return what `oton status -o json` prints."""
        done = self.oton("status", *([name] if name else []), "-o", "json")
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def get(self, path: str = "/", host: str = "shop.test", **more: Any) -> httpx.Response:
        """Send one request through the proxy."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers={"Host": host}, timeout=20, **more)

    def client(self, host: str = "shop.test", **more: Any) -> CheckingClient:
        """Return a checking client that is joined with the backends' logs."""
        return CheckingClient(port=self.port, host=host, logs=self.logs, **more)

    # acting

    def write_spec(self, text: str, file: str = "shop.yaml") -> Path:
        """Put a spec into the watched directory in one step."""
        place = self.desired / file
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name}.part")
        part.write_text(text)
        part.replace(place)
        return place

    def wait_app(self, name: str, condition: Callable[[dict[str, Any]], Any], limit_s: float = 40) -> dict[str, Any]:
        """Wait until the app's row fulfils *condition* and return that row."""
        rows: list[dict[str, Any]] = [{}]

        def look() -> bool:
            rows[0] = self.app(name)
            return bool(rows[0] and condition(rows[0]))

        try:
            wait_for(look, limit_s, f"{name} as expected", look_s=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\nrow: {json.dumps(rows[0], indent=1)}") from None
        return rows[0]

    def wait_version(self, version: str, host: str = "shop.test", limit_s: float = 40) -> float:
        """Wait until the proxy's answer comes from *version*; return the wall time of that answer."""
        wait_for(lambda: self._version(host) == version, limit_s, f"{host} answers with {version}")
        return time.time()

    def _version(self, host: str) -> str:
        try:
            return str(self.get(host=host).headers.get("x-version", ""))
        except httpx.TransportError as error:
            return type(error).__name__

    def containers(self, app: str = "") -> list[dict[str, Any]]:
        """Return this instance's containers, stopped ones too, as the engine lists them."""
        labels = [f"oton.instance={self.instance}", *([f"oton.app={app}"] if app else [])]
        with engine() as client:
            rows: list[dict[str, Any]] = client.containers(all=True, filters={"label": labels})
            return rows


def a_spec(  # a builder: one argument a field
    name: str = "shop",
    image: str = "oton-test-backend:v1",
    *,
    host: str | None = None,
    replicas: int = 2,
    logs: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> str:
    """Return the text of a spec for the test backend, quick to get ready; *more* are top-level fields."""
    spec: dict[str, Any] = {
        "name": name,
        "image": image,
        "port": 8000,
        "replicas": replicas,
        "pull": "never",
        "routes": [{"host": host or f"{name}.test"}],
        "health": {"path": "/healthz", "interval": "100ms", "timeout": "1s"},
        "deadline": "15s",
        "drain": "10s",
        "stop_grace": "3s",
        "environment": {**({"LOG_DIR": "/check"} if logs else {}), **(environment or {})},
    }
    if logs:
        spec["volumes"] = [f"{logs}:/check"]
    spec.update(more)
    return json.dumps(spec, indent=1) + "\n"  # JSON is YAML


def all_pids() -> list[int]:
    """Return every process on this machine."""
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]


def birth_of(pid: int) -> tuple[int, str] | None:
    """Return a process's parent and start time, by which it is told from a later one with its pid; None if ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[1]), fields[19])


def command_of(pid: int) -> str:
    """Return a process's command line, "" once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def name_of(pid: int) -> str:
    """Return a process's name as process lists show it, "" once it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@contextmanager
def engine() -> Iterator[docker.APIClient]:
    """Yield a client of the engine that tests use."""
    client = connect()
    try:
        yield client
    finally:
        client.close()


def remove_instance(instance: str) -> None:
    """Remove every container, network and volume with exactly this instance's label, and its secret files."""
    assert instance
    for place in ("/run", "/dev/shm", os.environ.get("XDG_RUNTIME_DIR") or "/run"):
        shutil.rmtree(f"{place}/oton-{instance}", ignore_errors=True)
    label = {"label": f"oton.instance={instance}"}
    with engine() as client:
        for row in client.containers(all=True, filters=label):
            with suppress(NotFound, APIError):
                client.remove_container(row["Id"], force=True, v=True)
        for row in client.networks(filters=label):
            with suppress(NotFound):
                client.remove_network(row["Id"])
        for row in client.volumes(filters=label)["Volumes"] or ():
            with suppress(NotFound):
                client.remove_volume(row["Name"], force=True)
