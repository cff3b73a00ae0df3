"""Alerts of esb.yaml become small routes from their topic to their target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esb.config.loader import load_workspace
from esb.config.routes import targets_of
from esb.message import Message

SETTINGS = """
bus: plant
policy: { require: [owner, key] }
alerts:
  oncall: { http: { url: "http://127.0.0.1:9/alerts" } }
"""


def test_an_alert_is_a_route_with_retries_and_dedupe_and_no_policy_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "esb.yaml").write_text(SETTINGS)
    workspace, problems = load_workspace(tmp_path)
    assert problems == []
    assert workspace is not None
    route = workspace.routes["alert-oncall"]
    assert (route.source.options.topic, route.targets) == ("alert.oncall", ("http",))
    assert route.dedupe is not None
    assert route.steps.nodes[0].retry is not None


def test_a_fault_in_an_alert_is_reported_in_esb_yaml(tmp_path: Path) -> None:
    (tmp_path / "esb.yaml").write_text(SETTINGS.replace("url:", "urll:"))
    _, problems = load_workspace(tmp_path)
    assert [(p.code, p.position.path, p.position.line) for p in problems] == [("ESB101", "esb.yaml", 5)]


def test_a_mail_needs_its_server_and_a_protocol_has_to_be_one(tmp_path: Path) -> None:
    mail = "smtp: { from: esb@b.example, to: a@b.example, subject: s, text: t }"
    (tmp_path / "esb.yaml").write_text(f"alerts:\n  desk: {{ {mail} }}\n  pager: {{ pigeon: {{ to: loft }} }}\n")
    _, problems = load_workspace(tmp_path)
    assert [(p.code, p.position.line) for p in problems] == [("ESB102", 2), ("ESB204", 3)]


MAIL = "connector: mail\ntype: smtp\nhost: mail.b.example\n"


def test_a_mail_needs_no_words_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "connectors").mkdir()
    (tmp_path / "connectors" / "mail.yaml").write_text(MAIL)
    (tmp_path / "esb.yaml").write_text(
        "alerts:\n  desk: { smtp: { connector: mail, to: [a@b.example, c@b.example] } }\n"
    )
    workspace, problems = load_workspace(tmp_path)
    assert (problems, workspace is not None) == ([], True)
    assert workspace is not None
    mail: Any = targets_of(workspace.routes["alert-desk"].steps.nodes[0])[0].sink
    assert (mail.from_, mail.to) == ("a@b.example", ("a@b.example", "c@b.example"))
    about = {
        "route": "lot-hold",
        "text": "the ERP knows no lot 0012",
        "key": "0012",
        "step": "",
        "track": {"lot": "0012"},
    }
    scope = Message({"alert": "desk", "state": "firing", **about}).scope({})
    assert mail.subject.render(scope) == "[firing] desk: lot-hold"
    lines = ["the ERP knows no lot 0012", "", "key: 0012", "route: lot-hold", 'track: {"lot":"0012"}']
    assert mail.text.render(scope).splitlines() == lines
    assert mail.subject.render(Message({"alert": "desk", "route": "r"}).scope({})) == "[firing] desk: r"


def test_a_mail_says_what_it_is_told_to_say(tmp_path: Path) -> None:
    (tmp_path / "connectors").mkdir()
    (tmp_path / "connectors" / "mail.yaml").write_text(MAIL)
    words = "from: esb@b.example, to: a@b.example, subject: 'S {{ body.route }}', text: 'T {{ body.text }}'"
    (tmp_path / "esb.yaml").write_text(f"alerts:\n  desk: {{ smtp: {{ connector: mail, {words} }} }}\n")
    workspace, problems = load_workspace(tmp_path)
    assert (problems, workspace is not None) == ([], True)
    assert workspace is not None
    mail: Any = targets_of(workspace.routes["alert-desk"].steps.nodes[0])[0].sink
    scope = Message({"route": "r", "text": "x"}).scope({})
    assert (mail.from_, mail.subject.render(scope), mail.text.render(scope)) == ("esb@b.example", "S r", "T x")


def test_a_missing_secret_is_a_warning_for_authors_and_an_error_for_the_bus(tmp_path: Path) -> None:
    (tmp_path / "connectors").mkdir()
    text = "connector: erp\ntype: http\nbase_url: http://127.0.0.1:9\nauth: { bearer: '${secret:erp-token}' }\n"
    (tmp_path / "connectors" / "erp.yaml").write_text(text)
    workspace, problems = load_workspace(tmp_path, environ={}, need_secrets=False)
    assert workspace is not None
    assert [(p.code, p.severity) for p in problems] == [("ESB503", "warning")]
    workspace, problems = load_workspace(tmp_path, environ={})
    assert workspace is None
    assert [(p.code, p.severity) for p in problems] == [("ESB503", "error")]
