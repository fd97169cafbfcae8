"""
Our lane beside its peers, side by side in one run: one core for each proxy, the other for load and backend.

Rounds are interleaved, so that whatever else the machine does hits all alike; medians are shown, with the processor
time that each proxy itself used for a request, which neighbours on the machine disturb less than a rate. Everything
that a user has on is on: access logs, and with us limits, deadlines and meters. Results go to `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import trustme

sys.path.insert(0, str(Path(__file__).resolve().parent))

import peers
from peers import LOAD_CORE, PROXY_CORE, ROOM, STARTERS, Missing, Peer

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
CONNECTIONS = 32
REST_S = 5.0


@dataclass(frozen=True)
class Load:
    """One kind of load: what wrk is told, and for whom it makes sense."""

    key: str
    title: str
    path: str = "/small"
    tls: bool = False
    close: bool = False
    script: str = ""
    """What wrk is to do beside asking, as Lua."""
    note: str = ""
    connections: int = CONNECTIONS
    sockets: bool = False


UPLOAD = 'wrk.method = "POST"\nwrk.body = string.rep("x", 1048576)\n'
REST = "function delay() return math.random(20, 60) end\n"
"""So that neither the load's core nor any proxy is busy all the time: what is left is each proxy's own delay."""

NARROW = """The faster a proxy is here, the more its clients wait for the core that load and backend share, not for it.
What each proxy itself adds shows in the next table."""

LOADS = (
    Load("small", "100 bytes, connections kept"),
    Load("new", "100 bytes, a new connection for each request", close=True),
    Load("down", "1 MiB down", path="/big"),
    Load("up", "1 MiB up", path="/upload", script=UPLOAD, note=NARROW),
    Load("paced", "1 MiB up, each client after a rest of 20 to 60 ms", path="/upload", script=UPLOAD + REST),
    Load("sockets", "100 bytes there and back by WebSocket", sockets=True),
    Load("tls", "100 bytes by TLS, connections kept", tls=True),
    Load("shake", "100 bytes by TLS, a handshake for each request", tls=True, close=True),
)


@dataclass(frozen=True)
class Result:
    """What one round came to."""

    rate: float
    p99_ms: float
    cpu_us: float
    errors: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="loads by key: " + " ".join(load.key for load in LOADS))
    parser.add_argument("--no-page", action="store_true", help="print, and leave docs/performance.md as it is")
    wishes = parser.parse_args()
    if shutil.which("wrk") is None or (os.cpu_count() or 1) < 2:
        print("needs wrk (apt-get install wrk) and two cores")
        return 2
    text = measure(wishes)
    print(text)
    if not wishes.no_page:
        PAGE.write_text(text)
    return 0


def measure(wishes: argparse.Namespace) -> str:
    make_room()
    behind = [peers.start_backend(), peers.start_echo()]
    running: list[Peer] = []
    absent: list[str] = []
    try:
        for name, start in STARTERS:
            try:
                running.append(start())
            except Missing as missing:
                absent.append(f"{name}: {missing}")
        rest = at_rest(running)
        loads = [load for load in LOADS if not wishes.only or load.key in wishes.only]
        sections = [table_of(load, take_rounds(load, running, wishes), running) for load in loads]
        memory = memory_of(running, rest)
        special = f"{special_rounds(wishes)}\n\n{two_workers(wishes)}" if not wishes.only else ""
        return render(running, absent, sections, memory, special)
    finally:
        for peer in running:
            peer.stop()
        for process in behind:
            process.terminate()
            process.wait()


def at_rest(running: Sequence[Peer]) -> dict[str, tuple[float, float]]:
    """Return what each takes before it has seen a request: MB, and per cent of a core."""
    before = {peer.name: peer.cpu_s() for peer in running}
    time.sleep(REST_S)
    return {peer.name: (peer.memory_mb(), (peer.cpu_s() - before[peer.name]) / REST_S * 100) for peer in running}


def memory_of(running: Sequence[Peer], rest: dict[str, tuple[float, float]]) -> str:
    lines = ["## At rest, and memory after these loads", ""]
    lines += ["| proxy | MB at rest | % of a core at rest | MB after |", "|---|--:|--:|--:|"]
    for peer in running:
        size, share = rest[peer.name]
        lines.append(f"| {peer.name} | {size:.0f} | {share:.1f} | {peer.memory_mb():.0f} |")
    return "\n".join(lines)


def make_room() -> None:
    ROOM.mkdir(parents=True, exist_ok=True)
    for log in ROOM.glob("*.access.log"):
        log.unlink()
    issued = trustme.CA().issue_cert("localhost")
    (ROOM / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (ROOM / "key.pem").write_bytes(issued.private_key_pem.bytes())
    for load in LOADS:
        (ROOM / f"{load.key}.lua").write_text(load.script)


def take_rounds(load: Load, running: Sequence[Peer], wishes: argparse.Namespace) -> dict[str, list[Result]]:
    taken: dict[str, list[Result]] = {peer.name: [] for peer in running if peer.tls_port or not load.tls}
    for _ in range(wishes.rounds):
        for peer in running:
            if peer.name in taken:
                run = run_sockets if load.sockets else run_wrk
                taken[peer.name].append(run(load, peer, wishes.seconds))
    return taken


def run_sockets(load: Load, peer: Peer, seconds: int) -> Result:
    ours = [sys.executable, str(Path(peers.__file__).with_name("sockets.py"))]
    command = ["taskset", "-c", LOAD_CORE, *ours, "ask", str(peer.port), str(seconds), str(load.connections)]
    before = peer.cpu_s()
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    used = peer.cpu_s() - before
    count, rate, p99_ms = map(float, done.stdout.split()) if done.returncode == 0 else (0.0, 0.0, 0.0)
    return Result(rate, p99_ms, used / max(count, 1) * 1e6, errors=0 if count else 1)


def run_wrk(load: Load, peer: Peer, seconds: int, core: str = LOAD_CORE) -> Result:
    base = f"https://localhost:{peer.tls_port}" if load.tls else f"http://127.0.0.1:{peer.port}"
    command = ["taskset", "-c", core, "wrk", "-t1", f"-c{load.connections}", f"-d{seconds}", "--latency"]
    if load.close:
        command += ["-H", "Connection: close"]
    if load.script:
        command += ["-s", str(ROOM / f"{load.key}.lua")]
    before = peer.cpu_s()
    said = subprocess.run([*command, base + load.path], check=True, capture_output=True, text=True, timeout=120).stdout
    used = peer.cpu_s() - before
    count = int(find(r"(\d+) requests in", said) or 0)
    errors = sum(int(number) for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", said))
    errors += int(find(r"Non-2xx or 3xx responses: (\d+)", said) or 0)
    rate = float(find(r"Requests/sec:\s+([\d.]+)", said) or 0)
    return Result(rate, in_ms(find(r"^\s+99%\s+(\S+)", said) or "0ms"), used / max(count, 1) * 1e6, errors)


def find(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def in_ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def middle(results: Sequence[Result], what: Callable[[Result], float]) -> float:
    return statistics.median(what(result) for result in results)


def table_of(load: Load, taken: dict[str, list[Result]], running: Sequence[Peer]) -> str:
    ours = taken["oton"]
    own_rate, own_cpu = middle(ours, lambda one: one.rate), middle(ours, lambda one: one.cpu_us)
    lines = [f"## {load.title}", "", *([load.note, ""] if load.note else [])]
    lines += [
        "| proxy | requests/s | p99 ms | CPU µs a request | we are, by rate | by CPU | errors |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, results in taken.items():
        rate, cpu = middle(results, lambda one: one.rate), middle(results, lambda one: one.cpu_us)
        ratios = (
            ("", "") if name == "oton" else (f"{own_rate / max(rate, 1e-9):.2f}x", f"{cpu / max(own_cpu, 1e-9):.2f}x")
        )
        lines.append(
            f"| {name} | {rate:,.0f} | {middle(results, lambda one: one.p99_ms):.2f} | {cpu:,.1f} "
            f"| {ratios[0]} | {ratios[1]} | {sum(one.errors for one in results)} |"
        )
    return "\n".join(lines)


def special_rounds(wishes: argparse.Namespace) -> str:
    """Our own lane with 10,000 routes, and with a table that changes twenty times a second."""
    small = LOADS[0]
    kinds = {
        "one route": ("one", 70, ()),
        "10,000 routes": ("many", 80, ("--apps", "10000")),
        "10,000 routes, one of them changing 20 times a second": ("changing", 90, ("--apps", "10000", "--changing")),
    }
    started = {title: peers.start_ours(name, offset, *more) for title, (name, offset, more) in kinds.items()}
    try:
        taken: dict[str, list[Result]] = {title: [] for title in started}
        for _ in range(wishes.rounds):
            for title, peer in started.items():
                taken[title].append(run_wrk(small, peer, wishes.seconds))
    finally:
        for peer in started.values():
            peer.stop()
    lines = [
        "## Many routes, and changes in mid-load",
        "",
        "| | requests/s | p99 ms | CPU µs a request | errors |",
        "|---|--:|--:|--:|--:|",
    ]
    for title, results in taken.items():
        rate, p99, cpu = (middle(results, what) for what in (lambda r: r.rate, lambda r: r.p99_ms, lambda r: r.cpu_us))
        lines.append(f"| {title} | {rate:,.0f} | {p99:.2f} | {cpu:,.1f} | {sum(one.errors for one in results)} |")
    return "\n".join(lines)


def two_workers(wishes: argparse.Namespace) -> str:
    """One worker, two that share their sockets, and two proxies that share nothing, all on the load's cores too."""
    both = f"{LOAD_CORE},{PROXY_CORE}"
    one, two, apart, beside = (
        peers.start_ours(f"workers{offset}", offset, "--workers", str(count), core=both)
        for offset, count in ((100, 1), (110, 2), (120, 1), (130, 1))
    )
    kinds = {"one worker": (one,), "two workers": (two, two), "two proxies with a worker each": (apart, beside)}
    try:
        taken: dict[str, list[Result]] = {title: [] for title in kinds}
        for _ in range(2 * wishes.rounds):
            for title, asked in kinds.items():
                taken[title].append(run_together(asked, wishes.seconds, both))
        busier = two.busiest() / two.cpu_s()
    finally:
        for peer in (one, two, apart, beside):
            peer.stop()
    cpu = {title: middle(results, lambda result: result.cpu_us) for title, results in taken.items()}
    lines = [
        "## One worker and two",
        "",
        "Load, backend and workers share both cores here, so the rates say little; by processor time two workers would",
        f"carry {2 * cpu['one worker'] / cpu['two workers']:.2f} times as much as one on cores of their own, and two",
        f"proxies that share nothing {2 * cpu['one worker'] / cpu['two proxies with a worker each']:.2f} times.",
        f"The busier of the two workers did {busier:.0%} of the work.",
        "",
        "| | requests/s | CPU µs a request | errors |",
        "|---|--:|--:|--:|",
    ]
    for title, results in taken.items():
        rate, errors = middle(results, lambda result: result.rate), sum(result.errors for result in results)
        lines.append(f"| {title} | {rate:,.0f} | {cpu[title]:,.1f} | {errors} |")
    return "\n".join(lines)


