"""The one connection of an SFTP connector: opened on use, bounded in time, opened anew after a fault."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from esb.blob import Blob
from esb.endpoints._sftp.cork import CorkedTcp, join
from esb.endpoints.base import ConnectionContext
from esb.endpoints.expiries import Expiries
from esb.endpoints.folders import REMOTE_FAULT, apart
from esb.errors import Unavailable
from esb.secret import Secret

if TYPE_CHECKING:
    from asyncssh import SFTPClient, SFTPClientFile, SFTPName, SSHClientConnection

    from esb.endpoints.sftp import SftpConnection

T = TypeVar("T")

#: the fastest first: 1.6 times the driver's own first choice on large files
CIPHERS = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com",
    "aes256-ctr", "aes192-ctr", "aes128-ctr",
)  # fmt: skip
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
SIGNATURES = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
EXCHANGES = (
    "mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521",
    "diffie-hellman-group-exchange-sha256", "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
)  # fmt: skip
#: of the kinds of keys that `known_hosts` has for the server
NO_SHA1 = "-ssh-rsa*,ssh-dss*"
#: bytes a second that a server must at least manage
SLOWEST = 50_000
#: seconds of the longest pause between two attempts to connect
LONGEST_PAUSE = 60.0
_UNREACHABLE = "is the server up and reachable? one that offers only broken algorithms may end like this, too"
#: bytes of one part of a large file
CHUNK = 4_000_000
#: entries of a listing between two looks at the clock
_PAGE = 512


class _Operation:
    """What waits for the server."""

    __slots__ = ("client", "late")

    def __init__(self, client: SFTPClient) -> None:
        self.client, self.late = client, False


class Session:
    """A :class:`~esb.endpoints.base.LiveConnection`. Faults come as OSError or Unavailable, never as the driver's own."""

    def __init__(self, options: SftpConnection, context: ConnectionContext) -> None:
        self._options = options
        self._context = context
        self._opening = asyncio.Lock()
        self._connection: SSHClientConnection | None = None
        self._client: SFTPClient | None = None
        self._failures = 0
        self._not_before = 0.0
        self._why = ""
        self._told = ""
        self._closed = False
        self._expiries = Expiries(self._expire)
        self.address = f"sftp {options.user}@{options.host}:{options.port}"
        self.patience = options.patience.total_seconds()
        #: whether a plain rename of this server is known to refuse a name that is taken
        self.careful_rename = False
        #: appends to one file wait for each other
        self.locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        if options.trust_all:
            context.log(
                "warning",
                "sftp.host_key_unchecked",
                connector=context.name,
                host=options.host,
                hint="`trust_all` lets anybody on the way read and change files; pin the key with `known_hosts`",
            )

    # -- operations ---------------------------------------------------------------------------------------------------
    async def run(self, work: Callable[[SFTPClient], Awaitable[T]], size: int = 0) -> T:
        """One operation under its deadline; ``size`` bytes that it moves give it more time. Raises OSError, Unavailable."""
        client = self._client
        if client is None:
            client = await self._connected()
        limit = self.patience + size / SLOWEST
        operation = _Operation(client)
        self._expiries.begin(operation, limit)
        try:
            return await work(client)
        except Exception as error:
            fault = OSError(errno.ETIMEDOUT, f"no answer within {limit:g} s") if operation.late else translate(error)
            if fault is None:
                raise
            if isinstance(fault, ConnectionError):
                self._drop(client)
            raise fault from error
        finally:
            self._expiries.end(operation)

    def _expire(self, operation: _Operation) -> None:
        operation.late = True
        self._drop(operation.client)  # what waits for an answer on it ends with an error

    async def listing(self, folder: bytes) -> list[SFTPName]:
        """Every entry of a folder but `.` and `..`; each page of it within the time of one operation."""
        found: list[SFTPName] = []

        async def work(client: SFTPClient) -> None:
            entries: AsyncIterator[SFTPName] = client.scandir(folder)
            async for entry in entries:
                if entry.filename not in (b".", b".."):
                    found.append(entry)
                if len(found) % _PAGE == 0:
                    await asyncio.sleep(0)  # a long listing arrives faster than it is read: others get their turn

        # the deadline grows with the length that a listing may have: 100 bytes a name
        await self.run(work, size=50_000_000)
        return found

    async def rename(self, old: bytes, new: bytes) -> bool:
        """Rename to a name that must be free; False: it is taken. Raises OSError, ENOTSUP where the server cannot."""
        if not self.careful_rename and await self.exists(new):
            return False
        try:
            await self.run(lambda client: client.rename(old, new))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (REMOTE_FAULT, errno.ENOTSUP, errno.EACCES):
                raise
            if await self.exists(new):
                return False
            if error.errno == errno.EACCES and await self.exists(old):
                raise OSError(errno.ENOTSUP, f"may not rename: {error.strerror}") from error
            raise
        return True

    async def exists(self, path: bytes) -> bool:
        try:
            await self.run(lambda client: client.lstat(path))
        except FileNotFoundError:
            return False
        return True

    async def make(self, folder: bytes) -> None:
        """Make a folder and those above it where they are missing."""
        if not folder or folder == b"/" or await self.exists(folder):
            return
        await self.make(folder.rpartition(b"/")[0])
        try:
            await self.run(lambda client: client.mkdir(folder))
        except OSError:
            if not await self.exists(folder):  # another one may have made it
                raise

    # -- the connection -----------------------------------------------------------------------------------------------
    async def close(self) -> None:
        self._closed = True
        self._drop(self._client)

    async def _connected(self) -> SFTPClient:
        async with self._opening:
            if self._client is not None:
                return self._client
            if self._closed:
                raise Unavailable(f"the connection to {self._options.host} was closed", hint="try again")
            left = self._not_before - self._context.clock.monotonic()
            if left > 0:
                raise Unavailable(self._why, retry_after=timedelta(seconds=left))
            try:
                async with asyncio.timeout(self.patience):
                    self._client = await self._open()
            except Exception as error:
                self._failures += 1
                pause = min(LONGEST_PAUSE, 0.25 * 2 ** min(self._failures, 10))
                self._not_before = self._context.clock.monotonic() + pause
                fault = self._refusal(error)
                self._why = fault.message
                fault.retry_after = timedelta(seconds=pause)
                self._tell(fault)
                raise fault from error
            if self._told:
                self._told = ""
                self._context.log("info", "sftp.back", connector=self._context.name, host=self._options.host)
            self._failures, self._not_before = 0, 0.0
            return self._client

    async def _open(self) -> SFTPClient:
        import asyncssh  # noqa: PLC0415 - the driver loads when it connects

        options = self._options
        login: dict[str, Any] = {"client_keys": None, "password": None}
        if options.key:
            login["client_keys"] = [self._private_key()]
        if options.password is not None:
            login["password"] = options.password.reveal()
        tunnel = CorkedTcp()
        known = None if options.trust_all else asyncssh.read_known_hosts(str(self._path(options.known_hosts)))
        connection = await asyncssh.connect(
            options.host,
            options.port,
            username=options.user,
            tunnel=tunnel,
            known_hosts=known,
            config=None,
            agent_path=None,
            **login,
            encryption_algs=CIPHERS,
            mac_algs=MACS,
            kex_algs=EXCHANGES,
            signature_algs=SIGNATURES,
            server_host_key_algs=SIGNATURES if options.trust_all else NO_SHA1,
            compression_algs=None,
            keepalive_interval=options.keepalive.total_seconds(),
            keepalive_count_max=3,
            login_timeout=self.patience,
            connect_timeout=self.patience,
        )
        try:
            client = await connection.start_sftp_client(path_encoding=None)
        except BaseException:
            connection.abort()
            raise
        join(client, tunnel.transport)
        self._connection = connection
        self.careful_rename = b"OpenSSH" in str(connection.get_extra_info("server_version", "")).encode()
        return client

    def _private_key(self) -> Any:
        import asyncssh  # noqa: PLC0415 - the driver loads when it connects

        key, passphrase = self._options.key, self._options.passphrase
        secret = passphrase.reveal() if passphrase is not None else None
        if isinstance(key, Secret):
            return asyncssh.import_private_key(key.reveal().strip() + "\n", secret)
        return asyncssh.read_private_key(str(self._path(str(key))), secret)

    def _path(self, text: str) -> Path:
        return self._context.workspace / text

    def _drop(self, client: SFTPClient | None) -> None:
        """Give up a connection; the next operation opens another."""
        if client is not self._client:
            return
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            connection.abort()

    def _tell(self, fault: Unavailable) -> None:
        """Said once per fault, not at every attempt."""
        if fault.message != self._told:
            self._told = fault.message
            name = self._context.name
            self._context.log("error", "sftp.no_connection", connector=name, error=fault.message, hint=fault.hint)

    def _refusal(self, error: Exception) -> Unavailable:
        """Why there is no connection, in words that help. Never holds a secret."""
        import asyncssh  # noqa: PLC0415 - the driver loads when it connects

        where, known = f"{self._options.host}:{self._options.port}", self._options.known_hosts
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            hint = f"somebody may be in the way; ask its people for the new key before you put it into {known}"
            return Unavailable(f"{where}: its host key is not one of those in {known}", hint=hint)
        if isinstance(error, asyncssh.PermissionDenied):
            return Unavailable(
                f"{where}: login of {self._options.user} refused", hint="check `user` and key or password"
            )
        if isinstance(error, (asyncssh.KeyImportError, asyncssh.KeyEncryptionError)):
            return Unavailable(f"{where}: the private key cannot be read", hint="check `key` and `passphrase`")
        if isinstance(error, asyncssh.KeyExchangeFailed):
            hint = "the server offers only algorithms that are no longer safe; it needs an update"
            return Unavailable(f"{where}: no common algorithm", hint=hint)
        if isinstance(error, TimeoutError):
            return Unavailable(f"{where}: no connection within {self.patience:g} s", hint="is the address right?")
        if isinstance(error, FileNotFoundError):
            hint = f"`ssh-keyscan -p {self._options.port} {self._options.host}` writes known hosts"
            return Unavailable(f"{where}: {error.filename} does not exist", hint=hint)
        words = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        return Unavailable(f"{where}: {words}", hint=_UNREACHABLE)


