"""Turns the op table into the e-graph's declarations: sorts, one constructor a node kind, analyses, and the rules of `free`.

The columns of a constructor are `i64` (a dtype code), `String`, `X` (an index variable or a fold's carry), `A` (an array) and `E`
(an expression); `SIGNATURES` lists them all, and encoder, extractor, decoder and rule compiler read it.
"""

from collections.abc import Collection, Iterator
from typing import Final

from kernel_ir.dtypes import BOOL, F32, F64, I32, I64, DType
from kernel_ir.ops import OPS, REDUCTIONS, Op

CODES: Final[dict[str, int]] = {"bool": 0, "i32": 1, "i64": 2, "f32": 3, "f64": 4}
DTYPES_BY_CODE: Final[tuple[DType, ...]] = (BOOL, I32, I64, F32, F64)
MAX_RANK: Final = 8
MAX_CARRIES: Final = 8
RULESETS: Final = ("analysis", "index", "shrink", "explore", "select")
PROVENANCE: Final = "src_"
"""Prefix of the tables that tell which rule first made an e-node: 0 for the input's own, else the rule's number."""

VIA: Final = "via"
"""The table that tells which rule first found that a class has a form which was there already (`x * 1 => x` makes no e-node)."""


def class_letter(dtype: DType) -> str:
    """The letter of a dtype's operator family: f, i or b.

    >>> class_letter(F32), class_letter(I64), class_letter(BOOL)
    ('f', 'i', 'b')
    """
    return "f" if dtype.is_float else "b" if dtype is BOOL else "i"


def op_constructor(op: Op, dtype: DType) -> str:
    """The constructor of an op whose type variable is `dtype` (for a cast: whatever it reads).

    >>> op_constructor(OPS["add"], F32), op_constructor(OPS["lt"], I64), op_constructor(OPS["f16"], F32)
    ('f_add', 'i_lt', 'c_f16')
    """
    return f"c_{op.name}" if op.cast is not None else f"{class_letter(dtype)}_{op.name}"


def _op_rows() -> Iterator[tuple[str, Op]]:
    for op in OPS.values():
        yield from ((name, op) for name in dict.fromkeys(op_constructor(op, t) for t in op.types.value))


OP_OF_CONSTRUCTOR: Final[dict[str, Op]] = dict(_op_rows())

SIGNATURES: Final[dict[str, tuple[str, ...]]] = {
    "Lit": ("i64", "i64"),
    "Size": ("String",),
    "Par": ("String", "i64"),
    "Ix": ("X",),
    "Loc": ("X", "i64"),
    **{name: ("i64", *("E" for _ in range(op.arity))) for name, op in OP_OF_CONSTRUCTOR.items()},
    **{f"Load{n}": ("i64", "A", *("E" for _ in range(n))) for n in range(MAX_RANK + 1)},
    **{f"LoadElse{n}": ("i64", "A", *("E" for _ in range(n + 1))) for n in range(MAX_RANK + 1)},
    **{f"R_{kind}": ("i64", "X", "E", "E", *("EE" if kind == "expsum" else "E")) for kind in REDUCTIONS},
    **{f"Fold{n}": ("i64", "String", "X", "E", "E", *("X" * n), *("E" * n), "E", *("E" * n)) for n in range(1, MAX_CARRIES + 1)},
}
"""Columns of every constructor of sort E."""
PARTS: Final[dict[str, tuple[int, ...]]] = {name: tuple(n for n, s in enumerate(c) if s == "E") for name, c in SIGNATURES.items()}
"""The columns of each constructor that hold expressions."""


def result_dtype(name: str, code: int) -> DType:
    """The dtype of a node's value, from its constructor and its dtype column."""
    if name in ("Size", "Ix", "R_argmax", "R_argmin"):
        return I64
    op = OP_OF_CONSTRUCTOR.get(name)
    if op is None:
        return DTYPES_BY_CODE[code]
    letters = op.signature.partition("->")[0]
    dtype = DTYPES_BY_CODE[code]
    result = op.result(tuple({"T": dtype, "b": BOOL, "i": I64, "x": dtype}[letter] for letter in letters))
    assert result is not None, f"{name} does not exist for {dtype}"
    return result


