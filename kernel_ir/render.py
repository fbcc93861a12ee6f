"""Turns syntax into text in the style of the language's own files, with as few parentheses as precedence allows."""

from collections.abc import Sequence
from typing import Final

from kernel_ir.document import Align, Doc, Group, Line, Nest, fill, render
from kernel_ir.ops import AND, COMPARE, NOT, OPS, POWER, SELECT, SUM, UNARY
from kernel_ir.ops import OR as OR_LEVEL
from kernel_ir.syntax import (
    Absent,
    AssignSyntax,
    Binary,
    CallSyntax,
    Compare,
    ConstSyntax,
    Expanded,
    FnSyntax,
    FoldSyntax,
    Guard,
    Index,
    KernelSyntax,
    Name,
    Number,
    ParamSyntax,
    Range,
    ReduceSyntax,
    RepeatSyntax,
    RuleSyntax,
    Select,
    StatementSyntax,
    SyntaxExpr,
    Unary,
)
from kernel_ir.syntax import Group as Parens

WIDTH: Final = 120
"""Columns of a line, where breaking can keep to them."""

ATOM: Final = POWER + 1
_LEVELS: Final = {op.symbol: op.precedence for op in OPS.values() if op.symbol and op.arity == 2 and op.name != "powi"} | {
    "and": AND,
    "or": OR_LEVEL,
}


def level(e: SyntaxExpr) -> int:
    """How tightly the outermost operator of `e` binds."""
    match e:
        case Expanded():
            return level(e.body)
        case Select():
            return SELECT
        case Compare():
            return COMPARE
        case Unary():
            return NOT if e.op == "not" else UNARY
        case Binary():
            return _LEVELS[e.op]
        case Number(value=value, text=""):
            return UNARY if str(value).startswith("-") else ATOM
        case _:
            return ATOM


def at(e: SyntaxExpr, least: int, tight: bool = False) -> Doc:
    """The document of `e`, in parentheses where it binds less tightly than `least`."""
    if level(e) < least:
        return ("(", Align(expr(e)), ")")
    return expr(e, tight)


def expr(e: SyntaxExpr, tight: bool = False) -> Doc:
    """The document of an expression; `tight` writes `i-1` for `i - 1` where both sides are plain."""
    match e:
        case Number():
            return e.text or number_text(e.value)
        case Name():
            return e.name
        case Parens():
            return ("(", Align(expr(e.body)), ")")
        case Expanded():
            return expr(e.body, tight)
        case Index():
            default: Doc = () if e.default is None else (Group((Line(), "else ")), expr(e.default))
            return (e.array.name, "[", Align((fill([expr(i, True) for i in e.indices]), default)), "]")
        case Unary():
            gap = " " if e.op == "not" else ""
            return (e.op, gap, at(e.operand, level(e)))
        case Binary(op="**"):
            return (at(e.left, ATOM), " ** ", at(e.right, UNARY))
        case Binary():
            return _chain(e, tight)
        case Compare():
            parts: list[Doc] = [at(e.operands[0], COMPARE + 1)]
            for op, operand in zip(e.ops, e.operands[1:], strict=True):
                parts.append(Group((Line(), op, " ", at(operand, COMPARE + 1))))
            return tuple(parts)
        case Select():
            return (
                at(e.then, SELECT + 1),
                Group((Line(), "if ", at(e.condition, SELECT + 1))),
                Group((Line(), "else ", expr(e.otherwise))),
            )
        case CallSyntax():
            return (e.function.name, "(", Align(fill([expr(a) for a in e.args])), ")")
        case ReduceSyntax():
            return (e.kind.name, "(", Align((fill([range_doc(r) for r in e.ranges]), ":", _after_colon(e.bodies))), ")")
        case FoldSyntax():
            carries: list[Doc] = [(c.name.name, " = ", expr(c.init)) for c in e.carries]
            condition: Doc = () if e.condition is None else (Group((Line(), "while ", expr(e.condition))),)
            return ("fold(", Align((fill([range_doc(e.range), *carries]), condition, ":", _after_colon(e.updates))), ").", e.result.name)


def _after_colon(bodies: tuple[SyntaxExpr, ...]) -> Doc:
    first, *rest = (expr(b) for b in bodies)
    return (Group((Line(), Align(first))), *(x for b in rest for x in (",", Group((Line(), Align(b))))))


def _chain(e: Binary, tight: bool) -> Doc:
    """A run of operators of one level, `a + b - c`, with a break before each."""
    plain = (Number, Name)
    if tight and e.op in ("+", "-", "*") and isinstance(e.left, plain) and isinstance(e.right, plain) and level(e.right) == ATOM:
        return (expr(e.left), e.op, expr(e.right))
    rank = level(e)
    left: SyntaxExpr = e
    parts: list[Doc] = []
    while isinstance(left, Binary) and level(left) == rank and left.op != "**":
        # A product stays whole where it can; a sum breaks before its operators.
        parts.append(Group((Line(), left.op, " ", at(left.right, rank + 1))))
        left = left.left
    return (at(left, rank), *reversed(parts)) if rank <= SUM else Group((at(left, rank), *reversed(parts)))


