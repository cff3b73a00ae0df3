"""A stored message as a case of a route test: what arrived, what targets said, what came of it; masked, and proved to pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from msgspec import structs

from esb.config.loader import load_workspace
from esb.config.model import RouteSpec, Workspace
from esb.config.routes import steps_of, targets_of
from esb.errors import ConfigError, EsbError, Invalid
from esb.formats.charset import encoding_of
from esb.formats.json import Json
from esb.runtime.payload import codec_of, decode_body
from esb.testing.clock import VirtualClock
from esb.testing.compare import differing
from esb.testing.masking import Mask
from esb.testing.reader import SuiteEnvironment, read_suite_text
from esb.testing.rehearse import Rehearsed, Trial, rehearse, stub_words
from esb.testing.run import Runner

_UNSET = re.compile(r"the environment variable (\w+) is not set")
#: Headers of a request that are of the transport, of a login, or of one call alone.
_NOT_KEPT = re.compile(
    r"accept.*|user-agent|host|content-length|connection|.*auth.*|.*key|.*token.*|cookie|traceparent|tracestate|x-correlation-id|x-forwarded-.*|forwarded|via|.*signature.*|date"
)
#: What the bus or a source notes in ``meta`` and a test makes anew.
_OWN_META = ("source", "content_type", "params", "query", "path", "client", "traceparent")


class CannotCapture(EsbError):
    """The message cannot be written as a case."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The text of a test file with one case, where it would stand, and what to know about it."""

    text: str
    path: str
    masked: Sequence[str]
    notes: Sequence[str]


def capture(
    root: Path, environ: Mapping[str, str], trial: Trial, *, seed: bytes, names: Sequence[str] = (), name: str = ""
) -> Captured:
    """The case of a message, with everything under ``names`` and under what contracts mark as sensitive masked.

    It is run before it is given: it passes. Raises ConfigError, CannotCapture.
    """
    clock = VirtualClock()
    env = _environment(root, environ, clock)
    workspace, problems = load_workspace(root, environ=SuiteEnvironment(env), clock=clock)
    if workspace is None:
        raise ConfigError(problems)
    spec = workspace.routes.get(trial.envelope.route)
    if spec is None:
        raise CannotCapture(f"route {trial.envelope.route} is not in the workspace", hint="put its file back")
    hidden = _Hidden.of(workspace, spec, trial, Mask({*workspace.marked, *names}, seed))
    first, second = (one for _ in range(2) for one in rehearse(workspace, spec.name, [hidden.trial], clock))
    notes = []
    if first.state != trial.state and trial.state in ("done", "dead"):
        notes.append(
            f"the message ended {trial.state}, the case ends {first.state}: masks, stubs or a change of the route"
        )
    case = {
        "name": name or f"{first.state}: captured {trial.envelope.accepted_at:%Y-%m-%d}",
        **hidden.case(spec, workspace),
    }
    path = spec.position.path.removesuffix(".yaml").removesuffix(".yml") + ".test.yaml"
    failed: Sequence[Any] = ()
    for expect in (_expect(first, second), _expect(first, second, bodies=False)):
        suite = {"route": spec.name, **({"env": env} if env else {}), "cases": [{**case, "expect": expect}]}
        text = to_yaml(suite)
        if not (failed := _run(root, path, text)):
            return Captured(text, path, sorted(workspace.marked | set(names)), notes)
    raise CannotCapture(f"the case does not pass as it was written: {'; '.join(map(str, failed))}")


def _run(root: Path, path: str, text: str) -> Sequence[Any]:
    """What fails in the case of a text."""
    runner = Runner(root)
    suites, problems = read_suite_text(root, path, text, runner.workspace, runner.clock)
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    return [
        failure for suite in suites for one in runner.run([(suite, suite.options.cases[0])]) for failure in one.failures
    ]