@asynccontextmanager
async def opened(client: SFTPClient, path: bytes, mode: str, block_size: int = -1) -> AsyncIterator[SFTPClientFile]:
    """An open file. Where the caller fails or gives up, it is closed on the side: a frozen server would never say so."""
    file = await client.open(path, mode, block_size=block_size)
    try:
        yield file
    except BaseException:
        asyncio.ensure_future(file.close()).add_done_callback(
            lambda closing: closing.cancelled() or closing.exception()
        )
        raise
    await file.close()


async def write_whole(client: SFTPClient, path: bytes, content: bytes | Blob, mode: str, offset: int = 0) -> None:
    """Write a file (``wb``, ``xb``, or ``r+b`` at ``offset``) and let the server put it on its disk where it can do that."""
    import asyncssh  # noqa: PLC0415 - the driver loads when it connects

    async with opened(client, path, mode) as file:
        if isinstance(content, Blob):
            with content.open() as source:
                while part := await apart(partial(source.read, CHUNK)):
                    await file.write(part, offset)
                    offset += len(part)
        elif content:
            await file.write(content, offset)
        with suppress(asyncssh.SFTPOpUnsupported):
            await file.fsync()


def translate(error: Exception) -> OSError | None:
    """A fault of the driver as the system error that it stands for; None for what is none of the driver's."""
    import asyncssh  # noqa: PLC0415 - the driver loads when it connects

    if isinstance(error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)):
        return ConnectionResetError(errno.ECONNRESET, "connection lost")
    if isinstance(error, asyncssh.SFTPError):
        words = error.reason or type(error).__name__
        kinds: list[tuple[tuple[type[Exception], ...], int]] = [
            ((asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath), errno.ENOENT),
            ((asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect), errno.EACCES),
            ((asyncssh.SFTPFileAlreadyExists,), errno.EEXIST),
            ((asyncssh.SFTPOpUnsupported,), errno.ENOTSUP),
            ((asyncssh.SFTPNoSpaceOnFilesystem,), errno.ENOSPC),
            ((asyncssh.SFTPQuotaExceeded,), errno.EDQUOT),
        ]
        # the usual servers speak version 3, which says `failure` for everything else, a full disk included
        code = next((code for types, code in kinds if isinstance(error, types)), REMOTE_FAULT)
        return OSError(code, words)
    if isinstance(error, (asyncssh.Error, ConnectionError, EOFError)):
        return ConnectionResetError(errno.ECONNRESET, "connection lost")
    return None


__all__ = ["CHUNK", "Session", "opened", "translate", "write_whole"]