SOUND: Final = '(rule ((= e (Lit t a)) (= e (Lit t b)) (!= a b){}) ((panic "two numbers are one")) :ruleset analysis :name "sound")'


def declarations(names: Collection[str] | None = None, exact: bool = True) -> tuple[str, ...]:
    """Declarations as egglog text, one command each: tables, rulesets, and the rules that every e-graph has.

    `names` are the constructors to declare: all by default. Without `exact`, floats that differ may be in one class: fast-math
    equates forms that fold to neighbours.
    """
    return (*tables(names), *(f"(ruleset {name})" for name in RULESETS), *always(names, exact))


def tables(names: Collection[str] | None = None) -> tuple[str, ...]:
    """Sorts, constructors, analyses and provenance tables; `names` are the constructors to declare."""
    signatures = _declared(names)
    return (
        "(sort E)",
        "(sort X)",
        "(sort A)",
        "(constructor Named (String) X)",
        "(constructor Arg (String) A)",
        "(constructor Root (i64) E)",
        *(f"(constructor {name} ({' '.join(columns)}) E)" for name, columns in signatures.items()),
        "(function bit (X) i64 :no-merge)",
        "(function free (E) i64 :merge (& old new))",
        "(function lo (E) i64 :merge (max old new))",
        "(function hi (E) i64 :merge (min old new))",
        *(f"(relation {name} (E))" for name in ("NotNan", "Finite", "NonNeg", "NonZero", "Positive")),
        "(relation Lt (E E))",
        "(relation Le (E E))",
        "(function XLo (X) E :merge old)",
        "(function XHi (X) E :merge old)",
        f"(function {VIA} (E) i64 :merge old)",
        *(f"(function {PROVENANCE}{name} ({' '.join(columns)}) i64 :merge old)" for name, columns in signatures.items()),
    )


def always(names: Collection[str] | None = None, exact: bool = True) -> tuple[str, ...]:
    """The rules that every e-graph of these constructors has: `free`, and that no two numbers are one."""
    signatures = _declared(names)
    return (
        *(_free_rule(name, columns) for name, columns in signatures.items()),
        # Two numbers in one class: a rule lied. Nothing extracted from such a graph may be used.
        *((SOUND.format("" if exact else " (<= t 2)"),) if "Lit" in signatures else ()),
    )


def _declared(names: Collection[str] | None) -> dict[str, tuple[str, ...]]:
    return {name: columns for name, columns in SIGNATURES.items() if names is None or name in names}


def _free_rule(name: str, columns: tuple[str, ...]) -> str:
    """`free` of a node: its children's, less the bits of what it binds."""
    args = [f"a{i}" for i in range(len(columns))]
    of = {i: f"f{i}" for i, sort in enumerate(columns) if sort == "E"}
    facts = [f"(= f{i} (free a{i}))" for i in of]
    xs = [i for i, sort in enumerate(columns) if sort == "X"]
    facts += [f"(= b{i} (bit a{i}))" for i in xs]
    if name in ("Ix", "Loc"):
        # A variable brings along those that its range depends on: where they are bound anew, it has no place.
        facts += ["(= l (free (XLo a0)))", "(= h (free (XHi a0)))"]
        mask = _union(["b0", "l", "h"])
    elif not xs:
        mask = _union(list(of.values()))
    else:
        carries = len(xs) - 1
        outside = [of[i] for i in list(of)[: 2 + carries]]
        inside = [of[i] for i in list(of)[2 + carries :]]
        bound = _union([f"b{i}" for i in xs])
        mask = _union([*outside, f"(& {_union(inside)} (not-i64 {bound}))"])
    node = f"(= e ({name} {' '.join(args)}))"
    return f'(rule ({node} {" ".join(facts)}) ((set (free e) {mask})) :ruleset analysis :name "free {name}")'


def _union(masks: list[str]) -> str:
    text = masks[0] if masks else "0"
    for mask in masks[1:]:
        text = f"(| {text} {mask})"
    return text
