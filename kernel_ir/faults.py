"""Turns the token at which the grammar stopped into a ParseError: what was found, what was expected, what to write instead."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from kernel_ir.errors import ParseError, Source, Span

_STARTERS: Final = frozenset(("NAME", "NUMBER", "LPAR", "MINUS", "PLUS", "TILDE", "NOT", "FOLD"))
_OPERATORS: Final = frozenset(
    ("PLUS", "MINUS", "STAR", "SLASH", "PERCENT", "AMPERSAND", "VBAR", "CIRCUMFLEX", "COMPARE", "AND", "OR", "IF")
)
_OPENERS: Final = {"(": ")", "[": "]", "{": "}"}

_CHARACTERS: Final = {
    "?": "write `a if c else b`",
    ";": "statements need no separator: drop it",
    '"': "the language has no strings",
    "'": "the language has no strings",
    "!": "write `not`, or `!=`",
    "×": "write `*`",
    "·": "write `*`",
    "÷": "write `/`",
    "−": "write `-`",
    "–": "write `-`",
    "≤": "write `<=`",
    "≥": "write `>=`",
    "≠": "write `!=`",
    "→": "write `->`",
    "∞": "write `inf`",
    "π": "write `pi`",
    "\u00a0": "it looks like a space: write a space",
}
_LEADING: Final = {
    "def": "write `kernel name(…) -> (…) { … }`",
    "func": "write `fn name(x) = …` or `kernel name(…) -> (…) { … }`",
    "function": "write `fn name(x) = …` or `kernel name(…) -> (…) { … }`",
    "let": "write `const NAME = …`",
    "import": "a file stands alone: there are no imports",
    "return": "outputs are assigned by name: `y[i] = …`",
    "for": "a range follows its statement: `y[i] = … for i in 0..N`",
    "if": "choose inside the expression, `y[i] = a if c else b`, or narrow it: `y[i] = … for i in 0..N where c`",
    "while": "loops are `repeat steps { … }`, or `fold(k in 0..N, z = 0.0 while z < 4.0: …).z`",
}


@dataclass(frozen=True, slots=True)
class _Stop:
    """Where and with what the grammar stopped."""

    source: Source
    at: int
    found: str
    kind: str
    wanted: frozenset[str]
    previous: str
    shown: dict[str, str]

    @property
    def before(self) -> str:
        return self.source.text[: self.at]

    @property
    def rest(self) -> str:
        return self.source.text[self.at :]

    @property
    def place(self) -> Span:
        """The token that was found, or the end of the line before where that is a line further: there something is missing."""
        end = len(re.sub(r"(\s|#[^\n]*)+$", "", self.before))
        return self.span(end - 1, 1) if end and "\n" in self.source.text[end : self.at] else self.span()

    def span(self, start: int | None = None, length: int | None = None) -> Span:
        """The span of `length` characters from `start`: by default the token that was found."""
        start = self.at if start is None else start
        length = len(self.found) or 1 if length is None else length
        text = self.source.text
        line = text.count("\n", 0, start) + 1
        column = start - (text.rfind("\n", 0, start) + 1) + 1
        return Span(self.source, line, column, line, column + length)


def fault(error: Any, source: Source, terminals: Iterable[Any]) -> ParseError:
    """The error for one of Lark's UnexpectedInput exceptions; `terminals` are the grammar's."""
    token = getattr(error, "token", None)
    at = min(getattr(error, "pos_in_stream", None) or 0, len(source.text))
    kind = "" if token is None else str(token.type)
    if kind == "$END":
        at = len(source.text.rstrip())
    history = getattr(error, "token_history", None) or [None]
    stop = _Stop(
        source,
        at,
        "" if kind == "$END" else str(token) if token is not None else source.text[at : at + 1],
        kind,
        frozenset(getattr(error, "accepts", None) or getattr(error, "allowed", None) or ()),
        str(history[-1] or ""),
        {t.name: _human(t) for t in terminals},
    )
    for check in _CHECKS:
        found = check(stop)
        if found is not None:
            return found
    return _plain(stop)


def _human(terminal: Any) -> str:
    names = {"NAME": "a name", "NUMBER": "a number", "COMPARE": "a comparison"}
    return names.get(terminal.name, f"`{terminal.pattern.value}`")


def _plain(stop: _Stop) -> ParseError:
    what, hint = _found(stop), None
    if stop.kind == "NAME" and stop.wanted & {"KERNEL", "REPEAT"}:
        hint = _LEADING.get(stop.found)
    if stop.found.isalpha() and stop.kind != "NAME" and "NAME" in stop.wanted:
        what, hint = f"found the keyword `{stop.found}`", _LEADING.get(stop.found)
    return ParseError(f"{what}, expected {_expected(stop)}", stop.place, hint)


def _expected(stop: _Stop) -> str:
    left, words = set(stop.wanted), list[str]()
    if left >= {"NAME", "NUMBER", "LPAR"}:
        left -= _STARTERS
        words.append("an expression")
    if left >= {"STAR", "SLASH"}:
        left = {t for t in left - _OPERATORS - {"LSQB", "LPAR"} if not t.startswith("__ANON")}
        left |= {t for t in stop.wanted if t.startswith("__ANON") and stop.shown[t] in ("`..`", "`->`", "`=>`", "`<=>`")}
        words.append("an operator")
    for terminal in sorted(left):
        words.append("the end of the file" if terminal == "$END" else stop.shown.get(terminal, terminal))
    if len(words) > 1:
        words = [w for w in words if w != "the end of the file"]
    words.sort(key=lambda w: (w.startswith("`"), w))
    return " or ".join(([", ".join(words[:-1])] if words[:-1] else []) + words[-1:])


# Each check knows one mistake: it gives the error for it, or None.


def _operator(stop: _Stop) -> ParseError | None:
    two = stop.source.text[max(stop.at - 1, 0) : stop.at + 1]
    if two == "==" and stop.previous == "=":
        return ParseError("found `==`, which compares, expected `=`, which defines", stop.span(stop.at - 1, 2), "write `=`")
    if two in ("&&", "||"):
        return ParseError(f"found `{two}`", stop.span(stop.at - 1, 2), f"write `{'and' if two == '&&' else 'or'}`")
    for wrong, hint in (
        ("&&", "write `and`"),
        ("||", "write `or`"),
        ("===", "write `==`"),
        ("//", "a comment starts with `#`"),
        ("/*", "a comment starts with `#`"),
    ):
        if stop.rest.startswith(wrong) and (wrong[0] != "/" or stop.wanted & {"KERNEL", "REPEAT"}):
            return ParseError(f"found `{wrong}`", stop.span(length=len(wrong)), hint)
    updates = re.match(r"(-|\*|/|//|%|\*\*|&|\||\^)=", stop.rest)
    if updates and "EQUAL" in stop.wanted:
        return ParseError(f"found `{updates[0]}`", stop.span(length=len(updates[0])), "accumulate with `+=`, `max=` or `min=`")
    if stop.found == "=" and "COMPARE" in stop.wanted and "EQUAL" not in stop.wanted:
        return ParseError("found `=`, which defines, and this is a condition", stop.span(), "write `==` to compare")
    if stop.found == "=" and "COLON" in stop.wanted and "COMPARE" not in stop.wanted:
        return ParseError("found `=`, expected `:`", stop.span(), "a rule is written `rule name: lhs => rhs`")
    return None


def _number(stop: _Stop) -> ParseError | None:
    digits = re.search(r"(?<![\w.])\d+$", stop.before)
    start = digits.start() if digits and stop.rest.startswith(".") else stop.at
    written = stop.source.text[start:]
    joined = re.match(r"(\d+(?:\.\d+)?)([A-Za-z_]\w*)", written)
    if joined:
        number, name = joined.groups()
        hint = f"write `{number} * {name}`"
        if re.match(r"0[xXbBoO]", written):
            hint = "numbers are decimal"
        elif name in ("f", "F", "d", "u", "U", "l", "L"):
            hint = f"drop the `{name}`: a literal takes the type of what it meets"
        return ParseError(f"`{joined[0]}` is neither a number nor a name", stop.span(start, len(joined[0])), hint)
    bare = re.match(r"(\d*)\.(\d*)", written)
    if bare and not written.startswith("..", len(bare[1])) and bool(bare[1]) != bool(bare[2]):
        return ParseError(f"`{bare[0]}` is no number", stop.span(start, len(bare[0])), f"write `{bare[1] or 0}.{bare[2] or 0}`")
    return None


def _character(stop: _Stop) -> ParseError | None:
    if stop.kind:
        return None
    char = stop.found
    shown = (
        f"`{char}`"
        if char.isprintable() and char.isascii()
        else f"the character U+{ord(char):04X} ({unicodedata.name(char, 'a control character').lower()})"
    )
    return ParseError(f"found {shown}, which the language does not use", stop.span(), _CHARACTERS.get(char, "remove it"))


def _subscript(stop: _Stop) -> ParseError | None:
    if stop.found == "[" and stop.before.rstrip().endswith("]"):
        return ParseError("found a second `[`: an array takes all its indices at once", stop.span(), "write `x[i, j]`")
    if stop.found == "[" and stop.before.rstrip().endswith(")"):
        return ParseError(
            "found `[`: only an array that has a name can be indexed", stop.span(), "name it in a statement of its own: `t[i] = …`"
        )
    return None


def _range(stop: _Stop) -> ParseError | None:
    if stop.wanted == frozenset(("IN",)):
        return ParseError(f"{_found(stop)}, expected `in` and a range", stop.place, "write `for i in 0..N`")
    dots = next((t for t, shown in stop.shown.items() if shown == "`..`"), "")
    if dots in stop.wanted and (stop.found in (":", ",", "}", ")") or re.search(r"\brange\s*\([^()]*\)\s*$", stop.before)):
        return ParseError(
            f"{_found(stop)}, expected `..` and the end of the range", stop.place, "a range is written `i in 0..N`, its end not included"
        )
    if stop.rest.startswith("..") and stop.previous != "" and "COMPARE" in stop.wanted:
        return ParseError("found `..` outside a range", stop.span(length=2), "a range needs its index: `i in 0..N`")
    if stop.rest.startswith("..") and "RSQB" in stop.wanted:
        return ParseError(
            "found `..`: an array is read one element at a time", stop.span(length=2), "index it by a variable that has this range"
        )
    if stop.previous == "in" and "EQUAL" in stop.wanted:
        return ParseError("found `in` after a complete statement", stop.span(stop.before.rindex("in"), 2), "ranges are separated by `,`")
    return None


def _clause(stop: _Stop) -> ParseError | None:
    if stop.wanted == frozenset(("COLON",)) and re.search(r"[(,]\s*(inout\s+)?\w+\s*$", stop.before):
        return ParseError(
            f"{_found(stop)}, expected `:` and a type",
            stop.place,
            f"write `{stop.previous}: f32`, or `{stop.previous}: f32[N]` for an array",
        )
    reduction = re.search(r"\b(sum|prod|max|min|any|all|argmax|argmin)\s+\w+\s*$", stop.before)
    if stop.found in (":", "in") and reduction:
        return ParseError(f"{_found(stop)}: a reduction has parentheses", stop.span(), f"write `{reduction[1]}(i: …)`")
    if stop.found == "=" and "`@`" in {stop.shown.get(t) for t in stop.wanted}:
        return ParseError("found `=`: parameters have no defaults", stop.span(), "drop it; the caller gives every parameter")
    if stop.wanted == frozenset(("COMMA",)) and re.search(r"\bfold\s*\([^()]*$", stop.before):
        return ParseError(f"{_found(stop)}, expected `,` and a carried value", stop.place, "write `fold(k in 0..8, z = 0.0: …).z`")
    if stop.wanted == frozenset(("DOT",)):
        return ParseError(f"{_found(stop)}, expected `.` and the carried value that the fold gives", stop.place, "write `fold(…).z`")
    if stop.wanted == frozenset(("LPAR",)) and stop.previous == "->":
        return ParseError(
            f"{_found(stop)}, expected `(`",
            stop.span(),
            "outputs stand in parentheses: `-> (y: f32[N])`; a kernel that has none drops the `->`",
        )
    if stop.found == "else" and re.search(r"(=>|<=>)[^=\n]*\bif\b[^\n]*$", stop.before):
        return ParseError(
            "found `else`: here `if` starts the guards of the rule", stop.span(), "put the selection in parentheses: `=> (a if c else b)`"
        )
    if stop.found == ":" and "LBRACE" in stop.wanted:
        return ParseError("found `:`, expected `{`", stop.span(), "a body stands in braces: `{ … }`")
    if stop.found == "," and "FOR" in stop.wanted and "COMMA" not in stop.wanted:
        return ParseError("found `,` after an expression", stop.span(), "statements need no separator: drop it")
    return None


def _bracket(stop: _Stop) -> ParseError | None:
    """A bracket that is never closed, or closed by another kind."""
    if stop.found not in ("", ")", "]", "}") and not _starts_item(stop):
        return None
    open_at: list[int] = []
    text = re.sub(r"#[^\n]*", lambda m: " " * len(m[0]), stop.before)
    for place, char in enumerate(text):
        if char in _OPENERS:
            open_at.append(place)
        elif open_at and char == _OPENERS[text[open_at[-1]]]:
            open_at.pop()
    if not open_at:
        if stop.found and not stop.wanted & {"NAME", "NUMBER"}:
            return ParseError(f"found `{stop.found}`, which closes nothing", stop.span(), "remove it")
        return None
    opener = text[open_at[-1]]
    closer = _OPENERS[opener]
    if stop.found == closer:
        return None
    if opener == "{" and stop.found in (")", "]"):
        return ParseError(f"found `{stop.found}`, which closes nothing", stop.span(), "remove it")
    where = stop.span(open_at[-1], 1)
    found = "the next item starts" if _starts_item(stop) else f"found `{stop.found}`" if stop.found else "the file ends"
    return ParseError(f"`{opener}` is never closed: {found} on line {stop.span().line}", where, f"close it with `{closer}`")


def _starts_item(stop: _Stop) -> bool:
    """Whether a new item starts where the body of a kernel goes on."""
    word = stop.found if "RBRACE" in stop.wanted else stop.previous if "EQUAL" in stop.wanted else ""
    return word in ("kernel", "fn", "const", "rule", "schedule")


def _keyword(stop: _Stop) -> ParseError | None:
    """A keyword that the grammar took for the target of a statement."""
    if stop.previous not in _LEADING or "EQUAL" not in stop.wanted:
        return None
    start = stop.before.rindex(stop.previous)
    return ParseError(f"found `{stop.previous}`, expected a statement", stop.span(start, len(stop.previous)), _LEADING[stop.previous])


def _found(stop: _Stop) -> str:
    if not stop.found:
        return "the file ends here"
    line = stop.span().line
    return f"found `{stop.found}`" if stop.place.line == line else f"found `{stop.found}` on line {line}"


_CHECKS: Final[tuple[Callable[[_Stop], ParseError | None], ...]] = (
    _operator,
    _number,
    _character,
    _subscript,
    _clause,
    _range,
    _bracket,
    _keyword,
)
