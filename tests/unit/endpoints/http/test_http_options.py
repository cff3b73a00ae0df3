"""What is wrong with an HTTP sink or connector is said when the workspace is read."""

from __future__ import annotations

from typing import Any

import pytest

from esb.endpoints.http import HttpConnection, HttpSink
from esb.secret import Secret


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "ESB107"),
        ({"url": "https://a/b", "path": "/c"}, "ESB107"),
        ({"url": "https://{{ body.host }}/x"}, "ESB505"),
        ({"url": "https://erp.{{ body.domain }}/x"}, "ESB505"),
        ({"url": "https://erp{{ body.domain }}"}, "ESB505"),
        ({"url": "https://erp:{{ body.port }}/x"}, "ESB505"),
        ({"url": "{{ body.url }}"}, "ESB505"),
        ({"url": "{{ body.scheme }}://erp/x"}, "ESB505"),
        ({"url": "https://erp@{{ body.host }}/"}, "ESB505"),
        ({"url": "https://user:pw@erp/x"}, "ESB501"),
        ({"url": "ftp://erp/x"}, "ESB103"),
        ({"url": "//erp/x"}, "ESB103"),
        ({"url": "erp/x"}, "ESB103"),
        ({"url": "http://erp:99999/x"}, "ESB103"),
        ({"url": "file:///etc/passwd"}, "ESB103"),
        ({"url": "http://erp\\@evil/x"}, "ESB501"),
        ({"url": "http://erp#@evil/"}, "ESB501"),
        ({"path": "https://erp/x"}, "ESB103"),
        ({"path": "/x#y"}, "ESB103"),
        ({"path": "/x%zz"}, "ESB103"),
        ({"path": "/x/{{ body.a"}, "ESB406"),
        ({"path": "/x/{% if body.a %}y{% endif %}"}, "ESB406"),
        ({"path": 7}, "ESB103"),
        ({"path": "/x", "headers": {"X Y": "a"}}, "ESB103"),
        ({"path": "/x", "headers": {"X\r\nY": "a"}}, "ESB103"),
        ({"path": "/x", "headers": {"Host": "a"}}, "ESB103"),
        ({"path": "/x", "headers": {"Content-Length": "5"}}, "ESB103"),
        ({"path": "/x", "headers": {"X": Secret("s")}}, "ESB502"),
        ({"path": "/x", "expect": [100]}, "ESB106"),
        ({"path": "/x", "etag_path": "/y"}, "ESB102"),
        ({"path": "/x", "csrf": "sap"}, "ESB112"),
        ({"path": "/x", "tls": {}}, "ESB112"),
        ({"path": "/x", "proxy": "http://p"}, "ESB112"),
        ({"url": "http://x/", "proxy": "http://u:p@p"}, "ESB501"),
        ({"path": "/x", "auth": {}}, "ESB107"),
        ({"path": "/x", "auth": {"basic": {"user": "u", "password": "written out"}}}, "ESB501"),
        ({"path": "/x", "auth": {"bearer": {"token": Secret("")}}}, "ESB503"),
        (
            {"path": "/x", "auth": {"oauth2": {"token_url": "login", "client_id": "a", "client_secret": Secret("s")}}},
            "ESB103",
        ),
        ({"path": "/x", "max_response": 10}, "ESB111"),
        ({"path": "/x", "method": "CONNECT"}, "ESB105"),
    ],
)
def test_a_sink_that_cannot_work_is_an_error_at_load(value: Any, code: str, options: Any) -> None:
    _, problems = options.try_read(HttpSink, value)
    assert [problem[:6] for problem in problems] == [code]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "ESB102"),
        ({"base_url": "erp.example.com"}, "ESB103"),
        ({"base_url": "https://erp.example.com:70000"}, "ESB103"),
        ({"base_url": "https://erp.example.com?x=1"}, "ESB103"),
        ({"base_url": "https://erp.example.com/{{ body.a }}"}, "ESB103"),
        ({"base_url": "https://u:p@erp.example.com"}, "ESB501"),
        ({"base_url": "https://erp", "csrf_path": "x y"}, "ESB103"),
        ({"base_url": "https://erp", "headers": {"Connection": "close"}}, "ESB103"),
        ({"base_url": "https://erp", "tls": {"key": "a.key"}}, "ESB102"),
        ({"base_url": "https://erp", "tls": {"verify": False}}, "ESB101"),
        ({"base_url": "https://erp", "inbound": {"api_key": {"key": Secret("")}}}, "ESB503"),
    ],
)
def test_a_connector_that_cannot_work_is_an_error_at_load(value: Any, code: str, options: Any) -> None:
    _, problems = options.try_read(HttpConnection, value)
    assert [problem[:6] for problem in problems] == [code]


def test_a_connector_says_what_it_shows_when_it_calls(options: Any) -> None:
    inbound = {"api_key": {"key": Secret("k"), "client": "qms"}}
    connection = options.read(HttpConnection, {"base_url": "https://qms.example.com/", "inbound": inbound})
    assert connection.inbound.api_key[0].client == "qms"


def test_the_names_that_an_address_reads_are_known(options: Any) -> None:
    from esb.endpoints._http.urls import pieces

    found = [(offset, text) for offset, text, is_template in pieces("/a/{{ body['}}'] }}/{{ b }}") if is_template]
    assert found == [(3, "{{ body['}}'] }}"), (20, "{{ b }}")]


def test_fixed_text_of_an_address_may_hold_blanks_and_odata_marks(options: Any) -> None:
    sink = options.read(HttpSink, {"path": "lots('{{ body.a }}')?$filter=Plant eq 'P10'&x=%20"})
    assert sink.path.render({"body": {"a": "1'"}}) == "/lots('1%27')?$filter=Plant%20eq%20'P10'&x=%20"


def test_a_named_format_takes_what_senders_call_it() -> None:
    from esb.endpoints._http.media import fits
    from esb.formats.fixed import Fixed
    from esb.formats.idoc import Idoc

    assert fits(Fixed(), "text/plain; charset=utf-8")
    assert fits(Idoc(), "application/xml")
    assert not fits(Fixed(), "application/json")
