"""The ``file`` endpoint: folders that messages come from and go to."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

from esb.endpoints.base import Delivery, RunningSource, SourceContext
from esb.endpoints.file_local import LocalDesk
from esb.endpoints.file_options import FolderSink, FolderSource, is_absolute
from esb.endpoints.file_sink import write_file
from esb.endpoints.file_source import FilePoller
from esb.endpoints.file_watch import FolderWatch
from esb.endpoints.paths import OWN_FOLDERS, fixed_folder
from esb.message import Message
from esb.registry import sink, source
from esb.spec import Node, Reader, option
from esb.steps.base import Reply


@source("file")
@dataclass(frozen=True, slots=True)
class FileSource(FolderSource):
    """Files that appear in a folder, one message each, acknowledged by moving the file after the commit.

    A file is taken when it is complete (`ready`), claimed by a rename into `.esb-claim/` beside it, read whole, stored, and only
    then moved or deleted. After a crash the claimed files are read again; what was stored before is recognised by `seen_by`
    and only moved. The same file again is logged as `file.duplicate` with the message it belongs to, and filed away like the
    first. Where the crash is followed by an edit of `path` or the end of the route, they are given back to their folder, or filed away
    where they were stored; what cannot be is said as `source.left_behind` and by `esb status`. A file of any size is taken in constant memory (`max_size`); what is decoded as a whole must fit `limits.in_memory`. Links, hard-linked files, hidden names and names that end in `.part`, `.tmp`, `.filepart` or `~` are left alone.
    """

    watch: bool = option(
        default=False,
        doc="Look as soon as the file system tells of a change, too; `every` goes on, since a share tells of nothing.",
        example=True,
    )

    def bind(self, context: SourceContext) -> RunningSource:
        desk = LocalDesk(self, context)
        return FilePoller(self, context, desk, FolderWatch(desk.base, context.log) if self.watch else None)

    def check_place(self, node: Node, reader: Reader) -> None:
        text = self.path.text
        check_place(text, node, reader)
        watched = posixpath.normpath(fixed_folder(text) or ".")
        for name, template in (("done", self.done.move), ("failed", self.failed.move)):
            if template is None or text.startswith("{{"):
                continue
            target = posixpath.normpath(posixpath.join(watched, fixed_folder(template.text.rstrip("/") + "/")))
            if not is_absolute(target) and target.split("/")[0] == "..":
                reader.problem(
                    "ESB504",
                    f"`{name}.move` leaves the workspace",
                    node,
                    hint="write an absolute path for a folder elsewhere",
                )


@sink("file")
@dataclass(frozen=True, slots=True)
class FileSink(FolderSink):
    """Writes one file per message: complete or not at all, never half, never through a link.

    The file is written under a temporary name, made durable, and given its name in one step. The same delivery again finds
    its own file by content and is done. `append` is the exception: after a crash the same text may be there twice.
    The reply's body has `path`, `bytes` and `sha256`. Permission trouble and a taken name are `rejected`, a full disk or a
    share that is gone is `unavailable`.
    """

    async def send(self, message: Message, delivery: Delivery, connection: Any) -> Reply:
        return await write_file(self, message, delivery)

    def check_place(self, node: Node, reader: Reader) -> None:
        check_place(self.path.text, node, reader)


def check_place(text: str, node: Node, reader: Reader) -> None:
    if "\\" in text.split("{{", 1)[0]:
        reader.problem("ESB103", "`path` has a backslash", node, hint=f"write `{text.replace(chr(92), '/')}`")
    folder = fixed_folder(text)
    if is_absolute(folder):
        return
    names = [name for name in folder.split("/") if name != "."]
    if ".." in names:
        reader.problem(
            "ESB504", f"`{text}` leaves the workspace", node, hint="write an absolute path for a folder elsewhere"
        )
    elif (names and names[0] in OWN_FOLDERS) or posixpath.normpath(text) == "esb.yaml":
        reader.problem(
            "ESB504", f"`{text}` lies among the files of the bus itself", node, hint="use a folder such as `outbox/`"
        )
