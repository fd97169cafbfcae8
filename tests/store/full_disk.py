"""
Fill the file up to this process's limit, and see the store come back by itself.

`python -m tests.store.full_disk DATABASE` prints what each attempt came to.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from controller.errors import ControllerError
from controller.store import Store
from tests.builders import at
from tests.store.kit import MovedClock, a_decision, a_memory, a_release, an_order, running


def attempt(store: Store, size: int) -> str:
    try:
        store.intend("shop", a_decision(memory=a_memory(2), releases=(a_release(2, message="x" * size),)), at())
    except ControllerError as error:
        return type(error).__name__
    return "written"


def main(path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with running(path, MovedClock()) as store:
        store.intend("shop", a_decision(), at())
        order = store.order(an_order())
        before = store.load("shop")
        log = path.with_name(path.name + "-wal")
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 6000, hard))
        print(attempt(store, 200_000), attempt(store, 200_000))
        print("unchanged" if store.load("shop") == before else "changed")
        print("answers" if store.answers("shop")[0].order == order else "lost")
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print(attempt(store, 200_000))
        print(sorted(store.load("shop")[1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
