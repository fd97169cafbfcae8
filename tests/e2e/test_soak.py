"""F41: deployment after deployment under load; memory, descriptors, threads and database stay flat."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import open_house
from tests.parts.service import Service, name_of
from tests.parts.stage import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

WARM_UP = 55
"""More than the fifty releases of history that are kept."""

ROUNDS = 50
ROOM_KB = 16 * 1024
DATABASE_ROOM_BYTES = 2 * 1024**2


@dataclass(frozen=True)
class Use:
    """What the service's processes take, by their names."""

    memory_kb: Counter[str]
    files: Counter[str]
    threads: Counter[str]
    database_bytes: int


def measure(service: Service) -> Use:
    memory: Counter[str] = Counter()
    files: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    for pid in service.processes():
        place, name = Path(f"/proc/{pid}"), name_of(pid)
        status = (place / "status").read_text()
        memory[name] += int(status.partition("RssAnon:")[2].split()[0])
        threads[name] += len(list((place / "task").iterdir()))
        files[name] += len(list((place / "fd").iterdir()))
    size = sum(file.stat().st_size for file in service.root.glob("database.db*"))
    return Use(memory, files, threads, size)


def deploy(shop: Stage, count: int) -> None:
    for number in range(count):
        shop.deploy(("v1", "v2")[number % 2], environment={"ROUND": str(number)})


def test_a_hundred_deployments_leave_everything_flat(tmp_path: Path) -> None:
    with open_house(tmp_path) as house:
        shop = Stage(house, "shop", replicas=1, drain="1s")
        shop.deploy("v2")
        with shop.load(kept=2, fresh=1):
            deploy(shop, WARM_UP)
            before = measure(house)
            deploy(shop, ROUNDS)
            after = measure(house)
    print(f"before: {before}\nafter:  {after}")
    assert all(after.memory_kb[name] - before.memory_kb[name] < ROOM_KB for name in after.memory_kb)
    assert all(after.files[name] - before.files[name] < 16 for name in after.files), (
        "no more than connections that idle"
    )
    assert all(after.threads[name] - before.threads[name] < 8 for name in after.threads)
    assert after.database_bytes - before.database_bytes < DATABASE_ROOM_BYTES


def test_sixty_restarts_beside_a_busy_api_take_no_more_descriptors_than_five(tmp_path: Path) -> None:
    def files() -> int:
        return measure(house).files["oton-controller"]

    def ask(_: int) -> int:
        return house.api("GET", f"/v1/apps/{shop.name}/logs", params={"tail": 5}).status_code

    with open_house(tmp_path) as house, ThreadPoolExecutor(20) as crowd:
        shop = Stage(house, "shop", replicas=2, drain="1s")
        shop.deploy("v1")
        seen = []
        for number in range(65):
            change = shop.order("restart")
            assert set(crowd.map(ask, range(20))) == {200}
            shop.wait_answer(change)
            shop.wait_live("v1")
            if number >= 4:
                seen.append(files())
    print(f"descriptors of the controller: {seen}")
    assert max(seen) - seen[0] < 16, "no more than connections that idle"
