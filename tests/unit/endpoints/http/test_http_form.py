"""Forms with files over real sockets: aiohttp uploads to a route, and a sink's form is taken by another route."""

from __future__ import annotations

from typing import Any

import aiohttp

from esb.endpoints.http import HttpConnection, HttpSink, HttpSource
from esb.formats.form import Form


def test_an_upload_of_a_client_library_is_a_message(bus: Any, run: Any) -> None:
    async def story() -> None:
        async with bus(max_body=5_000) as server:
            await server.serve(HttpSource(path="/in", format=Form(max_part=1_000)))
            url = f"http://127.0.0.1:{server.listener.port}/in"
            data = aiohttp.FormData({"lot": "0012"})
            data.add_field("scan", b"\x00\x01", filename="scan.bin", content_type="application/octet-stream")
            async with aiohttp.ClientSession() as session:
                async with session.post(url, data=data) as answer:
                    assert answer.status == 202, await answer.text()
                large = aiohttp.FormData({"lot": "x" * 1_001, "other": "y"})
                large.add_field("f", b"", filename="f")
                async with session.post(url, data=large) as answer:
                    assert (answer.status, "more than 1000 bytes" in await answer.text()) == (400, True)
                async with session.post(url, json={}) as answer:
                    assert answer.status == 415
            scan = {"filename": "scan.bin", "content_type": "application/octet-stream", "base64": "AAE="}
            assert server.intake.bodies == [{"lot": "0012", "scan": scan}]

    run(story())


def test_what_a_sink_sends_another_route_takes(bus: Any, run: Any, sender: Any, options: Any) -> None:
    async def story() -> None:
        async with bus(max_body=5_000) as server:
            await server.serve(HttpSource(path="/in", format=Form()))
            sink = options.read(HttpSink, {"path": "/in", "format": "form"})
            body = {"lot": "0012", "cert": {"filename": "c.txt", "content_type": "text/plain", "content": "ok"}}
            address = f"http://127.0.0.1:{server.listener.port}"
            async with sender.opened(HttpConnection(base_url=address)) as live:
                assert (await sender.send(sink, live, body)).status == 202
            assert server.intake.bodies == [body]

    run(story())
