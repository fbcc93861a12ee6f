"""Printing: every kernel's text parses back to the very kernel, and prints the same again."""

import math
import random

import pytest

from kernel_ir.check import derived
from kernel_ir.dtypes import BOOL, F32, F64, I32, I64, DType
from kernel_ir.nodes import (
    ArrayType,
    Assign,
    Binder,
    Call,
    Carry,
    Const,
    Expr,
    Fold,
    IndexRef,
    Kernel,
    Load,
    Local,
    Param,
    ParamRef,
    Reduce,
    SizeRef,
    const,
)
from kernel_ir.ops import OPS, REDUCTIONS, Types
from kernel_ir.parser import parse
from kernel_ir.printer import expr_text, kernel_text
from tests.conftest import PUBLIC, kernel

ARITHMETIC = (BOOL, I32, I64, F32, F64)
M, N = SizeRef("M"), SizeRef("N")
ZERO = const(0, I64)
PARAMS = tuple(Param(f"s{t}", ArrayType(t, ())) for t in ARITHMETIC) + tuple(Param(f"x{t}", ArrayType(t, (M, N))) for t in ARITHMETIC)
VALUES = (0.0, -0.0, 1.0, -1.0, 0.1, 1e-45, 3.4e38, 1e22, 16777217.0, math.inf, -math.inf, math.nan, math.pi, -2.5e-7)
WHOLE = (0, 1, -1, 2, 7, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))


