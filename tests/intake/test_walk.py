"""Whatever is done to the files, in whatever order, the standings follow a model that fits on one page."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.plan.claims import claims_of
from tests.intake.rig import Rig, a_document, several

APPS = "abcde"
FILES = ("1.yaml", "2.yaml", "x/3.yaml", "x/4.yml")
documents = st.lists(
    st.tuples(st.sampled_from(APPS), st.integers(1, 9), st.sampled_from([None, "p.example", "q.example"])),
    min_size=1,
    max_size=3,
    unique_by=lambda document: document[0],
)
steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(FILES), documents),
    st.tuples(st.just("write"), st.sampled_from(FILES), documents),
    st.tuples(
        st.just("break"), st.sampled_from(FILES), st.sampled_from([b"", b"[", b"\xff", b"# none\n", b"image: x\n"])
    ),
    st.tuples(st.just("remove"), st.sampled_from(FILES), st.none()),
    st.tuples(st.just("rename"), st.sampled_from(FILES), st.sampled_from(FILES)),
    st.tuples(st.just("remake"), st.just(""), st.none()),
    st.tuples(st.just("restart"), st.just(""), st.none()),
    st.tuples(st.just("wait"), st.just(""), st.sampled_from([1.0, 70.0])),
)

Contents = dict[str, str] | bytes


class Model:
    """What should be in force: the file that has an app keeps it, and nothing broken takes anything away."""

    def __init__(self) -> None:
        self.files: dict[str, Contents] = {}
        self.homes: dict[str, str] = {}
        self.images: dict[str, str] = {}

    def holders(self, app: str) -> list[str]:
        return sorted(file for file, contents in self.files.items() if isinstance(contents, dict) and app in contents)

    def settle(self, rig: Rig) -> None:
        for app in APPS:
            holders = self.holders(app)
            home = self.homes.get(app, "")
            silent = isinstance(self.files.get(home), bytes)
            blank = self.files.get(home) in (b"", b"# none\n")
            stays = home in holders or (silent and not (blank and holders))
            self.expect(rig, app, home if stays else next(iter(holders), ""))

    def expect(self, rig: Rig, app: str, speaker: str) -> None:
        contents = self.files.get(speaker)
        standing = rig.desired.standing(app)
        assert not (standing.gone and standing.held)
        if not speaker:
            assert standing.gone or standing.held or app not in self.images
            if standing.gone or app not in self.images:
                self.images.pop(app, None)
                self.homes.pop(app, None)
            return
        assert not standing.gone
        assert not standing.held
        self.homes[app] = speaker
        if isinstance(contents, dict) and not rig.desired.waits_for(app):
            self.images[app] = contents[app]
        assert rig.image(app) == self.images.get(app)
        assert standing.file == str(rig.root / speaker)


def carry_out(rig: Rig, model: Model, verb: str, file: str, what: object) -> None:
    path = rig.root / file
    match verb, what:
        case "write", list(documents):
            rig.write(file, several(*(a_document(app, f"{app}:{number}", host) for app, number, host in documents)))
            model.files[file] = {app: f"{app}:{number}" for app, number, _ in documents}
        case "break", bytes(data):
            rig.write(file, data)
            model.files[file] = data
        case "remove", _:
            path.unlink(missing_ok=True)
            model.files.pop(file, None)
        case "rename", str(other):
            if file in model.files and other != file:
                (rig.root / other).parent.mkdir(exist_ok=True)
                path.rename(rig.root / other)
                model.files[other] = model.files.pop(file)
        case "remake", _:
            shutil.rmtree(rig.root)
            rig.root.mkdir()
            model.files.clear()
        case "restart", _:
            rig.restart()
        case "wait", float(seconds):
            rig.rest(seconds)


def check_claims(rig: Rig) -> None:
    """No two specs in force share a claim; what is in force is live at once."""
    wanted = {app: claims_of(one.wanted.spec) for app, one in rig.desired.standings().items() if one.wanted}
    claims = [claim for app in wanted for claim in wanted[app]]
    assert len(claims) == len(set(claims))
    rig.memory.live = wanted


@contextmanager
def a_rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        try:
            yield rig
        finally:
            rig.desired.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=14))
def test_the_standings_follow_the_files(walk: list[tuple[str, str, object]]):
    with a_rig() as rig:
        model = Model()
        rig.look()
        for verb, file, what in walk:
            carry_out(rig, model, verb, file, what)
            rig.rest(5)
            check_claims(rig)
            rig.rest(2)
            model.settle(rig)
            check_claims(rig)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(steps, st.sampled_from([0.0, 0.01, 0.1, 0.5])), max_size=14))
def test_nothing_that_is_back_within_two_seconds_was_ever_gone(walk: list[tuple[tuple[str, str, object], float]]):
    with a_rig() as rig:
        for number, app in enumerate(APPS):
            rig.write(f"keep/{number}.yaml", a_document(app))
        rig.rest(5)
        for (verb, file, what), wait in walk:
            if verb in {"restart", "wait"}:
                continue
            before = rig.clock.steady
            carry_out(rig, Model(), verb, file, what)
            shutil.rmtree(rig.root / "keep", ignore_errors=True)
            rig.rest(wait)
            for number, app in enumerate(APPS):
                rig.write(f"keep/{number}.yaml", a_document(app))
            rig.rest(1.9 - (rig.clock.steady - before))
            assert not rig.gone()
        for file in FILES:
            (rig.root / file).unlink(missing_ok=True)
        rig.rest(10)
        assert rig.images() == dict.fromkeys(APPS, "shop:1")
        assert not rig.held() | rig.gone()
