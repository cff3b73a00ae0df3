"""Every component is complete: words for the reference, a test, and an example page that lints. A new one is three files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from esb.config.loader import load_workspace
from esb.config.yaml import read_documents
from esb.errors import Problem
from esb.registry import FAMILIES, Component, load
from esb.spec import options_of
from esb.spec.schema import options_schema

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
UNIT = ROOT / "tests" / "unit"

#: family → folder of its example pages and its tests
PAGES = {"step": "steps", "source": "endpoints", "sink": "endpoints", "connection": "endpoints", "format": "formats"}
#: standards that a format reads and that have a page of their own
STANDARDS = {("formats", "b2mml"), ("formats", "qif")}
#: what an example page may bring along, beside it
ASSETS = ("schemas", "transforms", "connectors")

#: the names of *Enterprise Integration Patterns* (Hohpe, Woolf), with Multicast, Saga and Throttler of its later readers
PATTERNS = frozenset(
    {
        "Aggregator",
        "Canonical Data Model",
        "Channel Adapter",
        "Channel Purger",
        "Claim Check",
        "Command Message",
        "Competing Consumers",
        "Composed Message Processor",
        "Content Enricher",
        "Content Filter",
        "Content-Based Router",
        "Control Bus",
        "Correlation Identifier",
        "Datatype Channel",
        "Dead Letter Channel",
        "Detour",
        "Document Message",
        "Durable Subscriber",
        "Dynamic Router",
        "Envelope Wrapper",
        "Event Message",
        "Event-Driven Consumer",
        "Format Indicator",
        "Guaranteed Delivery",
        "Idempotent Receiver",
        "Invalid Message Channel",
        "Message",
        "Message Broker",
        "Message Bus",
        "Message Channel",
        "Message Dispatcher",
        "Message Endpoint",
        "Message Expiration",
        "Message Filter",
        "Message History",
        "Message Router",
        "Message Sequence",
        "Message Store",
        "Message Translator",
        "Messaging Bridge",
        "Messaging Gateway",
        "Messaging Mapper",
        "Multicast",
        "Normalizer",
        "Pipes and Filters",
        "Point-to-Point Channel",
        "Polling Consumer",
        "Process Manager",
        "Publish-Subscribe Channel",
        "Recipient List",
        "Request-Reply",
        "Resequencer",
        "Return Address",
        "Routing Slip",
        "Saga",
        "Scatter-Gather",
        "Selective Consumer",
        "Service Activator",
        "Smart Proxy",
        "Splitter",
        "Test Message",
        "Throttler",
        "Transactional Client",
        "Wire Tap",
    }
)

COMPONENTS = [
    pytest.param(component, id=f"{component.family}:{component.name}")
    for family in FAMILIES
    for component in load().family(family).values()
]
PAGES_FOUND = sorted(page for folder in set(PAGES.values()) for page in (EXAMPLES / folder).glob("*.yaml"))


@pytest.mark.parametrize("component", COMPONENTS)
def test_says_what_it_is(component: Component) -> None:
    # a dataclass without a docstring gets its signature as one
    assert component.doc
    assert not component.doc.startswith(f"{component.cls.__name__}("), f"write a docstring for {component.cls}"
    assert component.summary.endswith((".", ":")), f"the first line of {component.cls} is one sentence"


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_option_says_what_it_is_for(component: Component) -> None:
    silent = [spec.name for spec in options_of(component.cls) if not spec.doc.strip().endswith(".")]
    assert not silent, f"{component.cls.__module__}: give {silent} a `doc` of one sentence"


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_example_of_an_option_can_stand_in_a_file(component: Component) -> None:
    for spec in options_of(component.cls):
        example = str(spec.example).lower() if isinstance(spec.example, bool) else spec.example
        problems: list[Problem] = []
        read_documents(f"{spec.name}: {example}\n", f"{component.name}.{spec.name}", problems.append)
        assert spec.example is None or not problems, f"{component.cls.__module__}: {problems[0]}"


@pytest.mark.parametrize("component", COMPONENTS)
def test_options_have_a_schema_for_editors(component: Component) -> None:
    Draft202012Validator.check_schema(options_schema(component.cls))


@pytest.mark.parametrize("component", COMPONENTS)
def test_pattern_is_a_known_one(component: Component) -> None:
    assert component.pattern in PATTERNS | {""}


@pytest.mark.parametrize("component", COMPONENTS)
def test_has_a_test_file(component: Component) -> None:
    folder = UNIT / PAGES[component.family]
    names = {component.name, component.cls.__module__.rpartition(".")[2]}
    found = [path for name in names for path in (*folder.rglob(f"test_*{name}*.py"), *folder.glob(f"{name}/test_*.py"))]
    assert found, f"create {(folder / f'test_{component.name}.py').relative_to(ROOT)}"


@pytest.mark.parametrize("component", COMPONENTS)
def test_has_an_example_page(component: Component) -> None:
    page = EXAMPLES / PAGES[component.family] / f"{component.name}.yaml"
    assert page.is_file(), f"create {page.relative_to(ROOT)}"
    used = re.search(rf"\b{component.name}:|format: {component.name}\b", page.read_text(encoding="utf-8"))
    assert used, f"{page.relative_to(ROOT)} does not use it"


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(EXAMPLES))) for page in PAGES_FOUND])
def test_example_page_lints_and_says_how_to_try_it(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# "), f"begin {page.relative_to(ROOT)} with a comment: what it shows, how to try it"
    (tmp_path / "routes").mkdir()
    shutil.copy(page, tmp_path / "routes")
    for name in ASSETS:
        if (page.parent / name).is_dir():
            shutil.copytree(page.parent / name, tmp_path / name)
    # what the environment has to give is said in the page; here it is left open
    _, problems = load_workspace(tmp_path, environ={}, resolve_env=False)
    assert not problems, "\n".join(f"{problem}  ({problem.hint})" for problem in problems)


@pytest.mark.parametrize(
    "name", ["answer_997.jmes", "answer_contrl.jmes", "b2mml_lot.jmes", "qif.jmes", "tables/stock-dispositions.csv"]
)
def test_an_example_works_with_what_the_reference_workspace_works_with(name: str) -> None:
    # copies, and no links: a checkout on Windows has no links
    copy = EXAMPLES / "formats" / "transforms" / name
    assert copy.read_bytes() == (ROOT / "transforms" / name).read_bytes()


def test_every_example_page_shows_a_component() -> None:
    names = {(PAGES[p.values[0].family], p.values[0].name) for p in COMPONENTS} | STANDARDS
    strangers = [str(page.relative_to(ROOT)) for page in PAGES_FOUND if (page.parent.name, page.stem) not in names]
    assert not strangers
