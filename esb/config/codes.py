"""What every diagnostic code means, for ``esb explain`` and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Code:
    """A code in words: ``title`` in a line, ``text`` with the reason and what to do."""

    title: str
    text: str


FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "0": "YAML",
        "1": "Shape of a document",
        "2": "Steps and endpoints",
        "3": "References",
        "4": "Expressions and templates",
        "5": "Security",
        "6": "Reliability and policy",
        "8": "Settings and start",
    }
)

_YAML = {
    "ESB001": Code(
        "the file is not YAML",
        "Something in the text cannot be read: a quote or bracket that is not closed, a key without its colon, a line whose "
        "indentation fits no line above. The place is where it has to be put right, which may be above the line that a parser "
        "stumbles over. Nothing else in the file is checked until it can be read.",
    ),
    "ESB002": Code(
        "a tab in the indentation",
        "YAML allows spaces only. Set the editor to insert two spaces for a tab.",
    ),
    "ESB003": Code(
        "a key stands twice in a mapping",
        "Other readers of YAML silently take the last one. Here it is an error, because one of the two lines would do nothing.",
    ),
    "ESB004": Code(
        "a file cannot be read",
        "Files of a workspace are UTF-8 and at most 4 MB; schemas, tables and routes alike.",
    ),
    "ESB005": Code(
        "too deep, or aliases that grow without bound",
        "A document may be nested 60 levels deep, and aliases (`*name`) may add 50 000 values to it. An alias must not stand "
        "inside what it names.",
    ),
    "ESB006": Code(
        "an environment variable is not set",
        "`${NAME}` reads the environment of the process. Set the variable, or give a default: `${NAME:-value}`. For the "
        "characters `${` themselves write `$${`. `esb lint --no-env` does not ask the environment.",
    ),
    "ESB007": Code(
        "a YAML tag",
        "Tags such as `!!int` or `!!python/object` are refused: what a value means is decided by the option that it is for. "
        "For a text that looks like a number use quotes.",
    ),
    "ESB008": Code(
        "a key is not a text",
        "Keys are text: put numbers, `true` and `null` in quotes. A value that begins with `{{` needs quotes, too, because YAML "
        "reads the braces as a mapping.",
    ),
    "ESB009": Code(
        "a file that nobody reads because of its name",
        "Names end in small letters: `.yaml` or `.yml`, `.json` (schemas), `.jmes`, `.j2` and `.csv` (transforms), `.py` "
        "(connectors), and the settings of a bus are in `esb.yaml`. Rename the file, or move it out of the folder.",
    ),
}

_SHAPE = {
    "ESB101": Code(
        "an unknown key",
        "The key is not known at this place. The hint names the nearest one, or what other tools' word is called here. "
        "`esb catalog` lists every option.",
    ),
    "ESB102": Code("something is missing", "An option or part without which the rest means nothing is not there."),
    "ESB103": Code(
        "a value of the wrong type",
        "Values never change their type: `yes` is a text, `0012` is a text, `12` is a number. Put a number in quotes where a "
        "text is wanted.",
    ),
    "ESB104": Code(
        "a duration, backoff or rate without its unit",
        "Write `5s`, `250ms`, `1h30m`, `7d`; a backoff is `2s..5m`, a rate is `50/s`.",
    ),
    "ESB105": Code("not one of the known words", "The option takes one of a few words; the hint names the nearest."),
    "ESB106": Code("a number out of range", "The message names the smallest and the largest value."),
    "ESB107": Code(
        "exactly one of several",
        "Of these keys or parts exactly one may be given, for example one source in `from`, or one of `url` and `path`.",
    ),
    "ESB108": Code(
        "an unknown kind of document",
        "The first key of a document says what it is: `route:` in routes/, `connector:` in connectors/, settings in esb.yaml. "
        "Tests stand in <name>.test.yaml beside their route.",
    ),
    "ESB109": Code(
        "the same name or place twice",
        "Names of routes, connectors, steps and contracts are unique, and so is a method and path of the HTTP listener. Both "
        "places are shown.",
    ),
    "ESB110": Code(
        "not a name",
        "Routes, connectors, branches and topics are named in small letters, digits and `-`, so that they can stand in "
        "addresses, metrics and file names.",
    ),
    "ESB111": Code("a size without its unit", "Write `500KB`, `10MB` or `1GB` (powers of 1000)."),
    "ESB112": Code(
        "a key at the wrong level",
        "The key exists, but one level further out or in; mostly the indentation slipped. The hint names the column.",
    ),
    "ESB114": Code(
        "an empty file",
        "A file in routes/ or connectors/ without a document, or with comments only, is taken for one that is half saved, so "
        "that no reload removes routes by accident. Delete the file to remove its routes.",
    ),
    "ESB115": Code(
        "a key that has no effect here",
        "The key means something beside other steps. `on_timeout` goes beside a `to` that sends to a system.",
    ),
}

_STEPS = {
    "ESB201": Code(
        "a step that does nothing", "The list item, branch or `steps` is empty, or has only keys that go beside a step."
    ),
    "ESB202": Code(
        "two steps in one list item", "One list item is one step. Begin the second with `- ` in a line of its own."
    ),
    "ESB203": Code(
        "an unknown step",
        "The hint names what another tool's word is called here, or the nearest step. `esb catalog step` lists all of them.",
    ),
    "ESB204": Code("an unknown endpoint", "`esb catalog source`, `sink` and `connection` list what there is."),
    "ESB205": Code("an unknown format", "`esb catalog format` lists what there is."),
}

_REFERENCES = {
    "ESB301": Code(
        "a connector or operation that does not exist",
        "A target is `connector.operation`: the file connectors/<connector>.yaml and a name under its `operations`.",
    ),
    "ESB302": Code(
        "a contract that does not exist", "Contracts are files schemas/<entity>.v<major>.json, named without `.json`."
    ),
    "ESB303": Code(
        "a transform file that does not exist", "Transform files are transforms/*.jmes and transforms/*.j2."
    ),
    "ESB304": Code(
        "a table that does not exist, or has faults",
        "Tables are transforms/tables/<name>.csv, with a header; the first column is the key. Files of one name in several folders are called with it: P20/defect-codes.",
    ),
    "ESB305": Code(
        "a topic that nobody publishes, or nobody reads",
        "A warning: messages to a topic without readers are gone, and a route that reads an unpublished topic never runs.",
    ),
    "ESB306": Code("a route that does not exist", "`to: { route: name }` hands over to a route of this workspace."),
    "ESB307": Code("a contract with faults", "The file is no valid JSON, or no valid JSON Schema."),
    "ESB308": Code(
        "a remote `$ref`",
        "Nothing is ever fetched. Put the other schema into schemas/ and refer to it by file name or `$id`.",
    ),
    "ESB309": Code("a criticality that esb.yaml does not have", "Declare the preset under `criticality:` in esb.yaml."),
    "ESB310": Code("an alert that esb.yaml does not have", "Declare it under `alerts:` in esb.yaml."),
    "ESB311": Code(
        "a route that feeds itself",
        "A warning: it reads the topic that it publishes to, or hands over to itself. Without a condition that ends it, a "
        "message goes round for ever.",
    ),
    "ESB312": Code(
        "a function that does not exist",
        "`python` calls a function of the workspace: `weights.net` is `def net(…)` or `async def net(…)` in connectors/weights.py.",
    ),
    "ESB313": Code(
        "a template that does not exist",
        "`use` of a site names a `template:` document below routes/.",
    ),
    "ESB314": Code(
        "a parameter that is not declared",
        "The template or connector has no parameter of that name under `params:`. The hint names the nearest one.",
    ),
    "ESB315": Code(
        "a parameter is missing",
        "A parameter without `default` must be given by every site that uses the template or connector: under `params` of its "
        "`use` entry, or under `connectors:` of the site. A route of no site can use a connector only where every parameter "
        "has a default.",
    ),
    "ESB316": Code(
        "a parameter does not fit its JSON Schema",
        "What the site fills in breaks the schema that `params:` of the template or connector gives. Both places are named.",
    ),
    "ESB317": Code(
        "a parameter that cannot stand there",
        "`{{ params.x }}` is filled in once, when the files are read. It stands by itself (then it keeps its type) or within a "
        "text; it cannot be mixed with what only a message knows in one `{{ … }}`, nor be asked in `{% … %}`, and it must be "
        "declared under `params:`. An optional parameter without a value leaves out the key whose whole value it is, but "
        "cannot stand within a text.",
    ),
    "ESB318": Code(
        "an override that overrides nothing",
        "`overrides` of a site goes by the names that routes have in the template; the name itself cannot be overridden.",
    ),
    "ESB319": Code(
        "a template or connector that no site uses",
        "What a template says is checked once for every site that uses it, with the values of that site. Without one its "
        "routes do not exist, and only its shape is checked.",
    ),
    "ESB321": Code(
        "a contract that is deprecated, or over",
        "A warning: its schema says `x-esb-deprecated` or `x-esb-sunset`. Answers of routes that take it carry `Deprecation` and `Sunset` headers. "
        "Move to `x-esb-successor`, or to its next version.",
    ),
    "ESB320": Code(
        "a test that names something that is not there",
        "Routes, targets and files that a route test (`*.test.yaml`) names must exist. A target is named as the route names it: "
        "`connector.operation`, or the protocol of an endpoint that stands in the route itself. Files are named from the folder "
        "of the test.",
    ),
}

_EXPRESSIONS = {
    "ESB401": Code(
        "an expression that cannot be read",
        "Values are JMESPath: fields `body.lot.id`, lists `body.lines[0]`, `body.lines[?qty > `5`]`, literal text `'R'`, "
        "literal numbers `` `5` ``.",
    ),
    "ESB402": Code(
        "a name that cannot exist",
        "Names begin with `body`, `headers`, `vars`, `meta` or `site`. Literal text stands in single quotes. "
        "Names of headers are in small letters. `site` has only what esb.yaml gives; a name that resembles none of its own is a "
        "warning, as some plants may have it, and an error where a folder is named by it, as the source cannot start then. "
        "What `split`, `fanout` and `aggregate` make begins without `meta.reply`: take the answer along with `into: vars.x`. "
        "Fields of `body` are held against what is known at that place of the route: the contract of the source (of a topic: what its publishers know), of the last "
        "`validate`, or what the last `map` makes. Where a contract leaves room for more (`additionalProperties`), a name that "
        "is nearly one of its own is a warning. After `parse`, `python`, a Jinja transform and the like nothing is known.",
    ),
    "ESB403": Code(
        "an unknown function", "The hint names the nearest function; the reference lists all with examples."
    ),
    "ESB404": Code("wrong arguments of a function", "The hint shows how the function is written."),
    "ESB405": Code(
        "a variable that nobody sets",
        "`vars.x` is only there after a step of the same route has set it (`set`, `lookup`, `into`). Variables do not travel "
        "over topics or to other routes. A variable that is set further down only is null here.",
    ),
    "ESB406": Code(
        "a template that cannot be read",
        "Texts are Jinja: `{{ body.lot.id }}`, `{% for line in body.lines %}…{% endfor %}`. What could run code is refused.",
    ),
    "ESB409": Code(
        "a mapping that its contract always refuses",
        "What the `map` or `.jmes` file before a `validate` makes lacks a field that the contract requires, has one that it refuses, or is of "
        "another kind: such messages would all be dead letters.",
    ),
    "ESB408": Code(
        "values that cannot go together",
        "A warning: by its contract one side of a comparison is a text and the other a number, a literal is none of the values "
        "that the contract allows, or a function for numbers gets something else. Say what is meant, or correct the contract.",
    ),
    "ESB407": Code(
        "an unknown name or filter in a template", "Names are those of expressions; filters are the functions."
    ),
}

_SECURITY = {
    "ESB501": Code(
        "a secret is written in a file",
        "Secrets do not belong into files that are copied and reviewed. Write `${secret:name}` and set ESB_SECRET_NAME, a file "
        "of that name in the secrets folder, or a systemd credential. The value is hidden in every message.",
    ),
    "ESB502": Code(
        "a secret where none may stand",
        "Only options for passwords, tokens and keys take a secret; everywhere else it could be logged, stored or shown.",
    ),
    "ESB503": Code(
        "a secret is not set",
        "Looked for in the environment (ESB_SECRET_NAME), the secrets folder (`secrets:` in esb.yaml) and systemd's "
        "credentials. `esb lint --no-env` does not ask for secrets. "
        "A warning for who writes routes, an error at the start: `esb run` does not start without it.",
    ),
    "ESB504": Code(
        "a path leaves its folder", "Files that routes refer to lie inside the workspace; links out of it are refused."
    ),
    "ESB505": Code(
        "an address built from a message",
        "Host and scheme of a target come from the configuration only; values of messages may stand in path and query.",
    ),
    "ESB507": Code(
        "a value is written into SQL",
        "Text of a message inside of a statement could end it and begin another one. Values are bound: `:lot` in the statement, "
        "`values: { lot: body.lot }` beside it.",
    ),
    "ESB506": Code(
        "a file that everybody may write",
        "What a workspace says is done with the rights of the bus, so none of its files and folders may be writable by"
        " everybody.",
    ),
}

_RELIABILITY = {
    "ESB601": Code(
        "a retry may take effect twice",
        "A warning (an error under `policy.forbid: [unsafe_retry]`): a POST without idempotency key is sent again when its answer is "
        "lost. Leave `idempotency_key` on, or let the target be asked first (`verify` in the operation, `on_timeout` beside the step).",
    ),
    "ESB602": Code(
        "a route lacks what the policy asks for",
        "`policy.require` in esb.yaml names what every route must have: `owner criticality key dedupe description track within version`, "
        "`contract` (of its source) or `dead_letter` (an entry of `on_error` that names a group). A `key` or `dedupe` that a `split` gives to "
        "its items counts.",
    ),
    "ESB603": Code(
        "plain http to another machine",
        "`policy.forbid: [plain_http_out]` in esb.yaml allows only https off this machine.",
    ),
    "ESB606": Code(
        "a watermark that misses late commits",
        "A transaction that began earlier may be committed after a greater value was read; its rows would never be seen. `overlap` "
        "reads again what lies so far back (longer than the longest transaction; rows that are known are not taken twice), "
        "`bound: snapshot` waits for open transactions (PostgreSQL, a column of type `xid8`), and `mark` or `outbox` need neither.",
    ),
    "ESB607": Code(
        "a route that matters and nobody owns",
        "A warning: the route names a criticality, so somebody will be called; `owner` says who answers for it.",
    ),
    "ESB608": Code(
        "dead letters that nobody hears of",
        "A warning: the route names a criticality, but neither that nor the route has an `alert`, and no `on_error` sends its dead "
        "letters anywhere. They are kept and shown by `esb dlq`, but nobody is told.",
    ),
    "ESB609": Code(
        "what the policy forbids",
        "`policy.forbid` in esb.yaml: `open_ingress` (an `http` source without `auth`), `inline_endpoints` (addresses in routes instead "
        "of connectors), `drop_messages` (`drop_after`), `continue_on_error`, `unsafe_retry` (ESB601) and `plain_http_out` (ESB603).",
    ),
    "ESB610": Code(
        "an allowance without a reason",
        "`# esb: allow CODE reason` at the end of a line, or in the line above it, accepts a warning there. The reason is what the "
        "next reader needs; without one the warning stays. Errors cannot be allowed.",
    ),
    "ESB611": Code(
        "files that cannot be read",
        "A warning: the source lets in files larger than `limits.in_memory`, and something of the route needs them as a whole: `key`, `dedupe`, "
        "`track` or a `contract` that look into the body, or a step that does not work piece by piece. Such a file is dead at once. The hint says "
        "what to write instead; or lower `max_size`.",
    ),
    "ESB612": Code(
        "endpoints that only their place tells apart",
        "A warning: a block sends to several endpoints of one kind that stand in the route and have no `name`. What a message has delivered is "
        "kept under the step, which is `to:http`, `to:http#2`, … then. Once one is put before another, or taken out, a message that is retried on the new version "
        "takes the delivery to the one for the delivery to the other: it is left out, or sent again under another id.",
    ),
    "ESB620": Code(
        "a field of another system is written",
        "`ownership` in esb.yaml says which system a field belongs to, `writes` of a connector which fields its operations change. A route that "
        "brings changes of one system may write its fields everywhere, and no others. Let the owner make the change and send it on, or name "
        "the other system under `also`.",
    ),
    "ESB621": Code(
        "a field that goes both ways",
        "A warning: two routes write the same field from A to B and from B to A, so that a change may come back as an echo. What comes in with "
        "`X-ESB-Origin: A` is not sent to A again; a system that does not send that header back needs a `filter` in its route.",
    ),
    "ESB604": Code(
        "a reaction to an outage that never happens",
        "A warning: `when_down: { reject: … }` refuses messages while the target is known to be down, and only a connector with "
        "`circuit` can be known to be down. Give the connector a `circuit`, or take `when_down` out. And `drop_after` longer than "
        "the `within` of the retries, or where they are not for `unavailable`: the message is dead before it is dropped.",
    ),
    "ESB605": Code(
        "a transport that promises less",
        "A warning: AMQP confirms what the broker has on disk. The other transports that a connector of `type: amqp` can use "
        "confirm nothing; the message says what may get lost or come twice, or which option has no effect with them. Use `amqp://` where that matters.",
    ),
}

_SETTINGS = {
    "ESB801": Code(
        "a route cannot start",
        "A source could not be opened; the message says why. A route that runs already goes on as it was, steps and source.",
    ),
    "ESB802": Code(
        "a module of the workspace cannot be loaded", "connectors/*.py raised an error while it was imported."
    ),
    "ESB803": Code("there is no such folder", "Give the folder that holds esb.yaml and routes/."),
    "ESB804": Code("an unknown time zone", "Time zones are names such as `Europe/Vienna` or `UTC`."),
    "ESB805": Code(
        "an unknown locale", "Locales are names such as `de-DE` or `en-US`, or `c` for numbers as programs write them."
    ),
    "ESB806": Code(
        "a certificate that is not there",
        "A warning: `tls` of a listener in esb.yaml names a file that this machine does not have. The bus does not start without it; where it "
        "lies on the machine of the bus only, allow it with the reason.",
    ),
}

CODES: Mapping[str, Code] = MappingProxyType(
    {**_YAML, **_SHAPE, **_STEPS, **_REFERENCES, **_EXPRESSIONS, **_SECURITY, **_RELIABILITY, **_SETTINGS}
)


def codes_markdown() -> str:
    """The page of codes for the reference."""
    lines = [
        "# Codes of diagnostics",
        "",
        "`esb lint` prints every problem as `path:line:col: CODE message`. `esb explain CODE` shows the same text as this page.",
    ]
    for digit, family in FAMILIES.items():
        lines += ["", f"## {family}"]
        for code, known in CODES.items():
            if code[3] == digit:
                lines += ["", f"### {code}: {known.title}", "", known.text]
    return "\n".join(lines) + "\n"
