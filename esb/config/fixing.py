"""Puts right what can be put right in the files of a workspace, and takes back what does not help."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from esb.config.drafts import write_whole
from esb.config.fixes import SCHEMAS, Edit, by_file, edited, fix_of, with_modeline
from esb.config.loader import Loaded

#: a fault may hide another one; more rounds than that help nobody
ROUNDS = 5


@dataclass(slots=True)
class Fixed:
    """What was changed: how many places in which files, and the workspace as it is now."""

    loaded: Loaded
    count: int = 0
    files: list[str] = field(default_factory=list)


def fix_workspace(root: Path, read: Callable[[], Loaded]) -> Fixed:
    """Fix what can be fixed. ``read`` reads the workspace anew. A change that makes more errors than it takes away is undone.

    Raises OSError where a file cannot be written.
    """
    fixed = Fixed(read())
    for _ in range(ROUNDS):
        found = (fix_of(problem, fixed.loaded.read_lines) for problem in fixed.loaded.problems)
        changes = by_file([edit for edit in found if edit is not None])
        if not changes:
            break
        before = {path: (root / path).read_bytes() for path in changes}
        for path, edits in changes.items():
            write_whole(root / path, _changed(before[path], edits))
        again = read()
        if len(again.errors) > len(fixed.loaded.errors):
            for path, data in before.items():
                write_whole(root / path, data)
            fixed.loaded = read()
            break
        fixed.loaded, fixed.count = again, fixed.count + sum(map(len, changes.values()))
        fixed.files = list(dict.fromkeys([*fixed.files, *changes]))
    return fixed


def _changed(data: bytes, edits: Iterable[Edit]) -> bytes:
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    return mark + edited(data.removeprefix(mark).decode("utf-8"), edits).encode()


def add_modelines(root: Path, paths: Sequence[str]) -> list[str]:
    """Give each file its line for editors, where the workspace has the schema for it; gives the files that were changed."""
    schema = next((path for path in SCHEMAS if (root / path).is_file()), None)
    changed = []
    for path in paths if schema is not None else ():
        text = (root / path).read_bytes().decode("utf-8")
        new = with_modeline(path, text, schema or "")
        if new != text:
            write_whole(root / path, new.encode())
            changed.append(path)
    return changed
