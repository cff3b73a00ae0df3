"""A private Mosquitto broker that keeps its sessions on disk; ended by its own process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.servers.require import free_port, program

_CONFIG = """
listener {port} 127.0.0.1
listener {tls} 127.0.0.1
cafile {folder}/ca.crt
certfile {folder}/server.crt
keyfile {folder}/server.key
allow_anonymous true
acl_file {folder}/acl
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_inflight_messages 0
user root
"""
#: everything is allowed but what lies below `closed/`
_ACL = "topic readwrite plant/#\ntopic readwrite t/#\ntopic readwrite $share/#\n"
START = 60.0


class Mosquitto:
    def __init__(self, certificates: Path) -> None:
        self._program = program("mosquitto", "usr/sbin/mosquitto", package="mosquitto")
        self.folder = Path(tempfile.mkdtemp(prefix="esb-mosquitto-"))
        for name in ("ca.crt", "server.crt", "server.key"):
            shutil.copy(certificates / name, self.folder / name)
        self.port, self.tls_port = free_port(), free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "acl").write_text(_ACL)
        config = _CONFIG.format(port=self.port, tls=self.tls_port, folder=self.folder)
        if os.getuid() != 0:
            config = config.replace("user root\n", "")
        (self.folder / "mosquitto.conf").write_text(config)

    def start(self) -> None:
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [self._program, "-c", self.folder / "mosquitto.conf"], stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + START
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Mosquitto does not start: {(self.folder / 'out').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START)
            self._process = None

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- clients of its own, apart from everything under test ---------------------------------------------------------
    @contextmanager
    def client(self, client_id: str = "", *, expiry: int = 0, listener: Any = None) -> Iterator[Any]:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        there = threading.Event()
        client.on_connect = lambda *_: there.set()
        client.on_message = listener
        given = Properties(PacketTypes.CONNECT)
        given.SessionExpiryInterval = expiry
        client.connect("127.0.0.1", self.port, clean_start=not expiry, properties=given)
        client.loop_start()
        try:
            assert there.wait(START), "the broker does not let a client in"
            yield client
        finally:
            client.disconnect()
            client.loop_stop()

    def publish(
        self,
        topic: str,
        body: bytes,
        *,
        name: str = "",
        qos: int = 1,
        retain: bool = False,
        content_type: str = "application/json",
    ) -> None:
        given = Properties(PacketTypes.PUBLISH)
        if content_type:
            given.ContentType = content_type
        if name:
            given.UserProperty = [("message-id", name)]
        with self.client() as client:
            client.publish(topic, body, qos, retain, given).wait_for_publish(START)

    def subscribe(self, client_id: str, topic: str) -> None:
        """Begin a session that keeps what comes while its client is away."""
        done = threading.Event()
        with self.client(client_id, expiry=3600) as client:
            client.on_subscribe = lambda *_: done.set()
            client.subscribe(topic, 1)
            assert done.wait(START), "not subscribed"
