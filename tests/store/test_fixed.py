from __future__ import annotations

from pathlib import Path

import pytest

from controller.errors import Refused
from controller.store import Store
from controller.store.fixed import FixedRoute
from tests.store.kit import MovedClock, running

NAS = FixedRoute(name="nas", host="nas.example.com", targets=("10.0.0.5:80", "[fd00::1]:80"), by="ann", at=1.5)


def test_fixed_routes_are_kept_changed_and_removed(path: Path, clock: MovedClock):
    changed = FixedRoute(name="nas", host="nas.example.com", path="/files", targets=("10.0.0.6:80",))
    with running(path, clock) as store:
        store.fixed_routes.save(NAS)
        store.fixed_routes.save(FixedRoute(name="cam", host=None, path="/cam"))
    with running(path, clock) as store:
        assert [route.name for route in store.fixed_routes.list()] == ["cam", "nas"]
        assert store.fixed_routes.list()[1] == NAS
        store.fixed_routes.save(changed)
        store.fixed_routes.remove("cam")
    with running(path, clock) as store:
        assert store.fixed_routes.list() == (changed,)


def test_a_claim_that_another_has_is_refused(store: Store):
    store.fixed_routes.save(NAS)
    with pytest.raises(Refused, match=r"nas\.example\.com/ belongs to fixed route nas already"):
        store.fixed_routes.save(FixedRoute(name="other", host="nas.example.com"))
    with pytest.raises(Refused, match="fixed route other: no such route"):
        store.fixed_routes.remove("other")
    assert store.fixed_routes.list() == (NAS,)
