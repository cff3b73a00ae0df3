"""Files that are written whole: what else is true of the place stays so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from esb.config import drafts as module
from esb.config.drafts import drafts, write_whole

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")


@posix
def test_the_mode_of_a_file_stays_and_a_new_one_has_that_of_any_new_file(tmp_path: Path) -> None:
    old, new, plain = tmp_path / "old", tmp_path / "new", tmp_path / "plain"
    old.write_text("a", encoding="utf-8")
    old.chmod(0o640)
    plain.touch()
    write_whole(old, "b")
    write_whole(new, b"c")
    assert (old.read_text(encoding="utf-8"), old.stat().st_mode & 0o777) == ("b", 0o640)
    assert (new.read_text(encoding="utf-8"), new.stat().st_mode) == ("c", plain.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "plain"]


@posix
def test_a_link_stays_a_link_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text("a", encoding="utf-8")
    (tmp_path / "link.yaml").symlink_to("shared.yaml")
    write_whole(tmp_path / "link.yaml", "b")
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "shared.yaml").read_text(encoding="utf-8") == "b"


@posix
def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        write_whole(Path(f"/dev/fd/{writer}"), "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
        os.close(writer)


def test_of_several_drafts_none_is_left_where_one_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(OSError):
        drafts({tmp_path / "a.yaml": b"a", tmp_path / "file" / "b.yaml": b"b"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("tries", "written"), [(1, False), (3, True)])
def test_a_file_that_somebody_reads_just_then_is_replaced_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int, written: bool
) -> None:
    """On Windows, where nothing can take the place of an open file; elsewhere there is one try."""
    place, replace, refused = tmp_path / "a.yaml", Path.replace, [PermissionError(13, "in use")] * 2
    place.write_text("a", encoding="utf-8")

    def busy(self: Path, target: Path) -> Path:
        if refused:
            raise refused.pop()
        return replace(self, target)

    monkeypatch.setattr(module, "_TRIES", tries)
    monkeypatch.setattr(module, "_BETWEEN_TRIES", 0.0)
    monkeypatch.setattr(Path, "replace", busy)
    if not written:
        with pytest.raises(PermissionError, match=r"a\.yaml"):
            write_whole(place, "b")
    else:
        write_whole(place, "b")
    assert place.read_text(encoding="utf-8") == ("b" if written else "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
