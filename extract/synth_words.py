"""Turns trees of the enumeration into rules: text in the language of the books, typed as the books' own."""

from typing import Final

from extract.synth_trees import Leaf, Node, Sort, Tree, leaves, size
from kernel_ir.dtypes import BOOL, F32, I64, DType
from kernel_ir.ops import OPS, Types
from kernel_ir.surface import NOWHERE
from rewrites.pattern import Apply, Lit, Pattern, Var
from rewrites.rule import Rule

_UNARY: Final = {"neg": "-", "not": "not ", "bnot": "~"}


def text(tree: Tree) -> str:
    """The term, in parentheses wherever it is an operator."""
    root = tree[0]
    if len(tree) == 1:
        return root.text
    op, parts = OPS[root.op], [text(part) for part in tree[1:]]
    if root.op in _UNARY:
        return f"({_UNARY[root.op]}{parts[0]})"
    if root.op == "powi":
        return f"({parts[0]} ** {root.exponent})"
    if root.op == "select":
        return f"({parts[1]} if {parts[0]} else {parts[2]})"
    return f"({parts[0]} {op.symbol} {parts[1]})" if op.symbol else f"{root.op}({', '.join(parts)})"


def rule_of(small: Tree, large: Tree, kind: str) -> Rule | None:
    """The rule that leads from the larger term to the smaller one, or both ways if they are as large; None if neither binds the other.

    `kind` says what numbers are: "float", "int", or "" where there are none.
    """
    names = [{leaf.text for leaf in leaves(tree) if leaf.value is None} for tree in (small, large)]
    if not names[0] <= names[1] or len(large) == 1:
        return None
    both = names[0] == names[1] and size(small) == size(large) and len(small) > 1 and sorted(_ops(small)) != sorted(_ops(large))
    arrow, clause = "<=>" if both else "=>", f" on {kind}" if kind else ""
    line = f"rule r: {text(large)} {arrow} {text(small)}{clause}"
    narrow = any(op in ("f16", "bf16") for op in (*_ops(small), *_ops(large)))
    numbers = (F32,) if narrow else Types.INT.value if kind == "int" else Types.FLOAT.value
    types = [(BOOL,), (I64,), numbers]
    lhs, rhs = _pattern(large, types), _pattern(small, types)
    return Rule("r", "found", lhs, rhs, both, tuple(types), (), frozenset(), line, NOWHERE)


TRUTH: Final = 0
EXPONENT: Final = 1
NUMBER: Final = 2
"""Type variables, numbered as `elaborate` numbers those that every rule has."""


def _pattern(tree: Tree, types: list[tuple[DType, ...]]) -> Pattern:
    root, *parts = tree
    if isinstance(root, Leaf):
        kind = _type(root.sort)
        return Var(root.text, kind) if root.value is None else Lit(bool(root.value) if kind == TRUTH else root.value, kind)
    args = tuple(_pattern(part, types) for part in parts)
    if root.exponent is not None:
        return Apply(root.op, (*args, Lit(root.exponent, EXPONENT)), NUMBER, NUMBER)
    if OPS[root.op].types is Types.BOOL:  # the type variable of a connective is its own: no argument has it
        types.append((BOOL,))
        return Apply(root.op, args, len(types) - 1, TRUTH)
    return Apply(root.op, args, NUMBER, _type(root.result))


def _type(sort: Sort) -> int:
    return TRUTH if sort == "b" else NUMBER


def _ops(tree: Tree) -> list[str]:
    return [tree[0].op, *(op for part in tree[1:] for op in _ops(part))] if len(tree) > 1 else []


def tree_of(p: Pattern, rule: Rule, kind: str) -> Tree | None:
    """The tree of a pattern where numbers are of the kind "float" or "int"; None if it has no tree (reductions, casts between types)."""
    match p:
        case Var() | Lit():
            truth = rule.types[p.type] == (BOOL,)
            if isinstance(p, Var):
                return (Leaf(p.name, "b" if truth else "x"),)
            value = str(p.value).lower() if truth else repr(float(p.value)) if kind == "float" else str(int(p.value))
            return (Leaf(value, "b" if truth else "x", p.value),)
        case Apply("powi", (base, Lit(value))):
            inner = tree_of(base, rule, kind)
            return None if inner is None else (Node("powi", int(value)), inner)
        case Apply() if OPS[p.op].cast is None and p.op != "powi":
            parts = [tree_of(a, rule, kind) for a in p.args]
            return None if None in parts else (Node(p.op), *parts)
        case _:
            return None
