"""A fresh lane for each test, plain or with TLS in front."""

import socket
from collections.abc import Iterator

import pytest

from controller.proxy.addon import port_of
from tests.proxy.rig import Lane, a_lane, an_app
from tests.proxy.shop import Shop


@pytest.fixture
def lane() -> Iterator[Lane]:
    with a_lane() as made:
        yield made


@pytest.fixture
def shop() -> Iterator[Shop]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    with a_lane(tls_port=port_of(sock)) as lane:
        lane.take(an_app(lane.backend()))
        made = Shop(lane, sock)
        yield made
        lane.call(made.addon.close)