def run_together(asked: Sequence[Peer], seconds: int, core: str) -> Result:
    """Load each of *asked* at the same time, a peer that is named twice doubly; return what they came to together."""
    own = {id(peer): peer for peer in asked}.values()
    before = sum(peer.cpu_s() for peer in own)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda peer: run_wrk(LOADS[0], peer, seconds, core), asked))
    used = sum(peer.cpu_s() for peer in own) - before
    rate = sum(result.rate for result in results)
    return Result(rate, max(r.p99_ms for r in results), used / (rate * seconds) * 1e6, sum(r.errors for r in results))


def render(running: Sequence[Peer], absent: Sequence[str], sections: Sequence[str], memory: str, special: str) -> str:
    cpu = find(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) or platform.processor()
    versions = ", ".join(f"{peer.name} {peer.version}" for peer in running if peer.name != "oton")
    lines = [
        "# Performance",
        "",
        "Written by `make bench-proxy`. Each proxy has one core, load and backend share the other; rounds are",
        "interleaved, medians shown. *By rate* is our rate divided by the peer's; *by CPU* is the peer's processor",
        "time for a request divided by ours, which neighbours on the machine disturb less. Access logs are on.",
        "Our lane also has every limit and deadline on, meters and request ids.",
        "",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores of {cpu},",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}.",
        f"Beside: {versions}.",
        *(f"Not measured: {one}." for one in absent),
        "",
    ]
    for section in sections:
        lines += [section, ""]
    return "\n".join([*lines, memory, "", special]).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
