"""A watched directory under test: real files, a clock that is moved by hand, and a store in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from controller.clock import Instant
from controller.errors import Retry
from controller.intake.desired import Desired
from controller.intake.judge import Held
from controller.intake.looks import Ports
from controller.intake.origin import Origin
from controller.plan.claims import Claims
from controller.plan.situation import Standing


class MovingClock:
    def __init__(self) -> None:
        self.steady = 1000.0

    def now(self) -> Instant:
        return Instant(1.7e9 + self.steady, self.steady, "boot")

    def move(self, seconds: float) -> None:
        self.steady += seconds


class Memory:
    """What the rest of the house is to the directory."""

    def __init__(self) -> None:
        self.stored: dict[str, Standing] = {}
        self.saved: list[tuple[str, int]] = []
        self.change = 0
        self.full = False
        self.asked = 0
        """How often anybody asked what is live, which costs a database more than it costs us."""
        self.live: dict[str, Claims] = {}
        self.kept: dict[str, Claims] = {}
        self.fixed: dict[str, Claims] = {}
        self.reserved: dict[str, str] = {}
        self.rings: list[str] = []
        self.origin = Origin()

    def save(self, standing: Standing, change: int) -> None:
        if self.full:
            raise Retry("database or disk is full")
        self.stored[standing.app] = standing
        self.saved.append((standing.app, change))

    def next_change(self) -> int:
        if self.full:
            raise Retry("database or disk is full")
        self.change += 1
        return self.change

    def held(self, _standings: Mapping[str, Standing]) -> Held:
        if self.full:
            raise Retry("database is busy")
        self.asked += 1
        return Held(live=self.live, kept=self.kept, resting=frozenset(self.kept))

    def ports(self) -> Ports:
        return Ports(
            load_standings=lambda: dict(self.stored),
            save_standing=self.save,
            next_change=self.next_change,
            held=self.held,
            fixed_claims=lambda: self.fixed,
            reserved=self.reserved,
            ring=self.rings.append,
            origin=self.origin,
        )


class Rig:
    """Looks by hand: nothing happens between them, and time goes only where a test says so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = MovingClock()
        self.memory = Memory()
        self.desired = Desired(root, self.clock, self.memory.ports())

    def restart(self) -> None:
        self.desired.close()
        self.desired = Desired(self.root, self.clock, self.memory.ports())

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text if isinstance(text, bytes) else text.encode()
        path.write_bytes(data)
        return path

    def look(self) -> float:
        return self.desired.look(full=True)

    def rest(self, seconds: float = 1.0) -> None:
        """Look as often as asked for until *seconds* have passed."""
        until = self.clock.steady + seconds
        again = self.look()
        while self.clock.steady + again <= until:
            self.clock.move(max(again, 0.001))
            again = self.look()
        self.clock.steady = until
        self.look()

    def image(self, app: str) -> str | None:
        wanted = self.desired.standing(app).wanted
        return wanted.spec.image if wanted else None

    def images(self) -> Mapping[str, str | None]:
        return {app: self.image(app) for app in self.desired.standings()}

    def invalid(self, app: str) -> str:
        return self.desired.standing(app).invalid

    def gone(self) -> set[str]:
        return {app for app, standing in self.desired.standings().items() if standing.gone}

    def held(self) -> set[str]:
        return {app for app, standing in self.desired.standings().items() if standing.held}


def a_document(name: str = "shop", image: str = "shop:1", host: str | None = None, **fields: str) -> str:
    lines = [f"name: {name}", f"image: {image}"]
    if host is not None:
        lines += ["port: 8000", f"routes: [{{host: {host}}}]"]
    lines += [f"{field}: {value}" for field, value in fields.items()]
    return "\n".join(lines) + "\n"


def several(*documents: str) -> str:
    return "---\n".join(documents)


def swap_link(link: Path, target: Path) -> None:
    """Point *link* elsewhere in one step, as deployment tools do."""
    aside = link.with_name(link.name + ".aside")
    aside.symlink_to(target)
    aside.replace(link)
