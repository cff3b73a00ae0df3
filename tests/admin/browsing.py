"""What the tests of the pages share: a client that keeps its cookie and fills in forms, and a reader of HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urlencode

from tests.hostile.tools import Answer, Client

#: Breaks out of text, attributes and URLs alike.
EVIL = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7*7 }}"
#: Every element that a page may have.
KNOWN = {
    "svg",
    "defs",
    "marker",
    "path",
    "rect",
    "text",
    "g",
    "html",
    "head",
    "meta",
    "title",
    "link",
    "body",
    "a",
    "header",
    "p",
    "span",
    "nav",
    "ul",
    "li",
    "div",
    "form",
    "input",
    "button",
    "main",
    "footer",
    "time",
    "code",
    "label",
    "select",
    "option",
    "search",
    "section",
    "article",
    "h1",
    "h2",
    "h3",
    "dl",
    "dt",
    "dd",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "ins",
    "del",
    "td",
    "bdi",
    "small",
    "pre",
    "ol",
    "strong",
    "em",
    "details",
    "summary",
    "textarea",
    "progress",
    "figure",
    "figcaption",
    "desc",
}


class Browser:
    """One person at the pages."""

    def __init__(self, url: str) -> None:
        self.client = Client(url)
        self.origin = url
        self.cookie = ""

    def get(self, path: str, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.send("GET", path, None, {"Cookie": self.cookie, "Accept": "text/html", **named})

    def post(self, path: str, form: dict[str, str], **headers: str | None) -> Answer:
        named = {
            "Cookie": self.cookie,
            "Origin": self.origin,
            "Content-Type": "application/x-www-form-urlencoded",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        present = {name: value for name, value in named.items() if value is not None}
        return self.client.send("POST", path, urlencode(form).encode(), present)

    def login(self, token: str, **form: str) -> Answer:
        answer = self.post("/login", {"token": token, **form})
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0] or self.cookie
        return answer

    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/").body.decode())
        assert found is not None
        return found[1]

    def act(self, path: str, **form: str) -> Answer:
        """Send a form of ours; the page it leads to."""
        answer = self.post(path, {"csrf": self.csrf(), "reason": "a test", **form})
        assert answer.status == 303, answer.body.decode()
        return self.get(answer.headers["location"])


class Page(HTMLParser):
    """The elements of a page, its links, its text, and whatever a page must never have."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.links: list[str] = []
        self.strange: list[str] = []
        self.ids: list[str] = []
        self._words: list[str] = []
        self.feed(answer.body.decode())
        self.text = re.sub(r"\s+", " ", " ".join(self._words))
        self.lines = {words.strip() for words in self._words}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.strange.append(f"{tag} {name}={value}")
            if name in ("href", "src", "action"):
                self.links.append(value or "")
                if not re.match(r"[/#](?!/)", value or ""):
                    self.strange.append(f"{tag} {name}={value}")
            if name == "id":
                self.ids.append(value or "")
        if tag not in KNOWN:
            self.strange.append(tag)

    def handle_data(self, data: str) -> None:
        self._words.append(data)

    def number(self, term: str) -> int:
        """The number of a tile."""
        found = re.search(rf"\b{term} (\d+)\b", self.text)
        assert found is not None, (term, self.text)
        return int(found[1])
