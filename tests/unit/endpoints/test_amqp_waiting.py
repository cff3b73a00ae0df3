"""Waiting for sockets without `poll`."""

from __future__ import annotations

import select
import socket

import pytest

from esb.endpoints._amqp.waiting import READ, WRITE, Poller, Selecting


@pytest.mark.parametrize("make", [Selecting, select.poll])
def test_both_ways_tell_the_same(make: type[Poller]) -> None:
    one, other = socket.socketpair()
    with one, other:
        poller = make()
        poller.register(one.fileno(), READ)
        assert poller.poll(0) == []
        poller.register(one, READ | WRITE)
        assert poller.poll(0) == [(one.fileno(), WRITE)]
        other.send(b"!")
        assert poller.poll(500) == [(one.fileno(), READ | WRITE)]
        poller.register(one, READ)
        other.close()
        ((place, what),) = poller.poll(500)
        assert (place, what & READ) == (one.fileno(), READ)
