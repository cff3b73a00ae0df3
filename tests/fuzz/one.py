"""One target under libFuzzer, in a process of its own; the arguments behind its name are libFuzzer's."""

from __future__ import annotations

import sys

import atheris

_WATCHED = {"route": "esb.config", "http": "esb.endpoints", "expression": "esb.language", "template": "esb.language"}
name = sys.argv.pop(1)
#: to watch the branches of the whole program would take longer than a short run
with atheris.instrument_imports(include=[_WATCHED.get(name, "esb.formats")]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
