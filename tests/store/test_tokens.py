from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from controller.errors import Refused
from controller.store import Store
from controller.store.tokens import Principal
from tests.store.kit import MovedClock, running, writes


def test_a_token_lets_in_whoever_shows_it_with_what_it_may_touch(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        secret, token = store.tokens.create("ci", scope="deploy", apps=["shop"], hosts=["*.example.com"], by="ann")
        assert re.fullmatch(r"oton_[A-Za-z0-9_-]{43}", secret)
        expected = Principal(
            token=token.id, name="ci", scope="deploy", apps=frozenset({"shop"}), hosts=("*.example.com",)
        )
        assert store.tokens.verify(secret) == expected
    with running(path, clock) as store:
        assert store.tokens.verify(secret) == expected


def test_a_secret_is_on_the_disk_as_a_hash_only(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        secret, _ = store.tokens.create("ci")
        store.tokens.verify(secret)
        for file in path.parent.iterdir():
            assert secret.encode() not in file.read_bytes()
            assert secret.removeprefix("oton_").encode() not in file.read_bytes()


@pytest.mark.parametrize("wrong", ["", "oton_", "x", "oton_" + "A" * 43, "oton_" + "A" * 100_000, "oton_ü", "\ud800"])
def test_a_wrong_secret_lets_nobody_in(store: Store, wrong: str):
    secret, _ = store.tokens.create("ci")
    assert store.tokens.verify(wrong) is None
    assert store.tokens.verify(secret + "A") is None
    assert store.tokens.verify(secret[:-1]) is None
    assert store.tokens.verify(secret.upper()) is None


def test_a_revoked_token_ends_at_once_and_its_name_is_free(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        old, _ = store.tokens.create("ci")
        store.tokens.revoke("ci")
        assert store.tokens.verify(old) is None
        with pytest.raises(Refused, match="token ci: no valid token of that name"):
            store.tokens.revoke("ci")
        new, _ = store.tokens.create("ci")
    with running(path, clock) as store:
        assert store.tokens.verify(old) is None
        assert store.tokens.verify(new) is not None
        assert [(token.name, token.revoked is None) for token in store.tokens.list()] == [("ci", False), ("ci", True)]


def test_a_token_ends_when_its_time_is_over(store: Store, clock: MovedClock):
    secret, token = store.tokens.create("ci", ttl_s=60)
    assert token.expires == clock.now().wall + 60
    clock.move(59)
    assert store.tokens.verify(secret) is not None
    clock.move(1)
    assert store.tokens.verify(secret) is None
    store.tokens.create("ci")


def test_when_a_token_was_used_last_is_written_once_a_minute(store: Store, clock: MovedClock):
    secret, _ = store.tokens.create("ci")
    before = writes(store)
    for _ in range(100):
        store.tokens.verify(secret)
    assert writes(store) == before + 1
    (token,) = store.tokens.list()
    assert token.last_used == clock.now().wall
    clock.move(61)
    store.tokens.verify(secret)
    assert writes(store) == before + 2


def test_a_check_does_not_wait_for_the_disk(store: Store):
    secret, _ = store.tokens.create("ci")
    hold, entered = threading.Event(), threading.Event()
    stuck = store._thread.submit(lambda tx: (entered.set(), hold.wait(20)))
    assert entered.wait(10)
    assert store.tokens.verify(secret) is not None
    hold.set()
    stuck.result(10)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": ""}, "token name"),
        ({"name": "a b"}, "token name"),
        ({"name": "a\nb"}, "token name"),
        ({"name": "x" * 65}, "token name"),
        ({"name": "ci", "scope": "root"}, 'scope: found "root", allowed: read, deploy, admin'),
        ({"name": "ci", "ttl_s": 0}, "ttl"),
        ({"name": "taken"}, "already exists"),
    ],
)
def test_what_makes_no_token(store: Store, fields: dict, text: str):
    store.tokens.create("taken")
    with pytest.raises(Refused, match=text):
        store.tokens.create(**fields)
    assert len(store.tokens.list()) == 1
