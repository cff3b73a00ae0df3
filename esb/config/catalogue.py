"""The components and their options as plain data, and as the pages of the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from esb.config.alert_rules import AlertOptions
from esb.config.codes import codes_markdown
from esb.config.kpis import KpiDocument
from esb.config.model import ConnectorSettings, Settings
from esb.config.routes import RouteOptions
from esb.config.sites import SiteOptions, TemplateOptions
from esb.config.steps import Modifiers
from esb.language.workspace import WorkspaceLanguage
from esb.registry import FAMILIES, Component, Family, Registry
from esb.spec import OptionSpec, kind_of, options_of
from esb.spec.defaults import shown

_PAGES: Mapping[Family, tuple[str, str, str]] = {
    "step": ("steps.md", "Steps", "What a route does with a message. One list item is one step."),
    "source": ("sources.md", "Sources", "Where messages come from: the one key of `from`."),
    "sink": ("sinks.md", "Sinks", "Where messages go to: the key of an inline target, or an operation of a connector."),
    "connection": ("connections.md", "Connections", "What a connector of a `type` holds, besides the common settings."),
    "format": ("formats.md", "Formats", "How bytes become a body and back."),
}


_ALERTS = """\
Each entry of `alerts` is a name with one target (`http`, `smtp` with a connector, `webhook`, or any other sink), and perhaps conditions. It
becomes a route `alert-NAME` with a queue and retries of its own; dead letters reach it by `alert:` of a route, a criticality or
`on_error`. `webhook` posts `{"text": …}`, as chat programs take it: `webhook: https://chat.plant.example/hook`, or `{ url, text }`.
`smtp: { connector: mail, to: desk@plant.example }` sends a mail with what the alert says; `subject` and `text` give it other words, `from` another sender than its first reader.

```yaml
alerts:
  quality-oncall:
    webhook: "https://chat.plant.example/hook/quality"
    when:
      - { name: receipts have stopped, silence: 2h, route: goods-receipts, hours: "06:00-22:00" }
      - { lane_age: 10m }
      - { dead: 1, route: [stock-decisions] }
      - { overdue: hold-propagation }
```

What holds for one rule is one alert, whatever it lists: the first notice at once, what joins after `window`, a reminder after `repeat`,
and one notice when it is over (`state: resolved`). A restart tells nothing twice. `esb alerts` shows what holds now."""

_KPIS = """\
A file in kpis/ holds one or more documents that begin with `kpi:`; the field `kpis` of a route holds the same without `kpi`,
by name. An indicator is a pair (`start`, `end`), a counter (`count`, perhaps `of` something) or a gauge (`gauge`).

```yaml
kpi: holds-in-time
description: Holds that the ERP has within five seconds
start: { route: stock-decisions, if: body.kind == 'HOLD' }
end: { route: decision-effects, if: "body.kind == 'HOLD' && body.system == 'ERP'" }
by: decision
within: 5s
weigh: body.quantity
```

