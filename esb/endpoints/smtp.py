"""The ``smtp`` endpoint: messages and alerts as mails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from esb.endpoints.base import ConnectionContext, Delivery, LiveConnection
from esb.endpoints.http import HttpTls
from esb.formats.base import Codec, CodecKind
from esb.language import TextTemplate
from esb.message import Message
from esb.registry import connection, sink
from esb.secret import Secret
from esb.spec import Kind, MapNode, Node, Reader, ScalarNode, option
from esb.steps.base import Reply

#: what stands in an envelope: one mailbox, nothing that could be a second command or header
ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class AddressKind(Kind):
    label = "a mail address such as `desk@plant.example`"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            return reader.wrong_type(node, self)
        if "{{" not in node.value and ADDRESS.fullmatch(node.value):
            return node.value
        hint = "addresses are fixed, so that no message can choose who gets it; use `choose` for several readers"
        return reader.problem("ESB103", f"`{node.value}` is not {self.label}", node, hint=hint)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "email"}


Address = Annotated[str, AddressKind()]


def _spot(node: Node, name: str) -> Node:
    return (node.get(name) if isinstance(node, MapNode) else None) or node


@connection("smtp")
@dataclass(frozen=True, slots=True)
class SmtpConnection:
    """A mail server that takes mails from the bus (a relay of the plant, or a submission port).

    A connection is made for each mail. The login is only ever sent over TLS.
    """

    host: str = option(
        default="", doc="Name or address of the server.", example="mail.plant.example", aliases=("server",)
    )
    port: int = option(
        default=587, doc="Its port: 587 (STARTTLS), 465 (TLS) or 25.", example=465, minimum=1, maximum=65535
    )
    security: Literal["starttls", "tls", "none"] = option(
        default="starttls",
        doc="How the connection is protected; `none` only inside of the machine or a relay of your own.",
        example="tls",
    )
    user: str = option(default="", doc="Who logs in.", example="esb", aliases=("username", "login"))
    password: Secret | None = option(default=None, doc="Its password.", example="${secret:mail}")
    tls: HttpTls | None = option(default=None, doc="Certificates.")

    def check(self, node: Node, reader: Reader) -> None:
        if not self.host:
            reader.problem(
                "ESB102", "a connector of type `smtp` needs `host`", node, hint="write `host: mail.plant.example`"
            )
        if bool(self.user) != (self.password is not None):
            reader.problem(
                "ESB102", "`user` and `password` go together", _spot(node, "user"), hint="write both or none"
            )
        if self.user and self.security == "none":
            hint = "write `security: starttls`, or take out the login"
            reader.problem("ESB107", "a password may not go over an open line", _spot(node, "security"), hint=hint)

    async def open(self, context: ConnectionContext) -> LiveConnection:
        from esb.endpoints._smtp.send import LiveSmtp  # noqa: PLC0415 - the library loads when it is used

        return LiveSmtp(self, context)


@sink("smtp")
@dataclass(frozen=True, slots=True)
class SmtpSink:
    """One mail per delivery, taken by the mail server under a `Message-ID` that is made of the delivery id.

    The server's 4xx and lost connections are `unavailable`, its 5xx is `rejected` with its words; where only some of the readers are
    refused, nobody gets the mail. A repeat after a lost answer has the same `Message-ID`, by which mailboxes and people know it.
    """

    from_: Address = option(doc="Whose mail it is.", example="esb@plant.example", aliases=("sender",))
    to: tuple[Address, ...] = option(
        doc="Who gets it.", example="[quality-desk@plant.example]", aliases=("recipients",)
    )
    cc: tuple[Address, ...] = option(default=(), doc="Who gets a copy.", example="[plant-it@plant.example]")
    reply_to: Address | None = option(default=None, doc="Where answers go.", example="quality-desk@plant.example")
    subject: TextTemplate = option(doc="Its subject; line ends become spaces.", example="Lot {{ body.lot }} is on hold")
    text: TextTemplate = option(
        doc="Its text.", example="On hold, since {{ body.reason }}", aliases=("body", "message")
    )
    html: TextTemplate | None = option(
        default=None, doc="The same as HTML; values are escaped with `| e`.", example="<b>{{ body.lot | e }}</b>"
    )
    attach: TextTemplate | None = option(
        default=None,
        doc="Name of an attachment that holds the message's body.",
        example="lot-{{ body.lot }}.json",
        aliases=("attachment",),
    )
    format: Annotated[Codec | None, CodecKind()] = option(
        default=None, doc="How the attachment is written; JSON by default.", example="csv"
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not self.to:
            reader.problem("ESB102", "`to` is empty", _spot(node, "to"), hint="name at least one reader")
        if self.format is not None and self.attach is None:
            reader.problem(
                "ESB102",
                "`format` needs `attach`",
                _spot(node, "format"),
                hint="name the attachment: `attach: lots.csv`",
            )

    def own_connection(self) -> None:
        """A mail server is always a connector's."""
        return

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        from esb.endpoints._smtp.send import send  # noqa: PLC0415 - the library loads when it is used

        return await send(self, message, delivery, connection)
