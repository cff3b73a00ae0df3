"""What sources over folders share, local or remote: their options and the checks of paths."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PureWindowsPath
from typing import Annotated, Any, Literal

from esb.endpoints.paths import fixed_folder
from esb.formats.base import Codec, CodecKind
from esb.language import Expression, TextTemplate
from esb.spec import MapNode, Node, Reader, option
from esb.spec.kinds import Size
from esb.steps.base import ContractRef


def literal(text: str) -> TextTemplate:
    return TextTemplate(text, lambda scope: text, constant=True)


@dataclass(frozen=True, slots=True)
class Ready:
    """When a file is complete; exactly one of the three."""

    stable_for: timedelta | None = option(
        default=None,
        doc="Two looks at least this far apart found the same size and time of change.",
        example="20s",
        aliases=("quiet", "min_age", "settle", "minAge"),
    )
    marker: str | None = option(
        default=None,
        doc="A second file that says so: a suffix (`.done` belongs to `orders.csv.done`), or a name with `{name}` or "
        "`{stem}` (`{stem}.ok`). It is removed after the file.",
        example=".done",
        aliases=("done_file", "doneFileName"),
    )
    rename: bool = option(
        default=False,
        doc="The sender writes under another name and renames at the end, so that a file is complete when it is seen.",
        example=True,
    )

    def check(self, node: Node, reader: Reader) -> None:
        if [self.stable_for is not None, self.marker is not None, self.rename].count(True) != 1:
            reader.problem(
                "ESB107",
                "`ready` needs exactly one of `stable_for`, `marker`, `rename: true`",
                node,
                hint="write `ready: { stable_for: 20s }`",
            )
        if self.marker is not None and (self.marker in ("", "{name}") or "/" in self.marker):
            reader.problem(
                "ESB103",
                f"`marker` must be a suffix or a name beside the file, not `{self.marker}`",
                spot(node, "marker"),
                hint='write `marker: ".done"` or `marker: "{stem}.ok"`',
            )


@dataclass(frozen=True, slots=True)
class Done:
    """What becomes of a file whose message is committed; exactly one of the two."""

    move: TextTemplate | None = option(
        default=None,
        doc="Folder to move it to, absolute or relative to the file's own; a taken name gets a number, nothing is "
        "overwritten.",
        example="../archive/{{ meta.received_at | date_format('%Y/%m') }}/",
    )
    delete: bool = option(default=False, doc="Remove it.", example=True)

    def check(self, node: Node, reader: Reader) -> None:
        if [self.move is not None, self.delete].count(True) != 1:
            reader.problem(
                "ESB107",
                "`done` needs exactly one of `move`, `delete: true`",
                node,
                hint="write `done: { move: archive/ }`",
            )


@dataclass(frozen=True, slots=True)
class Failed:
    """What becomes of a file that cannot be taken: its message is a dead letter, or it was refused unread."""

    move: TextTemplate = option(
        default=literal(".esb-failed/"),
        doc="Folder to move it to, absolute or relative to the file's own.",
        example="../rejected/",
    )
    report: bool | str = option(
        default=False,
        doc="Put a report beside a file whose message is a dead letter, and one about the rows that a `split` set aside: "
        "`true` for `<name>.error.json`, or the end of its name (`errors.csv`). A file that was refused unread always gets one.",
        example=True,
    )

    def check(self, node: Node, reader: Reader) -> None:
        if isinstance(self.report, str) and ("/" in self.report or not self.report.endswith((".csv", ".json"))):
            reader.problem(
                "ESB105",
                f"`report` must end in .csv or .json, not `{self.report}`",
                spot(node, "report"),
                hint="write `report: true` or `report: errors.csv`",
            )


@dataclass(frozen=True, slots=True)
class FolderSource:
    """The options of every source that takes files out of folders."""

    path: TextTemplate = option(
        doc="Files to take: a pattern with `*`, `?` and `**` (any folders), relative to the workspace or absolute; "
        "`site` values are filled in once.",
        example="inbox/*.csv",
        shorthand=True,
        aliases=("directory", "folder", "paths", "dir"),
    )
    every: timedelta = option(
        default=timedelta(seconds=5),
        doc="Time between two looks.",
        example="30s",
        aliases=("interval", "poll", "delay", "period"),
    )
    ready: Ready = option(
        default=Ready(stable_for=timedelta(seconds=2)),
        doc="When a file is complete.",
        example="{ stable_for: 20s }",
        aliases=("readLock",),
    )
    seen_by: tuple[Literal["name", "size", "modified", "sha256"], ...] = option(
        default=("name", "size", "sha256"),
        doc="What makes a file the same as one that was taken before; with `sha256` a corrected file of the same name is "
        "a new one.",
        example="[name, size, sha256]",
        aliases=("idempotentKey",),
    )
    done: Done = option(
        default=Done(move=literal(".esb-done/")),
        doc="What becomes of a file that was taken; by default it moves into `.esb-done/` beside it.",
        example="{ move: archive/ }",
        aliases=("after", "moveTo"),
    )
    failed: Failed = option(
        default=Failed(),
        doc="What becomes of a file that cannot be taken; by default it moves into `.esb-failed/` beside it.",
        example="{ move: rejected/, report: true }",
        aliases=("moveFailed", "error"),
    )
    order: Literal["name", "modified"] = option(
        default="name", doc="Which file is taken first.", example="modified", aliases=("sort", "sortBy")
    )
    format: Annotated[Codec | None, CodecKind()] = option(
        default=None,
        doc="How the content is read; without it by the file's suffix, and as raw bytes where that says nothing.",
        example='{ csv: { delimiter: ";" } }',
    )
    contract: ContractRef = option(
        default=None,
        doc="Contract that the content must keep; else its message is a dead letter.",
        example="asn-row.v1",
    )
    max_size: Size = option(default=100_000_000, doc="A larger file is not read but moved to `failed`.", example="1GB")
    batch: int = option(
        default=100, doc="Files taken before the folder is looked at again.", example=100, minimum=1, maximum=100_000
    )

    def check(self, node: Node, reader: Reader) -> None:
        text = self.path.text
        if self.every <= timedelta(0):
            reader.problem("ESB106", "`every` must be more than 0s", spot(node, "every"), hint="write `every: 5s`")
        if not self.seen_by:
            reader.problem(
                "ESB102", "`seen_by` names nothing", spot(node, "seen_by"), hint="write `seen_by: [name, size, sha256]`"
            )
        if not text.strip() or text.endswith("/"):
            reader.problem(
                "ESB103", "`path` names a folder, not files", spot(node, "path"), hint=f"write `{text or 'inbox/'}*`"
            )
            return
        self.check_place(spot(node, "path"), reader)
        for name, template in (("done", self.done.move), ("failed", self.failed.move)):
            if template is not None:
                check_move(name, template, text, spot(node, name), reader)

    @property
    def reports(self) -> bool:
        """Files have senders, who hear of what was not taken (:class:`~esb.endpoints.base.ReportingSource`)."""
        return True

    def begins(self, route: str, site: Mapping[str, Any]) -> str:
        """``path`` as it is looked at: filled in once, when the source starts. Raises InternalFault where it cannot be."""
        scope = {"body": None, "headers": {}, "vars": {}, "meta": {"route": route}, "site": site}
        return self.path.render(scope)

    def check_place(self, node: Node, reader: Reader) -> None:
        """Whether `path` is one that this source may look at."""


@dataclass(frozen=True, slots=True)
class FolderSink:
    """The options of every sink that writes files."""

    path: TextTemplate = option(
        doc="File to write, relative to the workspace or absolute. Values of the message can fill parts of names; "
        "separators and other unsafe characters in them become `_`.",
        example="outbox/{{ body.plant }}/{{ body.order_no }}.json",
        shorthand=True,
        aliases=("file", "filename", "fileName", "directory"),
    )
    format: Annotated[Codec | None, CodecKind()] = option(
        default=None,
        doc="How the body is written; without it text and bytes as they are, everything else as JSON.",
        example="{ csv: { columns: [lot, qty] } }",
    )
    exists: Literal["fail", "replace", "append", "unique"] = option(
        default="fail",
        doc="What to do where the name is taken: `fail` (unless the content is the same), `replace`, `append` (one line or "
        "block after the other), or `unique`, which puts the delivery's id into every name.",
        example="replace",
        aliases=("fileExist", "if_exists", "mode"),
    )
    mkdirs: bool = option(
        default=True,
        doc="Make missing folders; `false` on a mounted share, so that nothing is written beside it while it is not mounted.",
        example=False,
        aliases=("autoCreate", "create"),
    )
    body: Expression | None = option(
        default=None, doc="What to write instead of the whole body.", example="body.document"
    )

    @property
    def takes_unread(self) -> bool:
        """Whether a large payload can be written as it lies there, piece by piece: nothing here looks into the body."""
        plain = self.format is None and self.body is None and self.exists != "append"
        return plain and "body" not in self.path.text

    def check(self, node: Node, reader: Reader) -> None:
        text = self.path.text
        if not text.strip() or text.endswith("/"):
            reader.problem(
                "ESB103",
                "`path` names a folder, not a file",
                spot(node, "path"),
                hint=f"write `{text}{{{{ meta.message_id }}}}.json`",
            )
            return
        self.check_place(spot(node, "path"), reader)
        if "//" in fixed_folder(text):
            reader.problem("ESB103", "`path` has two slashes in a row", spot(node, "path"), hint="write one")
        if text.lstrip().startswith("{{") and "site." not in text.split("}}", 1)[0]:
            reader.problem(
                "ESB504",
                "`path` begins with a value of the message",
                spot(node, "path"),
                hint=f"give it a folder of its own: `outbox/{text}`",
            )

    def check_place(self, node: Node, reader: Reader) -> None:
        """Whether `path` is one that this sink may write."""


# -- checks -------------------------------------------------------------------------------------------------------------


def spot(node: Node, name: str) -> Node:
    """The value of one option, to point at it; the whole node where the option stands alone."""
    return (node.get(name) or node) if isinstance(node, MapNode) else node


def check_move(name: str, template: TextTemplate, path: str, node: Node, reader: Reader) -> None:
    """A file must not come back to the place where it is looked for."""
    own = fixed_folder(template.text.rstrip("/") + "/")
    folders = fixed_folder(path)
    deep = any(ch in path[: path.rfind("/") + 1] for ch in "*?")
    watched = posixpath.normpath(folders or ".")
    target = posixpath.normpath(posixpath.join(watched, own))
    if template.constant and target == watched and not deep:
        reader.problem(
            "ESB106", f"`{name}.move` is the folder that is watched", node, hint=f"write `{name}: {{ move: {name}/ }}`"
        )
    elif deep and set(own.split("/")) <= {"", ".", ".."} and not own.startswith("/"):
        reader.problem(
            "ESB106",
            f"`{name}.move` may lie in a folder that `{path}` looks into",
            node,
            hint=f"begin it with a name of its own: `{name}/{template.text}`",
        )


def is_absolute(path: str) -> bool:
    return path.startswith("/") or PureWindowsPath(path).is_absolute()
