from __future__ import annotations

from pathlib import Path

import pytest

from esb.config.env import Expander
from esb.config.secrets import SecretMissing, Secrets, environment_name
from esb.errors import Position, Problem
from esb.secret import Secret

AT = Position("f.yaml", 3, 10, 40)


def expander(tmp_path: Path, environ: dict[str, str], *, resolve: bool = True) -> tuple[Expander, list[Problem]]:
    problems: list[Problem] = []
    secrets = Secrets(tmp_path / ".secrets", environ)
    return Expander(environ, secrets, problems.append, resolve=resolve), problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${HOST}", "erp"),
        ("http://${HOST}:${PORT}/x", "http://erp:8000/x"),
        ("${MISSING:-else}", "else"),
        ("${EMPTY:-else}", "else"),
        ("${EMPTY}", ""),
        ("${MISSING:-}", ""),
        ("${MISSING:-a:-b}", "a:-b"),
        ("$${HOST}", "${HOST}"),
        ("$HOST $ {HOST} ${", "$HOST $ {HOST} ${"),
    ],
)
def test_references_are_filled_in(tmp_path: Path, text: str, value: str) -> None:
    expand, problems = expander(tmp_path, {"HOST": "erp", "PORT": "8000", "EMPTY": ""})
    assert expand(text, AT)[0] == value
    assert not problems


def test_text_without_a_reference_is_not_called_expanded(tmp_path: Path) -> None:
    expand, _ = expander(tmp_path, {})
    assert expand("$${X} stays", AT) == ("${X} stays", False, False)


def test_a_missing_variable_is_named_at_its_place(tmp_path: Path) -> None:
    expand, problems = expander(tmp_path, {})
    expand("http://${ERP_HOST}/x", Position("f.yaml", 3, 10, 22))
    assert (problems[0].code, problems[0].position.column, problems[0].position.length) == ("ESB006", 18, 11)
    assert "ERP_HOST" in problems[0].message
    assert Position("f.yaml", 3, 10, 22) in expand.unknown


@pytest.mark.parametrize("text", ["${body.lot}", "${header.x}", "${1X}", "${}", "${ X }"])
def test_what_is_no_name_is_told_from_an_expression(tmp_path: Path, text: str) -> None:
    expand, problems = expander(tmp_path, {})
    expand(text, AT)
    assert problems[0].code == "ESB006"
    assert "{{ body.x }}" in problems[0].hint


def test_a_secret_makes_the_whole_text_secret(tmp_path: Path) -> None:
    expand, _ = expander(tmp_path, {"ESB_SECRET_ERP_PASSWORD": "s3cret", "USER": "esb"})
    value, changed, _ = expand("${USER}:${secret:erp-password}", AT)
    assert isinstance(value, Secret)
    assert changed
    assert value.reveal() == "esb:s3cret"
    assert value.name == "erp-password"
    assert "s3cret" not in repr(value) + str(value)


def test_nothing_is_asked_where_nothing_may_be_asked(tmp_path: Path) -> None:
    expand, problems = expander(tmp_path, {"HOST": "erp"}, resolve=False)
    assert expand("${HOST:-default}", AT)[0] == "default"
    assert expand("${HOST}", AT)[0] == ""
    assert AT in expand.unknown
    value = expand("${secret:erp-password}", AT).value
    assert isinstance(value, Secret)
    assert not problems


def test_a_missing_secret_is_a_problem_that_says_where_to_put_it(tmp_path: Path) -> None:
    expand, problems = expander(tmp_path, {})
    value = expand("${secret:erp-password}", AT).value
    assert isinstance(value, Secret)
    assert problems[0].code == "ESB503"
    assert "ESB_SECRET_ERP_PASSWORD" in problems[0].hint


# -- where secrets come from ----------------------------------------------------------------------------------------------


def test_environment_comes_before_file_before_systemd(tmp_path: Path) -> None:
    folder, credentials = tmp_path / "secrets", tmp_path / "credentials"
    for place, text in ((folder, "file\n"), (credentials, "systemd")):
        place.mkdir()
        (place / "erp-password").write_text(text, encoding="utf-8")
    environ = {"ESB_SECRET_ERP_PASSWORD": "environment", "CREDENTIALS_DIRECTORY": str(credentials)}
    assert Secrets(folder, environ).find("erp-password").reveal() == "environment"
    del environ["ESB_SECRET_ERP_PASSWORD"]
    assert Secrets(folder, environ).find("erp-password").reveal() == "file"
    assert Secrets(tmp_path / "none", environ).find("erp-password").reveal() == "systemd"


@pytest.mark.parametrize(("text", "value"), [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")])
def test_one_newline_at_the_end_of_a_file_does_not_count(tmp_path: Path, text: str, value: str) -> None:
    (tmp_path / "x").write_bytes(text.encode())
    assert Secrets(tmp_path, {}).find("x").reveal() == value


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "x" * 200, "a b"])
def test_a_name_of_a_secret_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecretMissing):
        Secrets(tmp_path, {}).find(name)


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_cannot_be_a_secret_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(SecretMissing):
        Secrets(tmp_path, {}).find("x")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(SecretMissing, match="cannot be read"):
        Secrets(tmp_path, {}).find("x")


def test_the_environment_name_of_a_secret() -> None:
    assert environment_name("erp.p-1_x") == "ESB_SECRET_ERP_P_1_X"
