"""An HTTP listener inside the running event loop: strict framing, deadlines and limits in front of any ASGI application."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esb.errors import EsbError

if TYPE_CHECKING:
    from esb.endpoints._http.guard import Doorkeeper


#: Hosts that stand for every address of the machine.
EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What one listener gives a client. Times are in seconds, sizes in bytes."""

    header_time: float = 10.0
    body_time: float = 30.0
    write_time: float = 30.0  #: longest pause of a client that does not read its answer
    keep_alive: float = 75.0
    linger_time: float = 5.0  #: how long a closing connection may still send before it is cut
    tls_time: float = 10.0
    header_bytes: int = 32_768
    headers: int = 100
    target_bytes: int = 8_192
    connections: int = 4_096
    connections_per_address: int = 1_000
    backlog: int = 1_024


def server_tls(cert: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer from PEM files; with ``client_ca`` a client must show a certificate of that authority.

    Raises EsbError naming the file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise EsbError(f"cannot use the certificate {cert} with the key {key}: {_reason(error)}") from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ssl.SSLError) as error:
            raise EsbError(f"cannot use the client authority {client_ca}: {_reason(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


class Listener:
    """One listening address that serves ``app`` in the running loop.

    :meth:`stop` takes no new connection, lets requests in flight end within its grace, and closes the rest.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        limits: ListenerLimits | None = None,
    ) -> None:
        self._app = app
        self._host, self._port = host, port
        self._tls = tls
        self._limits = limits or ListenerLimits()
        self._server: asyncio.Server | None = None
        self._door: Doorkeeper | None = None
        self.port = port

    @property
    def host(self) -> str:
        return self._host

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return self._door.count if self._door is not None else 0

    async def bind(self) -> int:
        """Take the address and give its port; clients are refused until :meth:`start`.

        Raises EsbError where the address cannot be had.
        """
        from uvicorn.config import Config  # noqa: PLC0415 - loads only when a socket is opened
        from uvicorn.server import ServerState  # noqa: PLC0415 - the same

        from esb.endpoints._http.guard import Doorkeeper, GuardedProtocol  # noqa: PLC0415 - the same

        config = Config(
            self._app,
            interface="asgi3",
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        config.load()
        loop = asyncio.get_running_loop()
        door = Doorkeeper(self._limits, ServerState())
        try:
            self._server = await loop.create_server(
                lambda: GuardedProtocol(door, config, loop),
                self._host,
                self._port,
                ssl=self._tls,
                backlog=self._limits.backlog,
                ssl_handshake_timeout=self._limits.tls_time if self._tls else None,
                start_serving=False,
            )
        except OSError as error:
            raise self._taken(error) from error
        self._door = door
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    async def start(self) -> int:
        """Serve, on an address that is bound first where it is not yet; gives the port. Raises EsbError as :meth:`bind`."""
        if self._server is None:
            await self.bind()
        assert self._server is not None
        try:
            await self._server.start_serving()
        except OSError as error:  # bound but not served, an address may still go to another program
            await self.stop(0.0)
            raise self._taken(error) from error
        return self.port

    def _taken(self, error: OSError) -> EsbError:
        return EsbError(
            f"cannot listen on {self._host}:{self._port}: {_reason(error)}",
            hint="another program may hold the port; choose another, or 0 for a free one",
        )

    async def stop(self, grace: float = 10.0) -> None:
        """Close the address; requests in flight have ``grace`` seconds, then their connections are cut."""
        server, door = self._server, self._door
        if server is None or door is None:
            return
        self._server = None
        server.close()
        door.idle.clear()
        for connection in list(door.state.connections):
            connection.shutdown()
        if door.count:
            await _wait(door.idle, grace)
        for task in list(door.state.tasks):
            task.cancel()
        for connection in list(door.state.connections):
            connection.transport.abort()
        if door.count:
            await _wait(door.idle, 1.0)
        if door.state.tasks:
            await asyncio.wait(list(door.state.tasks), timeout=1.0)
        await server.wait_closed()


async def bind_both(http: Listener, admin: Listener) -> None:
    """Take the addresses of a bus before anything of it works. Raises EsbError as :meth:`Listener.bind`.

    Two addresses of one process can both be bound where neither is served, so that they are one is seen here.
    """
    await http.bind()
    await admin.bind()
    hosts = {http.host, admin.host}
    if http.port == admin.port and (len(hosts) == 1 or hosts & EVERYWHERE):
        raise EsbError(
            f"`http` and `admin` are both on port {http.port}",
            hint="give each listener a port of its own, in esb.yaml or with --http and --admin",
        )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
