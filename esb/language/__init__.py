"""Expressions (JMESPath) and templates (Jinja) over ``body headers vars meta site``."""

from __future__ import annotations

from esb.language.base import SCOPE_NAMES, Expression, ExpressionError, Language, TextTemplate

__all__ = ["SCOPE_NAMES", "Expression", "ExpressionError", "Language", "TextTemplate"]
