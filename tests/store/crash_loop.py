"""
Kill a store in the middle of its commits, again and again, and look what is left.

`python -m tests.store.crash_loop DATABASE TIMES SEED` prints one line of JSON. One process imports everything
once and forks; the children are killed with SIGKILL after a random time. Only what a child was told is on the
disk counts as promised.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

from controller.clock import SystemClock
from controller.plan.situation import Answer, Done
from controller.store import Store
from tests.store.kit import a_decision, a_memory, a_release, a_start, an_order


def commit_for_ever(path: Path, pipe: int) -> None:
    """Commit, say so, and so on."""
    store, clock = Store(path, SystemClock()), SystemClock()
    threading.Thread(target=store.run, args=(threading.Event(),), daemon=True).start()
    store.wait_open(20)
    number = max((release.number for release in store.releases("shop")), default=0)
    while True:
        number += 1
        order = store.order(an_order())
        answer = Answer(order=order.id, result="release", release=number)
        memory = a_memory(number, change=order.id)
        release = a_release(number, message="x" * 3000)
        store.intend(
            "shop", a_decision(a_start(number), memory=memory, releases=(release,), answers=(answer,)), clock.now()
        )
        os.write(pipe, f"{order.id} {number}\n".encode())
        store.conclude("shop", memory, (Done(a_start(number), "done"),), clock.now())


def run_child(path: Path, chance: random.Random) -> list[tuple[int, int]]:
    """Let one child commit until it is killed; return what it was told is on the disk."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            commit_for_ever(path, writer)
        finally:
            os._exit(3)
    os.close(writer)
    told = b""
    try:
        if select.select([reader], [], [], 20)[0]:
            time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        while piece := os.read(reader, 65536):
            told += piece
    finally:
        os.close(reader)
        os.waitpid(child, 0)
    lines = told.decode().split("\n")[:-1]
    return [(int(order), int(number)) for order, number in (line.split() for line in lines)]


def look(path: Path) -> dict[str, object]:
    """Return what the file holds now; opening it is what brings it back to a whole state."""
    raw = sqlite3.connect(path)
    try:
        return {
            "integrity": raw.execute("PRAGMA integrity_check").fetchone()[0],
            "orphans": len(raw.execute("PRAGMA foreign_key_check").fetchall()),
            "orders": [one for (one,) in raw.execute("SELECT id FROM orders ORDER BY id")],
            "releases": [one for (one,) in raw.execute("SELECT number FROM releases WHERE app = 'shop'")],
            "memory": json.loads(raw.execute("SELECT document FROM apps").fetchone()[0])["last_release"],
            "change": raw.execute("SELECT value FROM counters WHERE name = 'change'").fetchone()[0],
        }
    finally:
        raw.close()


def main(path: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    commits, change, wrong = 0, 0, []
    for turn in range(times):
        told = run_child(path, chance)
        commits += len(told)
        found = look(path)
        if found["integrity"] != "ok" or found["orphans"]:
            wrong.append(f"kill {turn}: damaged: {found}")
        if {order for order, _ in told} - set(found["orders"]) or {number for _, number in told} - set(
            found["releases"]
        ):
            wrong.append(f"kill {turn}: lost what was promised: {told}")
        if found["memory"] != max(found["releases"]):
            wrong.append(f"kill {turn}: half a transaction: {found['memory']} of {max(found['releases'])}")
        if found["change"] < change or [order for order, _ in told if order <= change]:
            wrong.append(f"kill {turn}: the counter went back: {change}, {found['change']}, {told}")
        change = found["change"]
    print(json.dumps({"seed": seed, "commits": commits, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
