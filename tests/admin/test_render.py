"""Pages from templates."""

from __future__ import annotations

import shutil
from pathlib import Path

from esb.admin.render import TEMPLATES, environment


def test_pages_stay_as_they_are_when_another_version_is_installed_under_a_running_bus(tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    shutil.copytree(TEMPLATES, folder)
    templates = environment(folder)
    templates.globals["static"] = str
    shutil.rmtree(folder)
    for place in TEMPLATES.iterdir():
        assert templates.get_template(place.name).name == place.name