def number_text(value: int | float) -> str:
    """A number as the grammar reads it back to the same value."""
    text = repr(value)
    return text if isinstance(value, int) or any(c in text for c in ".en") else f"{text}.0"


def range_doc(r: Range) -> Doc:
    """The document of a range, or of the index alone."""
    if r.lo is None or r.hi is None:
        return r.index.name
    return (r.index.name, " in ", at(r.lo, SELECT + 1, True), "..", at(r.hi, SELECT + 1, True))


def param(p: ParamSyntax) -> Doc:
    """The document of a parameter or an output."""
    shape: Doc = ("[", Align(fill([expr(x, True) for x in p.shape])), "]") if p.shape else ()
    layout = f" @ {p.layout.name}" if p.layout else ""
    return ("inout " if p.inout else "", p.name.name, ": ", p.dtype.name, shape, layout)


def header(k: KernelSyntax) -> Doc:
    """The first lines of a kernel, up to its brace."""
    outputs: Doc = (Group((Line(), "-> (", Align(fill([param(p) for p in k.outputs])), ")")),) if k.outputs else ()
    facts: Doc = (Group((Line(), "where ", Align(fill([expr(f) for f in k.facts])))),) if k.facts else ()
    return Nest(("kernel ", k.name.name, "(", Align(fill([param(p) for p in k.params])), ")", outputs, facts, " {"))


def assign(s: AssignSyntax, width: int = 0) -> Doc:
    """The document of an assignment; its target is padded to `width`."""
    target: Doc = (s.target.name, "[", fill([expr(i, True) for i in s.indices]), "]") if s.indices else s.target.name
    pad = " " * (width - len(flat(target)))
    return (target, pad, f" {s.op} ", Align(expr(s.value)), Nest(_domain(s), 4))


def _domain(s: AssignSyntax) -> Doc:
    if s.otherwise is not None:
        return Group((Line(), "otherwise"))
    ranges: Doc = (Group((Line(), "for ", Align(fill([range_doc(r) for r in s.ranges])))),) if s.ranges else ()
    where: Doc = () if s.where is None else (Group((Line(), "where ", Align(expr(s.where)))),)
    return (ranges, where)


def const_doc(c: ConstSyntax) -> Doc:
    """The document of a constant."""
    return ("const ", c.name.name, " = ", Align(expr(c.value)))


def fn_doc(f: FnSyntax) -> Doc:
    """The document of a function."""
    return ("fn ", f.name.name, "(", ", ".join(p.name for p in f.params), ") = ", Align(expr(f.body)))


def schedule_lines(kernel: str, target: str, choices: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A schedule as text, a choice a line."""
    lines = (f"  {key} = {', '.join(values)}" for key, values in choices)
    return "\n".join((f"schedule {kernel} on {target} {{", *lines, "}"))


def rule_doc(r: RuleSyntax) -> Doc:
    """The document of a rule."""
    name, lhs, *rest = rule_cells(r)
    return (name, " ", Align((lhs, *(Group((Line(), cell)) for cell in rest if cell))))


def rule_cells(r: RuleSyntax) -> tuple[str, ...]:
    """The parts of a rule, each on one line: name, both sides, types, guards, flags and error; empty where it has none."""
    return (
        f"rule {r.name}:",
        flat(at(r.lhs, SELECT + 1)),
        ("<=> " if r.both else "=> ") + flat(at(r.rhs, SELECT + 1)),
        "on " + ", ".join(r.on) if r.on else "",
        "if " + ", ".join(flat(guard(g)) for g in r.guards) if r.guards else "",
        "needs " + ", ".join(r.needs) if r.needs else "",
        f"within {r.within.error!r} {r.within.unit}".rstrip() if r.within else "",
    )


def guard(g: Guard) -> Doc:
    """The document of a guard."""
    return f"{g.index.name} not in {g.variable.name}" if isinstance(g, Absent) else expr(g)


def flat(doc: Doc) -> str:
    """The document on one line."""
    return render(Group(doc), 10**9)


def text(doc: Doc, indent: int = 0) -> str:
    """The document within the width, its first line starting at column `indent`."""
    return " " * indent + render(doc, WIDTH, indent)


def kernel_text(k: KernelSyntax) -> str:
    """A kernel as text, without a newline at its end."""
    return "\n".join((text(header(k)), *statement_lines(k.body, 2), "}"))


def statement_lines(body: tuple[StatementSyntax, ...], indent: int) -> list[str]:
    """The lines of statements."""
    lines: list[str] = []
    for s in body:
        if isinstance(s, RepeatSyntax):
            lines += [text(repeat_header(s), indent), *statement_lines(s.body, indent + 2), " " * indent + "}"]
        else:
            lines.append(text(assign(s), indent))
    return lines


def repeat_header(s: RepeatSyntax) -> Doc:
    """The first line of a `repeat`."""
    index = f"{s.index.name} in " if s.index else ""
    return ("repeat ", index, expr(s.steps), " {")
