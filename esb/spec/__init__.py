"""How a component declares what it accepts, and how YAML nodes become typed options.

One declaration per option (:func:`option`) drives the reader, lint, the editor schema, the catalogue and the docs.
"""

from __future__ import annotations

from esb.spec.kinds import Kind, kind_of
from esb.spec.nodes import ListNode, MapNode, Node, ScalarNode, part_of, to_plain
from esb.spec.options import REQUIRED, OptionSpec, option, options_of
from esb.spec.reader import MISSING, Reader, read_options

__all__ = [
    "MISSING",
    "REQUIRED",
    "Kind",
    "ListNode",
    "MapNode",
    "Node",
    "OptionSpec",
    "Reader",
    "ScalarNode",
    "kind_of",
    "option",
    "options_of",
    "part_of",
    "read_options",
    "to_plain",
]
