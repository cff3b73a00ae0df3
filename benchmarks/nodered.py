"""Node-RED's best synchronous flow: one function node with a precompiled ajv validator, one request, the answer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks import core
from benchmarks.figures import Skipped
from benchmarks.programs import ended, free_port, need, wait_for

#: Outside of the repository, and kept between runs.
CACHE = Path(tempfile.gettempdir()) / "esb-bench-node-red"
PACKAGES = ("node-red@4", "ajv@8")

SETTINGS = """
const Ajv = require("ajv/dist/2020");
const validate = new Ajv({ strict: false }).compile(require("./schema.json"));
module.exports = { uiPort: PORT, uiHost: "127.0.0.1", flowFile: "flows.json", userDir: __dirname, httpAdminRoot: false,
  functionGlobalContext: { validate }, logging: { console: { level: "fatal" } } };
"""
FUNCTION = """
const b = msg.payload;
if (!global.get("validate")(b)) { node.error("invalid", msg); return null; }
let sum = 0;
const characteristics = b.characteristics.map(c => { sum += c.value;
  return { No: c.no, Value: c.value, Unit: c.unit, Valuation: c.valuation }; });
msg.payload = { InspectionLot: b.lot.id, Plant: b.plant, Material: b.lot.material, Decision: b.result,
  Quantity: sum, Characteristics: characteristics };
msg.headers = { "content-type": "application/json" };
return msg;
"""


def flows(target: str) -> str:
    tab = {"id": "t", "type": "tab", "label": "bench"}
    nodes: list[dict[str, object]] = [
        {"id": "in", "type": "http in", "url": "/through", "method": "post", "wires": [["fn"]]},
        {"id": "fn", "type": "function", "func": FUNCTION, "outputs": 1, "wires": [["rq"]]},
        {"id": "rq", "type": "http request", "method": "POST", "ret": "obj", "url": f"{target}/lots", "persist": True}
        | {"wires": [["out"]]},
        {"id": "out", "type": "http response", "statusCode": "200", "wires": []},
    ]
    return json.dumps([tab, *({**node, "z": "t"} for node in nodes)])


def install() -> Path:
    """The folder with Node-RED in it; npm puts it there the first time."""
    need("node")
    program = CACHE / "node_modules" / "node-red" / "red.js"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [need("npm"), "install", "--no-audit", "--no-fund", "--prefix", str(CACHE), *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not program.exists():
            raise Skipped(f"npm could not install {' '.join(PACKAGES)}")
    return CACHE


@contextlib.contextmanager
def running(target: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of the flow, which sends to ``target``."""
    port, home = free_port(), install()
    with tempfile.TemporaryDirectory(dir=home) as name:
        root = Path(name)
        (root / "schema.json").write_text(core.SCHEMA)
        (root / "settings.js").write_text(SETTINGS.replace("PORT", str(port)))
        (root / "flows.json").write_text(flows(target))
        command = ["node", str(home / "node_modules/node-red/red.js"), "-s", str(root / "settings.js"), "-u", name]
        with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)) as it:
            wait_for(port, it)
            _wait_for_flow(f"http://127.0.0.1:{port}/through", it)
            yield f"http://127.0.0.1:{port}", it


def _wait_for_flow(url: str, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Return once the flow answers: its listener is there before it, and says 404 until then."""
    ask = urllib.request.Request(url, core.payload(1), {"Content-Type": "application/json"})
    until, said = time.monotonic() + seconds, ""
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(ask, timeout=10) as answer:
                if answer.status == 200:
                    return
                said = str(answer.status)
        except OSError as error:
            said = str(error)
        time.sleep(0.05)
    raise Skipped(f"the flow of Node-RED does not answer with 200: {said}")
