"""
A controller that only publishes: the real control channel, lock and publisher, driven by a test.

Listens on state/stub.sock: {"publish": {app: routes or null}}, {"routing": app}, {"counters": true}.
With STUB_FAILS it refuses to start, once the file of that name is there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from controller.control import Control
from controller.errors import ControllerError
from controller.lock import Lock
from controller.publisher import Publisher
from controller.routing.table import decode_app, encode_app
from controller.settings import configure_logging, load_settings

stop = threading.Event()


def main() -> int:
    settings = load_settings()
    configure_logging(settings)
    if (sign := os.environ.get("STUB_FAILS")) is not None:
        while not Path(sign).exists():
            time.sleep(0.01)
        print("oton: DB_PATH: the database is from a newer version", file=sys.stderr)
        return 2
    lock = Lock.hold(settings.state, os.environ)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    refused: list[str] = []
    publisher = Publisher(settings.state, ring=lambda _: None, on_refused=refused.append)
    control = Control(
        int(sys.argv[1]), on_roster=lambda roster: publisher.set_roster(roster.workers, roster.pids), on_gone=stop.set
    )
    publisher.kill = control.kill
    publisher.catch_up = control.catch_up
    publisher.keep_certificates_at(control.keep)
    threads = [threading.Thread(target=run, args=(stop,), daemon=True) for run in (publisher.run, control.run)]
    for thread in threads:
        thread.start()
    place = settings.state / "stub.sock"
    place.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place))
    listener.listen()
    listener.settimeout(0.1)
    control.ready()
    while not stop.is_set():
        try:
            caller, _ = listener.accept()
        except TimeoutError:
            continue
        with caller, caller.makefile("rw") as file:
            answer = obey(publisher, lock, refused, json.loads(file.readline()))
            file.write(json.dumps(answer) + "\n")
    return 0


def obey(publisher: Publisher, lock: Lock, refused: list[str], order: dict[str, Any]) -> dict[str, Any]:
    try:
        if "publish" in order:
            publisher.publish_many({app: raw and decode_app(raw) for app, raw in order["publish"].items()})
            return {"version": publisher.table().version}
        if "certificates" in order:
            publisher.set_certificates({host: tuple(pair) for host, pair in order["certificates"].items()})
            return {}
        if "counters" in order:
            return publisher.counters()
        if "status" in order:
            return {
                "pid": os.getpid(),
                "lock": lock.still_ours(),
                "current": publisher.is_current(),
                "version": publisher.table().version,
                "workers": publisher.workers(),
                "refused": refused,
            }
        routing = publisher.routing(order["routing"])
        return {
            "published": routing.published and encode_app(routing.published),
            "confirmed": routing.confirmed and encode_app(routing.confirmed),
            "drained": sorted(routing.drained),
            "held": routing.held,
        }
    except ControllerError as error:
        return {"error": type(error).__name__, "why": str(error)}


if __name__ == "__main__":
    sys.exit(main())
