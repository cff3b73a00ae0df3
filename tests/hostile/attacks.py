"""Every attack of the catalogue: what is done, what the bus does, and which tests show it, or why there is nothing to test.

`docs/security.md` carries the same table; `test_attacks.py` keeps both together and the tests where the table says they are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    attack: str
    behaviour: str
    #: files below tests/, each of which names the attack's number; or test files of another kind, with no number
    tests: tuple[str, ...] = ()
    #: why nothing is tested here
    because: str = ""


_WIRE = "hostile/test_wire.py"
_DATA = "hostile/test_data.py"
_FILES = "hostile/test_workspace.py"
_OUT = "hostile/test_outgoing.py"
_DROPPED = "hostile/test_dropped_files.py"
_AMQP = ("unit/endpoints/test_amqp_parts.py", "endpoints/test_amqp_broker.py")
_SFTP = "contracts/test_sftp_server.py"
_SFTP_HOSTILE = "contracts/test_sftp_hostile.py"
_CLIENT = "unit/endpoints/http/test_http_sink.py"

ATTACKS: dict[str, Attack] = {
    "S1": Attack("Headers, query, body fields or CloudEvents attributes that steer target, operation, key or credentials", "they are data; headers named `esb-…` are not passed on", (_DATA,)),
    "S2": Attack("A body that holds Jinja, JMESPath, `${ENV}`, `$ref` or shell", "passed as text, byte for byte; nothing is rendered twice", (_DATA,)),
    "S3": Attack("A template that reaches for Python, files or processes", "error at load, else a dead letter; no effect", (_FILES, "unit/language/test_template_security.py")),
    "S4": Attack("A template that grows or never ends", "cut off, a dead letter", (_FILES, "unit/language/test_template_security.py")),
    "S5": Attack("Pickle and other objects over AMQP", "bytes are never unpickled or inflated; what cannot be read is a dead letter", _AMQP),
    "S6": Attack("Packed requests and answers that inflate", "requests with `Content-Encoding` are refused (415); answers are cut at `max_response` while they inflate", (_DATA, _OUT, *_AMQP, "unit/formats/test_excel.py")),
    "S7": Attack("XML with DTD, entities, XInclude, schema locations", "any DOCTYPE is refused (400); references are data; nothing is fetched", (_DATA,)),
    "S8": Attack("JSON Schema that refers to the network or to other files", "error at load with its line; nothing is fetched", (_FILES, "hostile/test_corpus_schema.py")),
    "S9": Attack("Slow patterns, `uniqueItems` over thousands, depth, a million keys or digits", "judged in bounded time: 202, 400 or 422", (_DATA,)),
    "S10": Attack("YAML with tags, alias bombs, duplicate keys, depth, size", "refused with line and column; nothing is constructed", (_FILES, "hostile/test_corpus_yaml.py")),
    "S11": Attack("File names with dots, slashes, control characters, links; paths that mean the bus's own files", "names stay one part of a path; bad ones are told and left, the rest flows; own files are out of reach", (_FILES, _DROPPED, "contracts/test_file_hostile.py", _SFTP_HOSTILE)),
    "S12": Attack("A file swapped for a link between look and open", "opened without following links", (_DROPPED, "contracts/test_file_hostile.py")),
    "S13": Attack("Names that are no text, and thousands of them, in one folder", "a bad name is told and left; the rest flows", (_DROPPED, "contracts/test_file_hostile.py", _SFTP_HOSTILE)),
    "S14": Attack("SFTP with an unknown or changed host key", "refused", (_SFTP,)),
    "S15": Attack("Known faults of SSH libraries", "versions have floors; a server that offers only broken algorithms is refused", (_SFTP,)),
    "S16": Attack("SQL in values, identifiers, filters", "every value is bound; the API's filters too", (_WIRE, "contracts/test_sql_sink.py")),
    "S17": Attack("A store URL with options, drivers or places of its own", "a file of SQLite without options, PostgreSQL with known ones, or exit 78", (_FILES,)),
    "S18": Attack("A URL or host made of message data, values that leave their part of an address, proxies of the environment", "hosts come from the configuration; a value stays one encoded part; proxies only where configured", (_FILES, _DATA, _OUT)),
    "S19": Attack("A redirect that takes body and key elsewhere", "not followed; the delivery has failed", (_OUT,)),
    "S20": Attack("CR, LF, NUL in values that become headers, addresses, answers", "refused or encoded; no new line begins", (_DATA, _FILES, _AMQP[0])),
    "S21": Attack("Request smuggling, forty spellings", "one 4xx, then the connection is closed", (_WIRE, "unit/endpoints/http/test_http_guard.py")),
    "S22": Attack("No Host, two, or a foreign one (DNS rebinding)", "400 or 421; routes under `http: { allow_hosts: … }`", (_WIRE,)),
    "S23": Attack("Clients that send or read slowly, and many of them", "cut off after 10 s (head) or 30 s (body); others are served", (_WIRE, "unit/endpoints/http/test_http_guard.py")),
    "S24": Attack("Bodies without end, 2,000 headers, long heads", "413 or 431 early; memory stays", (_WIRE,)),
    "S25": Attack("Anything sent before the login", "401 before a body is read", (_WIRE,)),
    "S26": Attack("A bus that listens to everybody, without a password", "binds loopback; the admin listener refuses to start elsewhere without a token or users", (_WIRE, "admin/test_people.py")),
    "S27": Attack("Sixty spellings of a path, method overrides", "login and dispatch read one path: 400, 401, 404 or 405", (_WIRE,)),
    "S28": Attack("Forms and scripts on pages of other sites", "403 on both listeners; the API acts for a bearer token only, the pages for a form with the word of its session and their own origin", (_WIRE, "admin/test_pages.py")),
    "S29": Attack("Stored cross-site scripting", "every value on a page is escaped, and pages may run no script (content policy); the API answers JSON with `nosniff`", ("admin/test_pages.py", "admin/test_pages_browser.py")),
    "S30": Attack("Acting on another role's or plant's objects", "every call asks for one right, at the site of the object; what is not seen does not exist", ("admin/test_roles.py",)),
    "S31": Attack("Going around an electronic signature", "nothing is done without password, reason and meaning, by whatever way; a signature is tied to its entry and its record, and `esb audit verify` finds one that is missing or was moved; who comes by an identity provider logs in there again, for this one act", ("admin/test_signatures.py", "admin/test_oidc_signatures.py")),
    "S32": Attack("Secrets in logs, store, API, metrics, dead letters, command line", "twelve canaries in no spelling anywhere; targets that echo credentials are masked", (_OUT, "unit/endpoints/http/test_http_masking.py")),
    "S33": Attack("Errors that show stack, path, SQL or expression", "a code and short words; faults of the bus are a number", (_OUT, _WIRE)),
    "S34": Attack("Sessions: fixation, expiry, cookies", "every login makes a new id; `HttpOnly`, `SameSite=Strict`; 30 minutes idle, 12 hours in all; over when roles, password or token change", ("admin/test_pages.py", "admin/test_sessions.py", "admin/test_people.py")),
    "S35": Attack("Guessing credentials, telling users apart", "an address with too many wrong ones gets 429 unheard, an account waits; all refusals look alike; comparisons take constant time", (_WIRE, "admin/test_people.py")),
    "S36": Attack("Webhooks without or with a forged, old or repeated signature", "401; an empty secret is an error at load", (_OUT, "unit/endpoints/http/test_http_auth.py")),
    "S37": Attack("Bearer tokens with claims (JWT)", "at ingress bearer tokens are compared whole; ID tokens of a login must be signed by the provider, for this client, now, for this login", ("admin/test_oidc.py",)),
    "S38": Attack("Idempotency keys: long, of others, with another body", "kept per client; 400 above 255 characters; 409 for another body", (_WIRE,)),
    "S39": Attack("A body that poses as another type", "the content type decides once; what the route does not take is 415", (_DATA,)),
    "S40": Attack("Formulas in CSV and Excel", "Excel gets texts as texts; a CSV for people is written with `guard_formulas`, one for machines as it is; exports are JSON", ("unit/formats/test_excel.py", "unit/formats/test_csv_codec.py")),
    "S41": Attack("Log injection, control characters, long values, floods", "one escaped record per event, at most 20,000 characters and 500 a second", (_OUT, "unit/observe/test_logs.py")),
    "S42": Attack("Half surrogates, overlong UTF-8, look-alike keys", "400, or unchanged; keys are compared byte for byte", (_DATA,)),
    "S43": Attack("Duplicate keys, NaN, huge exponents, long decimals", "refused; numbers are exact at the sink", (_DATA, "hostile/test_corpus_json.py")),
    "S44": Attack("Hash floods, deep values in expressions", "bounded; 400, 422 or a dead letter", (_DATA,)),
    "S45": Attack("Control plane on the port of messages", "two listeners that share nothing", (_WIRE,)),
    "S46": Attack("Files that everybody may read", "store 0700/0600 whatever the umask; other files at most 0640", (_FILES,)),
    "S47": Attack("Edits of the store, a file that is no store", "`esb audit verify` exits 1; a damaged store is refused and not written over", (_FILES, "unit/store/test_audit_chain.py")),
    "S48": Attack("One sender's data in another's answer", "none in interleaved requests", (_DATA,)),
    "S49": Attack("TLS with expired, foreign, self-signed certificates", "refused; `trust_all` is warned about at each start", ("hostile/test_tls.py", "admin/test_admin_tls.py", _CLIENT, _AMQP[1])),
    "S50": Attack("Python modules planted in the workspace, files that everybody may write", "never imported; `ESB506`, exit 78", (_FILES, "unit/config/test_plugins.py")),
    "S51": Attack("Multipart parsers", "forms are read by a strict reader of our own, in one pass, with limits; file names are data", ("hostile/test_forms.py", "unit/formats/test_form.py", "fuzz/test_fuzz.py")),
    "S52": Attack("Static files, directory listing, open redirect", "two files, served from memory by name; a login leads only to paths of its own listener", ("admin/test_pages.py",)),
    "S53": Attack("Supply chain", "", because="versions are pinned in requirements-dev.txt; nothing is fetched at run time"),
    "S54": Attack("Framing of the admin listener, WebSockets", "`frame-ancestors 'none'`; no WebSockets", (_WIRE, "admin/test_pages.py")),
}  # fmt: skip


def table() -> str:
    """The table of `docs/security.md`."""
    rows = ["| # | attack | what the bus does | tested by |", "| --- | --- | --- | --- |"]
    for number, one in ATTACKS.items():
        shown = ", ".join(f"`{name}`" for name in one.tests) or f"not tested here: {one.because}"
        rows.append(f"| {number} | {one.attack} | {one.behaviour or '-'} | {shown} |")
    return "\n".join(rows)
