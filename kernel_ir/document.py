"""Turns a document, text with places to break, into lines no wider than asked where that can be (Wadler 2003, "A prettier printer")."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """A break: `flat` if its group fits on the line, else a new line at the current indent."""

    flat: str = " "


@dataclass(frozen=True, slots=True)
class Group:
    """Breaks all of its own lines or none."""

    body: "Doc"


@dataclass(frozen=True, slots=True)
class Align:
    """New lines inside start at the column where this starts, plus `by`."""

    body: "Doc"
    by: int = 0


@dataclass(frozen=True, slots=True)
class Nest:
    """New lines inside are indented by `by` more."""

    body: "Doc"
    by: int = 2


Doc = str | Line | Group | Align | Nest | tuple["Doc", ...]

_Item = tuple[int, bool, Doc]


def render(doc: Doc, width: int, indent: int = 0) -> str:
    """The document as text, its first line taken to start at column `indent`.

    >>> render(Group(("f(", Align(("a,", Line(), "b")), ")")), 5)
    'f(a,\\n  b)'
    """
    out: list[str] = []
    column = indent
    stack: list[_Item] = [(indent, False, doc)]
    while stack:
        at, flat, top = stack.pop()
        match top:
            case str():
                out.append(top)
                column += len(top)
            case Line():
                if flat:
                    out.append(top.flat)
                    column += len(top.flat)
                else:
                    out.append("\n" + " " * at)
                    column = at
            case Group():
                stack.append((at, flat or _fits(top.body, stack, width - column), top.body))
            case Align():
                stack.append((column + top.by, flat, top.body))
            case Nest():
                stack.append((at + top.by, flat, top.body))
            case tuple():
                stack.extend((at, flat, part) for part in reversed(top))
    return "".join(out)


def _fits(doc: Doc, rest: list[_Item], room: int) -> bool:
    """Whether `doc` on one line, and what follows it up to the next break, takes at most `room` columns."""
    stack: list[tuple[bool, Doc]] = [(True, doc)]
    below = len(rest)
    while room >= 0:
        if not stack:
            if below == 0:
                return True
            below -= 1
            _, flat, following = rest[below]
            stack.append((flat, following))
            continue
        flat, top = stack.pop()
        match top:
            case str():
                room -= len(top)
            case Line():
                if not flat:
                    return True
                room -= len(top.flat)
            case Group():
                stack.append((flat, top.body))
            case Align() | Nest():
                stack.append((flat, top.body))
            case tuple():
                stack.extend((flat, part) for part in reversed(top))
    return False


def fill(parts: "list[Doc]", separator: str = ",") -> Doc:
    """The parts with `separator` after each but the last, breaking only where the next does not fit."""
    if not parts:
        return ""
    spaced: list[Doc] = [parts[0]]
    for part in parts[1:]:
        spaced += [separator, Group((Line(), part))]
    return tuple(spaced)
