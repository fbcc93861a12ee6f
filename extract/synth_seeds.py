"""Turns kernels into candidates of their own: a term of a kernel, its reads and reductions made variables, and a smaller equal one."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy

from extract.synth_propose import Candidate, ranked
from extract.synth_terms import Enumeration, Workload
from extract.synth_trees import Leaf, Node, Tree, leaves, renamed, size
from extract.synth_values import REAL, REAL_POSITIVE, SMALL
from extract.synth_words import rule_of
from extract.synth_work import CONSTANTS, VARIABLES
from kernel_ir.dtypes import BOOL
from kernel_ir.nodes import Call, Const, Expr, Kernel
from kernel_ir.ops import OPS
from kernel_ir.walk import expressions, statements, subtrees

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype

MOST_VARIABLES: Final = 3
MOST_NODES: Final = 24
CHEAP: Final = ("neg", "abs", "sqrt", "rsqrt", "tanh", "exp", "expm1", "log1p", "max", "min")
"""Functions in which a term may be said anew, whether or not it has them."""


def seeds(kernels: Iterable[Kernel], seed: int = 0) -> tuple[Candidate, ...]:
    """A candidate for each term of the kernels that has a smaller form among small terms over its own ops and constants."""
    found: dict[str, Candidate] = {}
    for kernel in kernels:
        for e in (e for s in statements(kernel.body) for root in expressions(s) for e in subtrees(root)):
            for depth in (2, 3, 4, 6):
                tree = _abstract(e, depth)
                if tree is not None:
                    for one in _smaller(tree, e.dtype.is_float, seed):
                        found.setdefault(one.rule.text, one)
    return tuple(sorted(found.values(), key=lambda c: (c.rank, c.rule.text)))


def _abstract(e: Expr, depth: int) -> Tree | None:
    """The term down to a depth: below, and at what is no op, equal expressions are one variable. None if there are too many."""
    if not isinstance(e, Call) or e.dtype is BOOL:
        return None
    names: dict[Expr, Tree] = {}

    def build(x: Expr, left: int) -> Tree | None:
        if isinstance(x, Const):
            truth = x.dtype is BOOL
            text = str(bool(x.value)).lower() if truth else repr(float(x.value)) if x.dtype.is_float else str(int(x.value))
            return (Leaf(text, "b" if truth else "x", x.value),)
        if isinstance(x, Call) and left > 0 and OPS[x.op].cast is None and _one_type(x):
            if x.op == "powi":
                base = build(x.args[0], left - 1)
                exponent = x.args[1]
                return (Node("powi", int(exponent.value)), base) if base is not None and isinstance(exponent, Const) else None
            parts = [build(a, left - 1) for a in x.args]
            return None if None in parts else (Node(x.op), *parts)
        if x.dtype is BOOL or x.dtype.is_float != e.dtype.is_float:
            return None
        if x not in names:
            if len(names) == MOST_VARIABLES:
                return None
            names[x] = (VARIABLES[len(names)],)
        return names[x]

    tree = build(e, depth)
    return tree if tree is not None and len(tree) > 1 and 3 < size(tree) <= MOST_NODES and names else None


def _one_type(x: Call) -> bool:
    return all(a.dtype is BOOL or a.dtype.is_float == x.args[-1].dtype.is_float for a in x.args) or x.op == "powi"


def _smaller(tree: Tree, floating: bool, seed: int) -> Iterator[Candidate]:
    own = tuple(dict.fromkeys(_nodes(tree)))
    literals = {leaf for leaf in leaves(tree) if leaf.value is not None}
    variables = tuple(v for v in VARIABLES if v in set(leaves(tree)))
    usual = tuple(Leaf(repr(v), "x", v) for v in (0.0, 1.0, 2.0, 0.5)) if floating else tuple(Leaf(str(v), "x", v) for v in (0, 1, 2))
    constants = tuple(dict.fromkeys((*sorted((k for k in literals if k.sort == "x"), key=lambda k: k.text), *usual)))
    extra = tuple(Node(op) for op in CHEAP) if floating else (Node("min"), Node("max"))
    nodes = tuple(dict.fromkeys((*own, *extra)))
    truths = CONSTANTS if any(n.result == "b" or "b" in n.sorts for n in nodes) else ()
    for domain in (REAL, REAL_POSITIVE) if floating else (SMALL,):
        work = Workload(domain, nodes, (*variables, *constants[:5], *truths), min(size(tree) - 1, 5), limit=25_000)
        small = Enumeration(work, seed).smallest(tree)
        if small is not None and size(small) < size(tree):
            kind = "float" if floating else "int"
            pair = renamed(small, tree)
            rule = rule_of(*pair, kind)
            if rule is not None:
                yield Candidate(rule, *pair, kind, not domain.exact, ranked(domain, *pair))
                return


def _nodes(tree: Tree) -> Iterator[Node]:
    if len(tree) > 1:
        yield tree[0]
        for part in tree[1:]:
            yield from _nodes(part)
