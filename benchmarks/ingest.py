"""HTTP before and behind the store: what the ingress and the `to` step cost by themselves.

``python -m benchmarks.ingest PORT`` serves a path whose source has no store behind it: requests are guarded, their key is
checked, their body decoded with exact numbers, and the message is handed over.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import core
from benchmarks.figures import Figure, Rate, alternate, median, ratio
from benchmarks.programs import KEY, RAW, STARLETTE, folder, python, sink, wrk
from esb.clock import SystemClock
from esb.endpoints.base import Delivery, Incoming, Receipt, SourceContext
from esb.endpoints.http import HttpSource
from esb.endpoints.http_auth import InboundAuth, KeyClient
from esb.endpoints.ingress import HttpIngress
from esb.endpoints.webserver import Listener
from esb.message import Message, new_id
from esb.secret import Secret

#: requests in flight of the outgoing line
IN_FLIGHT, REQUESTS = 16, 6_000


def report(rounds: int) -> Iterator[Figure]:
    """The ingress against two bare servers with the same work, and the outgoing step against the bare client."""
    with folder({"body.json": core.payload(1).decode()}) as root:
        body = root / "body.json"
        with (
            python("-m", "benchmarks.ingest") as ours_at,
            python("-c", RAW) as raw_at,
            python("-c", STARLETTE) as starlette_at,
        ):
            ours, raw, starlette = alternate(
                rounds,
                lambda: wrk(ours_at, "/", body, key=KEY),
                lambda: wrk(raw_at, "/", body, key=KEY),
                lambda: wrk(starlette_at, "/", body, key=KEY),
            )
    said = f"{median(ours):.0f}/s; httptools on uvloop {median(raw):.0f}/s{core.cpu(ours, raw)}"
    yield Figure("HTTP in before the store / raw httptools", ratio(ours, raw), 0.4, said=said)
    said = f"{median(ours):.0f}/s; uvicorn and starlette {median(starlette):.0f}/s{core.cpu(ours, starlette)}"
    yield Figure("the same / uvicorn and starlette", ratio(ours, starlette), 1.0, said=said)
    with sink() as target:
        sent, bare = alternate(rounds, lambda: step(target), lambda: client(target, IN_FLIGHT, REQUESTS))
    said = f"{median(sent):.0f}/s; aiohttp {median(bare):.0f}/s, {IN_FLIGHT} in flight{core.cpu(sent, bare)}"
    yield Figure("HTTP out, the step / bare aiohttp", ratio(sent, bare), 0.8, said=said)


def client(url: str, in_flight: int, requests: int) -> Rate:
    """Requests a second of a bare aiohttp session."""

    async def main() -> Rate:
        import aiohttp

        numbers = iter(range(requests))
        body = core.payload(1)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

            async def one() -> None:
                for _ in numbers:
                    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                        await answer.read()

            began = Rate.now()
            await asyncio.gather(*(one() for _ in range(in_flight)))
            return Rate.since(began, requests)

    return core.run(main())


def step(url: str) -> Rate:
    """Deliveries a second of a `to` step: rendered, encoded, sent under the limits of its target, and judged."""

    async def main() -> Rate:
        from esb.config.loader import load_workspace
        from esb.registry import load
        from esb.runtime.targets import Targets

        clock, numbers = SystemClock(), iter(range(REQUESTS))
        message = Message(core.Json().decode(core.payload(1)))
        scope = message.scope()
        core.keep_loaded()
        route = f'route: out\nfrom: {{ route: {{}} }}\nsteps: [ {{ to: {{ http: {{ url: "{url}/lots" }} }} }} ]\n'
        with folder({"routes/out.yaml": route}) as root:
            loaded, problems = load_workspace(root)
            assert loaded is not None, problems
            target: Any = loaded.routes["out"].steps.nodes[0].step.target
            targets = Targets(clock, root, load(), lambda *_a, **_k: None)

            async def one() -> None:
                for number in numbers:
                    reply = await targets.send(target, message, Delivery(f"d-{number}", 1, 30.0, scope, clock, root))
                    assert reply.status == 200, reply

            began = Rate.now()
            await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))
            rate = Rate.since(began, REQUESTS)
            await targets.close()
        return rate

    return core.run(main())


# -- the bus without its store --------------------------------------------------------------------------------------------
class Hands:
    """An intake that decodes a message, gives it an id, and forgets it."""

    open = True

    def __init__(self) -> None:
        self.last: tuple[str, datetime, Any] | None = None

    async def accept(self, incoming: Incoming) -> Receipt:
        return self._take(incoming)

    def accept_soon(self, incoming: Incoming, told: Callable[[Receipt | Exception], None]) -> bool:
        asyncio.get_running_loop().call_soon(told, self._take(incoming))
        return True

    def _take(self, incoming: Incoming) -> Receipt:
        assert incoming.codec is not None
        self.last = (new_id(), datetime.now(UTC), incoming.codec.decode(incoming.payload))
        return Receipt(self.last[0], incoming.correlation_id, "queued")

    async def outcome(self, message_id: str, timeout: float, seq: int = 0) -> None:
        return None


async def serve(port: int) -> None:
    """The ingress of `esb run` with one source, for ever."""
    ingress, nothing = HttpIngress(), None
    source = HttpSource(path="/", auth=InboundAuth(api_key=(KeyClient(key=Secret(KEY), client="bench"),)))
    context = SourceContext(
        route="ingest", intake=Hands(), clock=SystemClock(), workspace=Path(), state=nothing, ingress=ingress,
        log=lambda *_a, **_k: None,
    )  # type: ignore[arg-type]  # fmt: skip  # a source of HTTP keeps no state
    await source.bind(context).start()
    await Listener(ingress, port=port).start()
    core.keep_loaded()
    await asyncio.Event().wait()


if __name__ == "__main__":
    core.run(serve(int(sys.argv[1])))
