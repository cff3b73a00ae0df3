"""A path that cannot be used is whoever typed it to mend, or whoever owns it: no bug, and no traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from esb.cli import exits


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, exits.NOT_ALLOWED),
        (errno.EROFS, exits.NOT_ALLOWED),
        (errno.ENOENT, exits.MISSING),
        (errno.ENOTDIR, exits.MISSING),
        (errno.EISDIR, exits.USAGE),
        (errno.ENAMETOOLONG, exits.USAGE),
    ],
)
def test_what_the_system_says_of_a_path_is_said_with_the_path(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, exits.guarded():
        raise OSError(number, os.strerror(number), "backup/x.zip")
    assert ended.value.code == code
    assert f"backup/x.zip: {os.strerror(number)}" in capsys.readouterr().err


def test_an_error_of_the_system_without_a_path_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exits.guarded():
        raise OSError(errno.EACCES, "Permission denied")
    assert ended.value.code == exits.BUG
    assert "Traceback" in capsys.readouterr().err


def test_a_folder_where_a_file_is_meant_is_no_bug(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    words = [sys.executable, "-m", "esb", "schema", "--out", str(tmp_path)]
    done = subprocess.run(words, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == exits.USAGE, done.stderr
    assert "Traceback" not in done.stderr
