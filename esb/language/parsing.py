"""Expression text to syntax tree: jmespath's own parser with exact literals, positions, limits and plain words.

The tree is jmespath's (nested dicts with ``type``, ``value``, ``children``). Fields and function calls also carry ``at``, the
character where they begin. One addition to the grammar, known from JMESPath Community: ``$`` is the whole message, so that a
filter can say ``body.items[?qty > $.vars.limit]``.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from jmespath import ast, exceptions
from jmespath.lexer import Lexer
from jmespath.parser import ParsedResult, Parser

from esb.language.base import ExpressionError
from esb.language.syntax_errors import Trouble, syntax_error
from esb.language.values import in_bounds

#: Longest text of an expression, in characters, and deepest nesting of brackets and operators in it.
MAX_LENGTH = 65_536
MAX_NESTING = 100

_NESTING = re.compile(r"""[(\[{}\])]|(?:!\s*)+|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?:\\.|[^`\\])*`""", re.DOTALL)

Tree = dict[str, Any]

# the type stubs of jmespath leave out what its classes do inside
_Lexer: Any = Lexer
_Parser: Any = Parser
_ast: Any = ast


def parse(text: str) -> Tree:
    """The syntax tree. Raises :class:`ExpressionError` (ESB401) that says what stands where."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError("ESB401", f"the expression has {len(text)} characters; the most is {MAX_LENGTH}")
    parser = ExactParser()
    try:
        if not text.strip():
            raise Trouble("the expression is empty", 0, hint="write what it reads, like `body.lot.id`")
        _check_nesting(text)
        tree: Tree = parser.parse(text).parsed  # type: ignore[assignment]  # the stubs have a class of their own
        _check_depth(tree)
    except Trouble as trouble:
        raise syntax_error(text, trouble.offset, [], trouble) from None
    except exceptions.LexerError as error:
        raise syntax_error(text, error.lex_position, []) from None
    except exceptions.IncompleteExpressionError:
        raise syntax_error(text, len(text), parser.tokens) from None
    except exceptions.ParseError as error:
        raise syntax_error(text, error.lex_position, parser.tokens) from None
    except RecursionError:
        raise ExpressionError("ESB401", "the expression is nested too deeply", length=len(text)) from None
    except (IndexError, KeyError, ValueError):
        raise syntax_error(text, len(text), parser.tokens) from None
    return tree


def exact_json(text: str) -> Any:
    """JSON with decimals kept exact. Raises ValueError for NaN, repeated keys and absurd numbers."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    def decimal(digits: str) -> Decimal:
        number = Decimal(digits)
        if not in_bounds(number):
            raise ValueError(f"the number {digits[:40]} is out of range")
        return number

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("a key stands twice")
        return found

    return json.loads(text, parse_float=decimal, parse_constant=refuse, object_pairs_hook=pairs)


class ExactLexer(_Lexer):  # type: ignore[misc]  # a class of unknown type, see above
    """jmespath's lexer; literals in backticks must be JSON and keep their decimals."""

    SIMPLE_TOKENS = {**Lexer.SIMPLE_TOKENS, "$": "root"}  # noqa: RUF012 - the name and type are jmespath's

    def _consume_literal(self) -> dict[str, Any]:
        start = self._position
        lexeme = self._consume_until("`").replace("\\`", "`")
        try:
            value = exact_json(lexeme)
        except ValueError as error:
            word = lexeme.strip()
            close = {"True": "true", "False": "false", "None": "null"}.get(word)
            hint = f"write `{close}`" if close else f"literal text is '{word}'" if word.isprintable() and word else ""
            raise Trouble(
                f"`{word[:40]}` in backticks is not JSON" + ("" if hint else f": {error}"), start, len(lexeme) + 2, hint
            ) from None
        return {"type": "literal", "value": value, "start": start, "end": self._position}


class ExactParser(_Parser):  # type: ignore[misc]  # the same
    """jmespath's parser without its shared cache; commas are not optional."""

    BINDING_POWER = {**Parser.BINDING_POWER, "root": 0}  # noqa: RUF012 - the name and type are jmespath's

    @property
    def tokens(self) -> list[dict[str, Any]]:
        """The tokens as far as the text could be read."""
        return [token for token in self._tokens if token is not None]

    def parse(self, expression: str) -> ParsedResult:
        return self._do_parse(expression)  # type: ignore[no-any-return]  # jmespath has no types

    def _parse(self, expression: str) -> ParsedResult:
        self._tokens = list(ExactLexer().tokenize(expression))
        self._index = 0
        tree = self._expression(binding_power=0)
        if self._current_token() != "eof":
            self._raise_parse_error_for_token(self._lookahead_token(0), "unexpected")
        return ParsedResult(expression, tree)

    def _token_nud_unquoted_identifier(self, token: Tree) -> Tree:
        return {**_ast.field(token["value"]), "at": token["start"]}

    def _token_nud_quoted_identifier(self, token: Tree) -> Tree:
        if self._current_token() == "lparen":
            raise Trouble("a function's name is written without quotes", token["start"], len(token["value"]) + 2)
        return {**_ast.field(token["value"]), "at": token["start"], "quoted": True}

    def _token_nud_root(self, token: Tree) -> Tree:
        return {"type": "root", "children": []}

    def _token_nud_not(self, token: Tree) -> Tree:
        # jmespath reads `!body.released` as `(!body).released`, which is always null; nobody means that. Here `!` takes the
        # whole path (it binds less than `[]`, which is 9, and more than a comparison, which is 5)
        tree: Tree = _ast.not_expression(self._expression(8))
        return tree

    def _token_led_lparen(self, left: Tree) -> Tree:
        if left["type"] != "field":
            self._raise_parse_error_for_token(self._lookahead_token(-1), "not a function")
        arguments: list[Tree] = []
        while self._current_token() != "rparen":
            if arguments:
                self._match("comma")
            arguments.append(self._expression())
        self._match("rparen")
        return {**_ast.function_expression(left["value"], arguments), "at": left["at"]}

    def _parse_multi_select_hash(self) -> Tree:
        pairs = []
        while True:
            key = self._lookahead_token(0)
            self._match_multiple_tokens(token_types=["quoted_identifier", "unquoted_identifier"])
            self._match("colon")
            pairs.append(_ast.key_val_pair(key_name=key["value"], node=self._expression(0)))
            if self._current_token() == "rbrace":
                break
            self._match("comma")
        self._match("rbrace")
        tree: Tree = _ast.multi_select_dict(nodes=pairs)
        return tree


def _check_nesting(text: str) -> None:
    """Refuse deep brackets before the parser, which is recursive, sees them. Quoted parts do not count."""
    depth = 0
    for match in _NESTING.finditer(text):
        mark = match[0]
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
        if depth > MAX_NESTING or mark.count("!") > MAX_NESTING:
            raise Trouble(
                "the expression is nested too deeply", match.start(), hint=f"the most is {MAX_NESTING} levels"
            )


def _check_depth(tree: Tree) -> None:
    """Refuse trees that later passes, which are recursive, could not walk."""
    level, nodes = 0, [tree]
    while nodes:
        level += 1
        if level > MAX_NESTING * 3:
            raise Trouble("the expression is nested too deeply", 0, hint="split it over several `set` steps")
        nodes = [child for node in nodes for child in node["children"] if isinstance(child, dict)]
