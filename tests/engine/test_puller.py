"""References to ids: errors inside a good answer are seen, and a stale image is never taken for a new one."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from controller.engine import puller as room
from controller.engine.calls import Calls
from controller.engine.puller import Puller
from controller.errors import Retry
from controller.world.model import Resolution
from tests.engine.kit import wait_for
from tests.engine.sham import Call, Sham, a_sham

OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
DIGEST = "sha256:" + "d" * 64
REF = "registry.test/shop:1.4"


class Pulls:
    """A puller on a sham engine, with its thread."""

    def __init__(self, sham: Sham) -> None:
        self.sham = sham
        self.rung: list[str] = []
        self.used: list[tuple[str, str]] = []
        self.puller = Puller(Calls(sham.host), self.rung.append)
        self.puller.on_image = lambda ref, image: self.used.append((ref, image))
        self.local: dict[str, str] = {}
        sham.on("GET .*/images/.*/json", self._inspect)

    def _inspect(self, call: Call) -> None:
        name = call.line.split("/images/", 1)[1].removesuffix("/json").replace("%3A", ":").replace("%40", "@")
        found = self.local.get(name)
        if found:
            call.reply(200, {"Id": found, "Config": {}})
        else:
            call.reply(404, {"message": f"No such image: {name}"})

    def pull_answers(self, *lines: dict, brings: str = "") -> None:
        def answer(call: Call) -> None:
            if brings:
                self.local[REF] = self.local[f"registry.test/shop@{DIGEST}"] = brings
            call.stream(*lines)

        self.sham.on("POST .*/images/create", answer)

    def come_to(self, key: str = "shop/1", within_s: float = 10) -> Resolution:
        def ended() -> Resolution | None:
            found = self.puller.resolutions("shop")[key]
            return found if found.state != "running" else None

        result = wait_for(ended, within_s)
        assert result is not None
        return result


@contextmanager
def running(puller: Puller) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=puller.run, args=(stop,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def pulls() -> Iterator[Pulls]:
    with a_sham() as sham:
        made = Pulls(sham)
        with running(made.puller):
            yield made


GOOD = ({"status": "Pulling from shop", "id": "1.4"}, {"status": f"Digest: {DIGEST}"}, {"status": "Status: Downloaded"})


def test_a_good_pull_comes_to_the_id_that_it_brought(pulls: Pulls) -> None:
    pulls.pull_answers(*GOOD, brings=NEW)
    pulls.puller.resolve("shop/1", REF, "missing")
    assert pulls.come_to() == Resolution(state="done", image_id=NEW)
    assert "shop" in pulls.rung
    assert pulls.used == [(REF, NEW)]


def test_what_is_there_already_is_not_pulled(pulls: Pulls) -> None:
    pulls.local[REF] = OLD
    pulls.puller.resolve("shop/1", REF, "missing")
    assert pulls.puller.resolutions("shop")["shop/1"] == Resolution(state="done", image_id=OLD)
    assert pulls.sham.lines("images/create") == []


def test_an_error_inside_a_good_answer_fails_and_the_stale_image_is_not_used(pulls: Pulls) -> None:
    pulls.local[REF] = OLD
    pulls.pull_answers(
        {"status": "Pulling from shop", "id": "1.4"},
        {"status": "Downloading", "id": "aaa", "progressDetail": {"current": 10, "total": 100}},
        {"error": "unexpected layer: sha mismatch", "errorDetail": {"message": "unexpected layer: sha mismatch"}},
    )
    pulls.puller.resolve("shop/1", REF, "always")
    failed = pulls.come_to()
    assert (failed.state, failed.image_id) == ("failed", "")
    assert "sha mismatch" in failed.error


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("manifest for registry.test/shop:1.4 not found: manifest unknown", "does not exist"),
        ("unauthorized: authentication required", "docker login"),
        (
            "pull access denied for shop, repository does not exist or may require 'docker login': denied",
            "docker login",
        ),
        ("Head https://registry.test/v2: no basic auth credentials", "docker login"),
        ("no matching manifest for linux/arm64 in the manifest list entries", "no matching manifest"),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_a_missing_image_and_a_refused_login_fail_at_once(pulls: Pulls, message: str, said: str, inside: bool) -> None:
    if inside:
        pulls.pull_answers({"error": message})
    else:
        pulls.sham.on("POST .*/images/create", lambda call: call.reply(404, {"message": message}))
    pulls.puller.resolve("shop/1", REF, "missing")
    failed = pulls.come_to(within_s=3)
    assert said in failed.error
    assert REF in failed.error
    assert len(pulls.sham.lines("images/create")) == 1


def test_a_registry_that_stumbles_is_asked_again(pulls: Pulls) -> None:
    def answer(call: Call) -> None:
        if len(pulls.sham.lines("images/create")) < 3:
            call.reply(500, {"message": "Get https://registry.test/v2/: dial tcp: connection refused"})
            return
        pulls.local[REF] = pulls.local[f"registry.test/shop@{DIGEST}"] = NEW
        call.stream(*GOOD)

    pulls.sham.on("POST .*/images/create", answer)
    pulls.puller.resolve("shop/1", REF, "missing")
    assert pulls.come_to().image_id == NEW


def test_a_registry_that_stays_away_fails_in_bounded_time(pulls: Pulls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PASSING_S", 0.5)
    pulls.sham.on("POST .*/images/create", lambda call: call.reply(500, {"message": "dial tcp: i/o timeout"}))
    pulls.puller.resolve("shop/1", REF, "missing")
    failed = pulls.come_to()
    assert "i/o timeout" in failed.error


def test_a_pull_without_progress_fails_and_says_where_it_stood(pulls: Pulls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "QUIET_S", 0.4)
    let_go = threading.Event()

    def answer(call: Call) -> None:
        call.handler.send_response(200)
        call.handler.send_header("Transfer-Encoding", "chunked")
        call.handler.end_headers()
        call.chunk({"status": "Downloading", "id": "aaa", "progressDetail": {"current": 1_000_000, "total": 5_000_000}})
        call.chunk({"status": "Pull complete", "id": "bbb"})
        let_go.wait(10)

    pulls.sham.on("POST .*/images/create", answer)
    pulls.puller.resolve("shop/1", REF, "missing")
    wait_for(lambda: "1.0 of 5.0 MB" in pulls.puller.resolutions("shop")["shop/1"].progress)
    failed = pulls.come_to()
    assert "no progress" in failed.error
    assert "1 of 2 layers, 1.0 of 5.0 MB" in failed.error
    let_go.set()


def test_a_tag_that_moves_after_the_pull_does_not_change_what_was_pulled(pulls: Pulls) -> None:
    def answer(call: Call) -> None:
        pulls.local[REF], pulls.local[f"registry.test/shop@{DIGEST}"] = OLD, NEW
        call.stream(*GOOD)

    pulls.sham.on("POST .*/images/create", answer)
    pulls.puller.resolve("shop/1", REF, "always")
    assert pulls.come_to().image_id == NEW


def test_a_slow_registry_delays_no_other_app(pulls: Pulls) -> None:
    let_go = threading.Event()

    def slow(call: Call) -> None:
        let_go.wait(10)
        call.reply(404, {"message": "manifest unknown"})

    pulls.pull_answers(*GOOD, brings=NEW)
    pulls.sham.on("POST .*/images/create.*slow", slow)
    pulls.puller.resolve("blog/1", "registry.test/slow:1", "missing")
    wait_for(lambda: pulls.sham.lines("create.*slow"))
    pulls.puller.resolve("shop/1", REF, "missing")
    assert pulls.come_to().image_id == NEW
    let_go.set()


def test_a_resolution_under_way_is_not_started_twice(pulls: Pulls) -> None:
    let_go = threading.Event()

    def answer(call: Call) -> None:
        let_go.wait(10)
        pulls.local[REF] = NEW
        call.stream()

    pulls.sham.on("POST .*/images/create", answer)
    for _ in range(3):
        pulls.puller.resolve("shop/1", REF, "missing")
    let_go.set()
    assert pulls.come_to().image_id == NEW
    assert len(pulls.sham.lines("images/create")) == 1


def test_without_an_engine_nothing_is_begun_and_it_can_be_asked_again(tmp_path) -> None:
    puller = Puller(Calls(f"unix://{tmp_path}/none.sock"), lambda app: None)
    with pytest.raises(Retry):
        puller.resolve("shop/1", REF, "missing")
    assert puller.resolutions("shop") == {}


def test_logins_come_from_dockers_configuration(pulls: Pulls, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    pulls.pull_answers(*GOOD, brings=NEW)
    auth = base64.b64encode(b"ann:pw").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.test": {"auth": auth}}}))
    pulls.puller.resolve("shop/1", REF, "always")
    pulls.come_to()
    (call,) = [each for each in pulls.sham.calls if "images/create" in each.line]
    sent = json.loads(base64.urlsafe_b64decode(call.headers["X-Registry-Auth"]))
    assert (sent["username"], sent["password"]) == ("ann", "pw")


def test_credential_helpers_are_asked(pulls: Pulls, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    helper = tmp_path / "docker-credential-sham"
    helper.write_text(
        '#!/bin/sh\necho \'{"ServerURL": "registry.test", "Username": "bob", "Secret": "from-helper"}\'\n'
    )
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {"registry.test": "sham"}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    pulls.pull_answers(*GOOD, brings=NEW)
    pulls.puller.resolve("shop/1", REF, "always")
    pulls.come_to()
    (call,) = [each for each in pulls.sham.calls if "images/create" in each.line]
    sent = json.loads(base64.urlsafe_b64decode(call.headers["X-Registry-Auth"]))
    assert (sent["Username"], sent["Password"]) == ("bob", "from-helper")


@pytest.mark.filterwarnings("ignore:docker-credential-not-there")
def test_a_helper_that_is_missing_is_told(pulls: Pulls, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {"registry.test": "not-there"}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    pulls.pull_answers(*GOOD, brings=NEW)
    pulls.puller.resolve("shop/1", REF, "always")
    failed = pulls.come_to()
    assert failed.state == "failed"
    assert "docker-credential-not-there" in failed.error


def test_a_helper_that_prints_nonsense_fails_one_pull_and_not_the_thread(
    pulls: Pulls, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    helper = tmp_path / "docker-credential-mad"
    helper.write_text("#!/bin/sh\necho moo\n")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {"registry.test": "mad"}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for number in range(3):
        pulls.puller.resolve(f"shop/{number}", REF, "always")
        assert pulls.come_to(f"shop/{number}").state == "failed"


def test_old_resolutions_are_forgotten_in_the_end(pulls: Pulls) -> None:
    pulls.local[REF] = OLD
    for number in range(room.REMEMBERED + 50):
        pulls.puller.resolve(f"shop/{number}", REF, "missing")
    assert len(pulls.puller.resolutions("shop")) <= room.REMEMBERED + 1
    assert f"shop/{room.REMEMBERED + 49}" in pulls.puller.resolutions("shop")