def _environment(root: Path, environ: Mapping[str, str], clock: VirtualClock) -> dict[str, str]:
    """What the workspace needs of the environment: addresses of this machine are no part of a test."""
    _, problems = load_workspace(root, environ=SuiteEnvironment(), clock=clock)
    found = {}
    for problem in problems:
        if problem.code == "ESB006" and (unset := _UNSET.search(problem.message)):
            value = environ.get(unset[1], "test")
            scheme, address, _ = value.partition("://")
            found[unset[1]] = f"{scheme}://{unset[1].lower().replace('_', '-')}.example" if address else value
    return found


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A message with its values masked, and its body as a case says it."""

    trial: Trial
    send: Mapping[str, Any]

    @classmethod
    def of(cls, workspace: Workspace, spec: RouteSpec, trial: Trial, mask: Mask) -> _Hidden:
        envelope = trial.envelope
        try:
            body = decode_body(envelope, spec, workspace.registry)
        except Invalid:
            body = None
        for part in (body, envelope.vars, envelope.meta, envelope.headers):
            mask.learn(part)
        if envelope.content == "packed":
            hint = "save its payload as a file, and write the case by hand: `send: { file: … }`"
            raise CannotCapture("the payload holds bytes beside other values, which a case cannot say", hint=hint)
        codec = codec_of(spec, envelope.meta, workspace.registry)
        is_json = envelope.content == "json" or isinstance(codec, Json)
        if is_json and body is not None:
            content = mask.hide(body)
            payload, send = Json().encode(content), {"json": content}
        else:
            content = envelope.payload()
            encoding = encoding_of(codec, content[:9].decode("utf-8", "replace"))
            try:
                text = mask.text(content.decode(encoding))
            except UnicodeDecodeError:
                hint = "save its payload as a file, and write the case by hand: `send: { file: … }`"
                raise CannotCapture(f"the payload is no {encoding.upper()} text", hint=hint) from None
            payload, send = text.encode(encoding), {"body": text}
        masked = structs.replace(
            envelope,
            body=payload,
            blob=None,
            headers=mask.hide(envelope.headers),
            vars=mask.hide(envelope.vars),
            meta=mask.hide(envelope.meta),
        )
        replies = {target: [mask.hide(reply) for reply in said] for target, said in trial.replies.items()}
        return cls(Trial(masked, trial.state, replies), send)

    def case(self, spec: RouteSpec, workspace: Workspace) -> dict[str, Any]:
        """``clock``, ``send`` and ``stubs``."""
        envelope = self.trial.envelope
        headers = {name: str(value) for name, value in envelope.headers.items() if not _NOT_KEPT.fullmatch(name)}
        kind = str(envelope.meta.get("content_type", ""))
        if envelope.content == "json":  # handed on inside of the bus: what its first ancestor was is no word about it
            kind = "application/json" if envelope.meta.get("file_name") else ""
            headers.pop("content-type", None)
        if kind and (
            envelope.content == "json" or not ("json" in self.send and kind.partition(";")[0] == "application/json")
        ):
            headers["content-type"] = kind
        elif "json" in self.send:
            headers.pop("content-type", None)
        meta = {key: value for key, value in envelope.meta.items() if key not in _OWN_META}
        query = envelope.meta.get("query")
        send = {
            **self.send,
            "headers": headers,
            "params": envelope.meta.get("params"),
            "query": urlencode(query, doseq=True) if isinstance(query, Mapping) else "",
            "meta": meta if spec.source.protocol != "http" else None,
        }
        declared = {f"{own}.{name}" for own, one in workspace.systems(spec).items() for name in one.settings.stub}
        told = _told(spec)
        stubs = {
            name: _stubs([one for one in said if name in told or one.get("error")])
            for name, said in self.trial.replies.items()
            if name not in declared and name in spec.targets
        }
        case = {"clock": envelope.accepted_at.isoformat(), "send": {key: value for key, value in send.items() if value}}
        for target in spec.targets:
            if target not in declared:
                stubs.setdefault(target, [{"status": 200}])
        return {**case, "stubs": stubs} if stubs else case


def _told(spec: RouteSpec) -> set[str]:
    """Targets whose answer means something to a route; a folder only says where it put the file."""
    targets = [target for step in steps_of(spec.blocks) for target in targets_of(step)]
    return {target.name for target in targets if target.protocol in ("http", "sql")}


def _stubs(replies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One answer after the other; repeats are counted, the last one is given from then on."""
    words = [stub_words(reply) or {"status": 200} for reply in replies] or [{"status": 200}]
    found: list[dict[str, Any]] = []
    for one in words:
        if found and {**found[-1], "times": 1} == {**one, "times": 1}:
            found[-1]["times"] += 1
        else:
            found.append({**one, "times": 1})
    found[-1].pop("times")
    return found


def _expect(first: Rehearsed, second: Rehearsed, *, bodies: bool = True) -> dict[str, Any]:
    """What came of it, without what differs from run to run."""
    shaky = differing(first.as_item(), second.as_item())
    expect: dict[str, Any] = {"state": first.state}
    if first.error is not None:
        expect["error"] = {"class": first.error["class"], "step": first.error.get("step", "")}
        expect["error"] = {key: value for key, value in expect["error"].items() if value and value != "source"}
    expect["sent"] = _counted(
        [(one, f"/sent/{n}/body") for n, one in enumerate(first.sent) if one["taken"]], "to", shaky, bodies
    )
    expect["published"] = _counted(
        [(one, f"/published/{n}/body") for n, one in enumerate(first.published)], "topic", shaky, bodies
    )
    return {key: value for key, value in expect.items() if value}


def _counted(
    found: Sequence[tuple[Mapping[str, Any], str]], word: str, shaky: Mapping[str, Any], bodies: bool
) -> list[Any]:
    """Deliveries to one target with the same body are counted."""
    counts: Counter[str] = Counter()
    words: dict[str, dict[str, Any]] = {}
    for one, at in found:
        body = _steady(one["body"], at, shaky) if bodies and isinstance(one["body"], (Mapping, list)) else None
        entry = {word: one[word], **({"json": body} if body else {})}
        key = Json().encode(entry).decode()
        counts[key] += 1
        words[key] = entry
    return [{**entry, "times": counts[key]} if counts[key] > 1 else entry for key, entry in words.items()]


def _steady(body: Any, at: str, shaky: Mapping[str, Any]) -> Any:
    """A body without the members that differ from run to run; a list that holds one is left out."""
    if isinstance(body, Mapping):
        return {
            name: inner
            for name, value in body.items()
            if f"{at}/{name}" not in shaky and (inner := _steady(value, f"{at}/{name}", shaky)) is not None
        }
    if isinstance(body, (list, tuple)):
        return None if any(place.startswith(f"{at}/") for place in shaky) else list(body)
    return body


# -- YAML -----------------------------------------------------------------------------------------------------------------
class _Dumper(yaml.SafeDumper):
    """Decimals keep their digits; texts of several lines stand as such; nothing is an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _decimal(dumper: yaml.SafeDumper, value: Decimal) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:float", format(value, "f"))


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value.strip() else None)


_Dumper.add_representer(Decimal, _decimal)
_Dumper.add_representer(str, _text)


def to_yaml(value: Mapping[str, Any]) -> str:
    text: str = yaml.dump(
        dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False
    )
    return text