`esb kpi ls` shows the numbers, `esb kpi show NAME` what is open, `/metrics` has them as `esb_kpi_…`. A number is kept in the
transaction of the message that it is about: no restart, retry, duplicate or purge changes it. A replay counts as `replayed`
and may end a pair; it begins none and is counted nowhere else. An expression that fails on a message is logged as `kpi.fault`
and never fails the message: the event is left out, or weighs 0 where the weight cannot be known."""

# -- data -----------------------------------------------------------------------------------------------------------------


def catalog(registry: Registry) -> list[dict[str, Any]]:
    """Every component with its options: family, name, pattern, summary, doc, options; plain data in a fixed order."""
    found: list[dict[str, Any]] = []
    for family in FAMILIES:
        names = registry.family(family)
        found.extend(_component(names[name]) for name in sorted(names))
    return found


def documents() -> list[dict[str, Any]]:
    """The documents of a workspace in the form of :func:`catalog`, of the family ``document``."""
    kinds = {"bus": Settings, "route": RouteOptions, "site": SiteOptions, "template": TemplateOptions}
    found = []
    for name, cls in kinds.items():
        doc = " ".join((cls.__doc__ or "").split())
        options = [option_data(spec) for spec in options_of(cls)]
        found.append(
            {"family": "document", "name": name, "pattern": "", "summary": doc, "doc": doc, "options": options}
        )
    return found


def _component(component: Component) -> dict[str, Any]:
    return {
        "family": component.family,
        "name": component.name,
        "pattern": component.pattern,
        "summary": component.summary,
        "doc": component.doc,
        "options": [option_data(spec) for spec in options_of(component.cls)],
    }


def option_data(spec: OptionSpec) -> dict[str, Any]:
    """One option as plain data; ``options`` are those of a nested mapping."""
    kind = kind_of(spec.annotation)
    found = {
        "name": spec.name,
        "type": kind.label,
        "required": spec.required,
        "default": None if spec.required else shown(spec.default, spec),
        "doc": spec.doc,
        "example": spec.example,
        "shorthand": spec.shorthand,
    }
    nested = [option_data(inner) for cls in option_classes(spec.annotation) for inner in options_of(cls)]
    if nested:
        found["options"] = nested
    return found


# -- pages ----------------------------------------------------------------------------------------------------------------


def reference_markdown(registry: Registry) -> dict[str, str]:
    """The reference by file name; the same input always gives the same text."""
    pages = {
        "routes.md": options_page(
            "Routes",
            "A file in routes/ holds one or more documents that begin with `route:`.",
            [
                ("Fields of a route", "", options_of(RouteOptions)),
                ("Beside every step", "These keys may stand beside the name of a step.", options_of(Modifiers)),
            ],
        ),
        "kpis.md": options_page("KPIs", _KPIS, [("Fields of an indicator", "", options_of(KpiDocument))]),
        "sites.md": options_page(
            "Templates and sites",
            "Documents in routes/ that begin with `template:` or `site:`; see [Bring up a second plant](../second-plant.md).",
            [
                ("A template", "", options_of(TemplateOptions)),
                ("A site", "In routes/sites/<SITE>.yaml.", options_of(SiteOptions)),
            ],
        ),
        "settings.md": options_page(
            "Settings",
            "The file esb.yaml.",
            [("esb.yaml", "", options_of(Settings)), ("Alerts", _ALERTS, options_of(AlertOptions))],
        ),
        "connectors.md": options_page(
            "Connectors",
            "A file connectors/<name>.yaml: `connector:` its name, `type:` its protocol, the options of that "
            "[connection](connections.md), `operations:` by name with the options of that [sink](sinks.md) and "
            "`examples:`, a list or a mapping of names, of what is sent and answered in any shape, which `esb docs build` shows; and these. With "
            "`params:`, a JSON Schema by parameter, it is made once for every [site](sites.md) that fills them in.",
            [("Common settings", "", options_of(ConnectorSettings))],
        ),
    }
    for family in FAMILIES:
        name, title, text = _PAGES[family]
        pages[name] = _family_page(registry, family, title, text)
    pages["codes.md"] = codes_markdown()
    pages["functions.md"] = functions_markdown()
    return dict(sorted(pages.items()))


def functions_markdown() -> str:
    """The functions of expressions and templates, with an example each."""
    lines = [
        "# Functions",
        "",
        "In expressions, and in templates as `f(x)` and `x | f`. Those marked * are JMESPath's own,",
    ]
    lines += ["which templates do not have.", "", "| function | what | example |", "|---|---|---|"]
    for _, function in sorted(WorkspaceLanguage().functions.items()):
        mark = " *" if function.standard else ""
        example = f"{_code(function.example)} gives {_code(function.gives)}"
        lines.append(f"| {_code(function.signature)}{mark} | {_cell(function.doc)} | {example} |")
    return "\n".join(lines) + "\n"


def options_page(title: str, text: str, sections: Iterable[tuple[str, str, tuple[OptionSpec, ...]]]) -> str:
    """A page of the reference: tables of options, each below its heading and words."""
    lines = [f"# {title}", "", text]
    for heading, words, specs in sections:
        lines += ["", f"## {heading}", ""]
        if words:
            lines += [words, ""]
        lines += _table(specs)
        lines += _nested(specs, "###")
    return "\n".join(lines) + "\n"


def _family_page(registry: Registry, family: Family, title: str, text: str) -> str:
    names = registry.family(family)
    lines = [f"# {title}", "", text]
    for name in sorted(names):
        component = names[name]
        lines += ["", f"## `{name}`", "", _prose(component.doc)]
        if component.pattern:
            lines += ["", f"Pattern: *{component.pattern}*."]
        specs = options_of(component.cls)
        if specs:
            lines += ["", *_table(specs), *_nested(specs, "###")]
    return "\n".join(lines) + "\n"


def _prose(doc: str) -> str:
    """A docstring as a paragraph or several, without the indentation of the source."""
    return "\n".join(line.strip() for line in doc.splitlines()).replace("``", "`")


def _table(specs: Iterable[OptionSpec]) -> list[str]:
    lines = ["| option | what | default |", "|---|---|---|"]
    for spec in specs:
        words = spec.doc.rstrip(".") + "."
        kind = kind_of(spec.annotation).label
        example = f" For example {_code(_example(spec.example))}." if spec.example is not None else ""
        lines.append(
            f"| `{spec.name}` | {_cell(words)} {_cell(kind[0].upper() + kind[1:])}.{example} | {_default(spec)} |"
        )
    return lines


def _default(spec: OptionSpec) -> str:
    if spec.required:
        return "required"
    default = shown(spec.default, spec)
    if default is None or default == "":
        return ""
    return _code(_example(default))


def _example(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_example(item) for item in value) + "]"
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    """Text as code, also where it holds backticks itself."""
    cell = _cell(text)
    return f"`` {cell} ``" if "`" in cell else f"`{cell}`"


def _nested(specs: Iterable[OptionSpec], heading: str) -> list[str]:
    """Tables of the options that are mappings of options themselves, also inside lists and mappings."""
    lines: list[str] = []
    for spec in specs:
        for cls in option_classes(spec.annotation):
            inner = options_of(cls)
            lines += ["", f"{heading} `{spec.name}`", "", *_table(inner)]
            if len(heading) < 5:
                lines += _nested(inner, heading + "#")
    return lines


def option_classes(annotation: Any) -> list[type]:
    """The option classes that a value of an annotation is made of."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return option_classes(args[0])
    if origin is not None and origin is not Literal:
        return [cls for arg in args for cls in option_classes(arg)]
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and options_of(annotation):
        return [annotation]
    return []