class Draw:
    """Random well-typed core expressions; `scope` holds the index names and the carried values in reach."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names = 0

    def fresh(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def expr(self, dtype: DType, indices: tuple[str, ...], carried: tuple[Local, ...], depth: int) -> Expr:
        leaves = (self.const, self.param, self.index, self.local)
        kinds = leaves if depth <= 0 else (*leaves, self.load, self.call, self.call, self.call, self.cast, self.reduce, self.fold)
        return self.random.choice(kinds)(dtype, indices, carried, depth)

    def const(self, dtype: DType, *_: object) -> Const:
        if dtype is BOOL:
            return const(self.random.random() < 0.5, BOOL)
        return const(self.random.choice(VALUES if dtype.is_float else WHOLE), dtype)

    def param(self, dtype: DType, *_: object) -> Expr:
        return ParamRef(f"s{dtype}", dtype)

    def index(self, dtype: DType, indices: tuple[str, ...], *_: object) -> Expr:
        whole = self.random.choice((M, N, *map(IndexRef, indices)))
        return whole if dtype is I64 else Call(dtype.name, (whole,), dtype)

    def local(self, dtype: DType, indices: tuple[str, ...], carried: tuple[Local, ...], depth: int) -> Expr:
        fitting = [c for c in carried if c.dtype is dtype]
        return self.random.choice(fitting) if fitting else self.param(dtype)

    def load(self, dtype: DType, indices: tuple[str, ...], carried: tuple[Local, ...], depth: int) -> Expr:
        at = tuple(self.expr(I64, indices, carried, depth - 2) for _ in range(2))
        return Load(f"x{dtype}", at, dtype, self.expr(dtype, indices, carried, depth - 1))

    def call(self, dtype: DType, indices: tuple[str, ...], carried: tuple[Local, ...], depth: int) -> Expr:
        rows = [
            op
            for op in OPS.values()
            if op.cast is None and ((op.signature[-1] == "b") == (dtype is BOOL) or (op.signature[-1] == "T" and op.types is Types.ANY))
        ]
        rows = [op for op in rows if op.signature[-1] == "b" or dtype in op.types]
        op = self.random.choice(rows)
        variable = dtype if op.signature[-1] == "T" else self.random.choice(op.types.value)
        if op.name == "powi":
            low = -3 if dtype.is_float else 0
            return Call("powi", (self.expr(dtype, indices, carried, depth - 1), const(self.random.randint(low, 4), I64)), dtype)
        letters = op.signature.partition("->")[0]
        args = tuple(self.expr(BOOL if c == "b" else variable, indices, carried, depth - 1) for c in letters)
        return Call(op.name, args, dtype)

    def cast(self, dtype: DType, indices: tuple[str, ...], carried: tuple[Local, ...], depth: int) -> Expr:
        casts = [op for op in OPS.values() if op.cast is not None and op.cast.reads_as == dtype.name]
        return Call(self.random.choice(casts).name, (self.expr(self.random.choice(ARITHMETIC), indices, carried, depth - 1),), dtype)

    def binder(self, indices: tuple[str, ...], carried: tuple[Local, ...], depth: int) -> Binder:
        bounds = ((ZERO, N), (ZERO, M), (const(1, I64), N), (ZERO, Call("add", (N, const(1, I64)), I64)))
        lo, hi = self.random.choice(bounds)
        if indices and self.random.random() < 0.3:
            hi = Call("add", (IndexRef(self.random.choice(indices)), const(1, I64)), I64)
        return Binder(self.fresh(), lo, hi)

    def reduce(self, dtype: DType, indices: tuple[str, ...], carried: tuple[Local, ...], depth: int) -> Expr:
        rows = [r for r in REDUCTIONS.values() if dtype in r.types and not r.name.startswith("arg")]
        row = self.random.choice(rows)
        binders: list[Binder] = []
        for _ in range(self.random.choice((1, 1, 2))):
            binders.append(self.binder(indices, carried, depth))
            indices = (*indices, binders[-1].index)
        bodies = [self.expr(dtype, indices, carried, depth - 1) for _ in range(2 if row.name == "expsum" else 1)]
        if dtype is not BOOL and self.random.random() < 0.5:
            bare = Load(f"x{dtype}", (IndexRef(binders[-1].index), IndexRef(binders[0].index)), dtype, self.const(dtype))
            bodies[0] = Call("add", (bodies[0], bare), dtype)
        return Reduce(row.name, tuple(binders), tuple(bodies), dtype)

    def fold(self, dtype: DType, indices: tuple[str, ...], carried: tuple[Local, ...], depth: int) -> Expr:
        dtypes = (dtype, *(self.random.choice(ARITHMETIC) for _ in range(self.random.randint(0, 2))))
        locals_ = tuple(Local(self.fresh(), t) for t in dtypes)
        inits = [self.expr(t, indices, carried, depth - 1) for t in dtypes]
        binder = self.binder(indices, carried, depth)
        inner, reach = (*indices, binder.index), (*carried, *locals_)
        carries = tuple(Carry(c.name, init, self.expr(c.dtype, inner, reach, depth - 1)) for c, init in zip(locals_, inits, strict=True))
        condition = self.expr(BOOL, inner, reach, depth - 1) if self.random.random() < 0.5 else None
        return Fold(binder, carries, condition, locals_[0].name, dtype)

    def kernel(self) -> Kernel:
        dtype, temp = self.random.choice(ARITHMETIC), self.random.choice(ARITHMETIC)
        at = (IndexRef("i"), IndexRef("j"))
        binders = (Binder("i", ZERO, M), Binder("j", ZERO, N))
        first = Assign("t", at[:1], "=", self.expr(temp, ("i",), (), 3), (Binder("i", ZERO, M),))
        scalar = Assign("c", (), "=", self.expr(dtype, (), (), 3), ())
        value = self.expr(dtype, ("i", "j"), (), 4)
        if temp is dtype:
            value = Call("select", (ParamRef("sbool", BOOL), value, Load("t", at[:1], temp)), dtype)
        value = Call("select", (ParamRef("sbool", BOOL), value, Load("c", (), dtype)), dtype)
        body = (first, scalar, Assign("y", at, "=", value, binders))
        temps = (Param("t", ArrayType(temp, (M,))), Param("c", ArrayType(dtype, ())))
        return derived(Kernel("drawn", PARAMS, (Param("y", ArrayType(dtype, (M, N))),), (), body, ("M", "N"), temps))


@pytest.mark.parametrize("name", PUBLIC)
def test_public_kernels_read_back(name: str) -> None:
    k = kernel(name)
    text = kernel_text(k)
    again = parse(text)[name]
    assert again == k
    assert kernel_text(again) == text


@pytest.mark.parametrize("block", range(20))
def test_drawn_kernels_read_back(block: int) -> None:
    for seed in range(block * 15, block * 15 + 15):
        k = Draw(seed).kernel()
        text = kernel_text(k)
        again = parse(text)["drawn"]
        assert again == k, text
        assert kernel_text(again) == text


@pytest.mark.parametrize("dtype", (F32, F64), ids=str)
@pytest.mark.parametrize("value", VALUES)
def test_float_literals_keep_their_bits(value: float, dtype: DType) -> None:
    k = Kernel("c", (), (Param("y", ArrayType(dtype, ())),), (), (Assign("y", (), "=", const(value, dtype), ()),), (), ())
    assert parse(kernel_text(k))["c"] == k


ONE, F = const(1.0, F64), Local("a", F64)
EXPRESSIONS = (
    (Call("neg", (ONE,), F64), "-(1.0)"),
    (const(-1.0, F64), "-1.0"),
    (Call("powi", (const(-1.0, F64), const(-2, I64)), F64), "(-1.0) ** -2"),
    (Call("neg", (Call("powi", (F, const(2, I64)), F64),), F64), "-a ** 2"),
    (Call("sub", (F, Call("sub", (F, ONE), F64)), F64), "a - (a - 1.0)"),
    (Call("mul", (Call("add", (F, ONE), F64), F), F64), "(a + 1.0) * a"),
    (Call("select", (Call("lt", (F, ONE), BOOL), F, ONE), F64), "a if a < 1.0 else 1.0"),
    (Call("not", (Call("and", (Call("lt", (F, ONE), BOOL), const(True, BOOL)), BOOL),), BOOL), "not (a < 1.0 and true)"),
    (const(0.1, F32), "f32(0.1)"),
    (Call("f32", (const(0.1, F64),), F32), "f32(f64(0.1))"),
    (Call("div", (Load("x", (), F32), Call("f32", (N,), F32)), F32), "x / N"),
    (Load("x", (Call("sub", (IndexRef("i"), const(1, I64)), I64),), F32, const(0.0, F32)), "x[i-1 else 0.0]"),
)


@pytest.mark.parametrize(("e", "text"), EXPRESSIONS, ids=[t for _, t in EXPRESSIONS])
def test_expression_text(e: Expr, text: str) -> None:
    assert expr_text(e) == text
