"""The playground of ``esb try --serve``: one page on this machine, without scripts.

It listens on loopback only and under loopback names only; a form counts only with the word of this run, and not where a browser says that
a page of another site sends it. What is typed in is evaluated in the sandbox of routes and leaves no trace.
"""

from __future__ import annotations

import asyncio
import secrets
from hmac import compare_digest
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from esb.cli import loopback

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

#: Largest form that is read.
MAX_FORM = 2_000_000
_BEGIN = ("{ lot: body.lot, qty: body.qty, big: body.qty > `100` }", '{ "lot": "0012", "qty": 12.10 }')
_STYLE = """
:root { color-scheme: light dark; } body { font: 15px/1.45 system-ui, sans-serif; margin: 1rem auto; max-width: 75rem; padding: 0 1rem; }
form { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; } label { font-weight: 600; display: block; }
textarea { width: 100%; height: 16rem; box-sizing: border-box; font: 13px/1.4 ui-monospace, monospace; }
pre { border: 1px solid #8886; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.4 ui-monospace, monospace; }
.bad { border-color: #c33; } .row { grid-column: 1 / -1; } @media (max-width: 50rem) { form { grid-template-columns: 1fr; } }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>esb try</title><style nonce="{nonce}">{style}</style></head><body>
<h1>esb try</h1>
<p>A JMESPath expression, a Jinja text with <code>{{{{ … }}}}</code>, the fields of a <code>map</code>, or the name of a file in transforms/.</p>
<form method="post" action="/">
<input type="hidden" name="word" value="{word}">
<div><label for="transform">Transformation</label><textarea id="transform" name="transform" spellcheck="false">{transform}</textarea></div>
<div><label for="data">Payload</label><textarea id="data" name="data" spellcheck="false">{data}</textarea></div>
<div class="row"><label for="format">Format of the payload (empty: JSON)</label><input id="format" name="format" value="{form}" size="12">
<button>Try</button></div>
</form>
{result}
</body></html>
"""


def serve(root: Path, port: int) -> None:
    """Serve the page until Ctrl-C."""
    loopback.serve(app(root), port)


def app(root: Path) -> Starlette:
    """The page over a workspace."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    page = _Playground(root)
    return Starlette(routes=[Route("/", page.show), Route("/", page.run, methods=["POST"])])


class _Playground:
    def __init__(self, root: Path) -> None:
        self._root, self._word = root, secrets.token_urlsafe(24)
        self._turn = asyncio.Lock()  # one at a time: it is for one person

    async def show(self, request: Request) -> Response:
        return loopback.refusal(request) or self._page(*_BEGIN, "", "")

    async def run(self, request: Request) -> Response:
        from esb.cli.attempt import shown
        from esb.testing.attempt import attempt

        if (refusal := loopback.refusal(request)) is not None:
            return refusal
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM:
                return loopback.plain(413, "this is more than 2 MB")
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        if not compare_digest(form.get("word", "").encode(), self._word.encode()):
            return loopback.plain(403, "load the page again: this form is of another run")
        words, data, kind = (form.get(name, "") for name in ("transform", "data", "format"))
        async with self._turn:
            found = await asyncio.to_thread(attempt, self._root, words, data.encode(), form=kind.strip())
        result = f'<pre class="{"good" if found.good else "bad"}" role="status">{escape(shown(found))}</pre>'
        return self._page(words, data, kind, result)

    def _page(self, words: str, data: str, kind: str, result: str) -> Response:
        from starlette.responses import HTMLResponse

        nonce = secrets.token_urlsafe(12)
        text = _PAGE.format(
            nonce=nonce,
            style=_STYLE,
            word=self._word,
            transform=escape(words),
            data=escape(data),
            form=escape(kind),
            result=result,
        )
        policy = f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        return HTMLResponse(text, headers={"content-security-policy": policy, **loopback.SAFE})
