"""Passwords that are made up."""

from __future__ import annotations

import pytest

from esb.access.passwords import WeakPassword, check_strength, made_up


@pytest.mark.parametrize("name", ["m", "Mia", "quality"])
def test_a_password_that_is_made_up_is_one_that_the_user_may_have(name: str) -> None:
    for _ in range(200):  # a name of one letter stands in every second one of them
        check_strength(made_up(name), name)


def test_a_password_that_holds_the_name_is_refused() -> None:
    with pytest.raises(WeakPassword, match="holds the user's name"):
        check_strength("xxmIa-1234567", "Mia")
