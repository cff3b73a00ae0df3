"""What the tests of the configuration share: a workspace out of a few texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from esb.config.loader import Loaded, read_workspace
from esb.config.model import Workspace
from esb.errors import Problem

ERP = """connector: erp
type: http
base_url: https://erp.example.com
operations:
  create-order: { path: /orders }
  usage-decision: { path: "/lots/{{ body.lot }}/decision" }
"""

Read = Callable[..., Loaded]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write ``path: text`` below a folder and read it as a workspace; a lone text is routes/r.yaml."""

    def build(files: str | Mapping[str, str], *, environ: Mapping[str, str] | None = None, **more: object) -> Loaded:
        texts = {"routes/r.yaml": files} if isinstance(files, str) else files
        for path, text in texts.items():
            place = tmp_path / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        return read_workspace(tmp_path, environ=environ or {}, **more)  # type: ignore[arg-type]  # a double, or none

    return build


def good(loaded: Loaded) -> Workspace:
    """The workspace, where nothing is wrong with it."""
    assert not loaded.errors, "\n".join(f"{problem} / {problem.hint}" for problem in loaded.problems)
    assert loaded.workspace is not None
    return loaded.workspace


def only(loaded: Loaded) -> Problem:
    """The one problem."""
    assert len(loaded.problems) == 1, "\n".join(map(str, loaded.problems))
    return loaded.problems[0]
