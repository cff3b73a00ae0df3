"""The ``sftp`` endpoint: folders of an SFTP server that messages come from and go to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from esb.endpoints.base import ConnectionContext, Delivery, LiveConnection, RunningSource, SourceContext
from esb.endpoints.drivers import need
from esb.endpoints.file_options import FolderSink, FolderSource, spot
from esb.endpoints.file_source import FilePoller
from esb.message import Message
from esb.registry import connection, sink, source
from esb.secret import Secret
from esb.spec import Node, Reader, ScalarNode, option
from esb.spec.kinds import SecretKind
from esb.steps.base import Reply


class KeyKind(SecretKind):
    """A private key: the name of its file, or its text, which must be a secret. A key has more lines than one."""

    label = "a file, or a secret"

    def read(self, node: Node, reader: Reader) -> Any:
        if (
            isinstance(node, ScalarNode)
            and isinstance(node.value, str)
            and node.value
            and "\n" not in node.value.strip()
        ):
            return node.value
        return super().read(node, reader)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "examples": ["keys/supplier-gateway", "${secret:supplier-gateway-key}"]}


@connection("sftp")
@dataclass(frozen=True, slots=True)
class SftpConnection:
    """An SFTP server: address, login and the keys by which it is recognised.

    One connection is shared by all routes, opened on first use and again after a fault, with growing pauses up to a minute. A
    server whose host key is not in `known_hosts` is refused. Settings of the user's own `ssh_config` and agent are not used.
    Ciphers and signatures that are broken (CBC, SHA-1) are not offered.
    """

    host: str = option(doc="Name or address of the server.", example="sftp.supplier.example", aliases=("server",))
    port: int = option(default=22, doc="Its port.", example=22, minimum=1, maximum=65535)
    user: str = option(doc="Who logs in.", example="plant-graz", aliases=("username", "login"))
    key: Annotated[Secret | str | None, KeyKind()] = option(
        default=None,
        doc="Private key: its file, relative to the workspace (keep it out of version control), or the text of it as a secret.",
        example="${secret:supplier-gateway-key}",
        aliases=("identity", "private_key", "key_file"),
    )
    passphrase: Secret | None = option(
        default=None, doc="Passphrase of the private key.", example="${secret:supplier-gateway-passphrase}"
    )
    password: Secret | None = option(default=None, doc="Password.", example="${secret:supplier-gateway-password}")
    known_hosts: str = option(
        default="",
        doc="File with the server's keys, as `ssh-keyscan` writes it, relative to the workspace.",
        example="connectors/supplier-gateway.known_hosts",
        aliases=("host_key", "hostkey"),
    )
    trust_all: bool = option(
        default=False,
        doc="Trust every host key instead: anybody on the way can read and change files. For test systems, and warned about at "
        "each start.",
        aliases=("strict_host_key_checking",),
    )
    keepalive: timedelta = option(
        default=timedelta(seconds=15),
        doc="Pause after which a silent connection is asked for a sign of life; after three without one it is given up.",
        example="15s",
    )
    patience: timedelta = option(
        default=timedelta(seconds=30),
        doc="Longest time of one operation (log in, rename, one page of a listing, a small file); larger files get more by their "
        "size. Then the connection is given up.",
        example="30s",
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not (self.key or self.password):
            hint = "write `key: ${secret:name}`, `key: keys/name` or `password: ${secret:name}`"
            reader.problem("ESB102", "a connector of type `sftp` needs a login", node, hint=hint)
        if bool(self.known_hosts) == self.trust_all:
            reader.problem(
                "ESB107",
                "a connector of type `sftp` needs exactly one of `known_hosts`, `trust_all: true`",
                spot(node, "known_hosts"),
                hint=f"let `ssh-keyscan -p {self.port} {self.host}` write the file, and compare it with what the server's people say",
            )
        for name in ("keepalive", "patience"):
            if getattr(self, name) < timedelta(seconds=1):
                reader.problem("ESB106", f"`{name}` must be at least 1s", spot(node, name), hint=f"write `{name}: 15s`")

    async def open(self, context: ConnectionContext) -> LiveConnection:
        need("asyncssh", "sftp", context.name)
        from esb.endpoints._sftp.session import Session  # noqa: PLC0415 - the driver loads when it is used

        return Session(self, context)


@source("sftp")
@dataclass(frozen=True, slots=True)
class SftpSource(FolderSource):
    """Files that appear in a folder of an SFTP server, one message each, acknowledged by moving the file after the commit.

    Everything is as for `file`, with paths of the server: a relative one begins in the login's folder. The claim is a rename into
    `.esb-claim/` beside the file. On a server that does not let us rename, files are read where they lie and copied to `done` or
    `failed`, and what cannot be removed is remembered and not taken again. Names that could lead out of the folder are skipped and
    logged as `file.bad_name`; names in other character sets go to `failed`.
    """

    needs_connector: ClassVar[bool] = True

    def bind(self, context: SourceContext) -> RunningSource:
        from esb.endpoints._sftp.desk import RemoteDesk  # noqa: PLC0415 - the driver loads when it is used

        return FilePoller(self, context, RemoteDesk(self, context), kind="sftp")


@sink("sftp")
@dataclass(frozen=True, slots=True)
class SftpSink(FolderSink):
    """Writes one file per message to an SFTP server: complete or not at all, never half.

    The file is uploaded under a temporary name, its size is compared, and it gets its name by a rename; an upload that was cut begins
    anew. The same delivery again finds its own file by content and is done. `append` is the exception: after a lost connection
    the same text may be there twice. A taken name and missing rights are `rejected`; a lost connection, a full disk and a host
    key that is not the known one are `unavailable`. The reply's body has `path`, `bytes` and `sha256`.
    """

    def own_connection(self) -> None:
        """It always needs a connector."""

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        from esb.endpoints._sftp.write import write_remote  # noqa: PLC0415 - the driver loads when it is used

        return await write_remote(self, message, delivery, connection)
