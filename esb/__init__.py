"""esb: a lightweight enterprise service bus with declarative YAML routes.

The way of a message, readable from file names::

    endpoints/* (source) -> runtime/intake.py -> store/ -> runtime/lanes.py -> runtime/worker.py
        -> pipeline.py -> steps/* -> endpoints/* (sink) -> runtime/settle.py -> store/
"""

from __future__ import annotations

__version__ = "0.1.0"
