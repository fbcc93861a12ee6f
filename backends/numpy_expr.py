"""Turns core expressions into NumPy text over whole index ranges: each index variable is an array axis, reductions are calls with `axis=`.

A `Code` knows its axes, outermost first; operands are aligned by inserting `None`, only where broadcasting does not do it by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from backends.host import stored_type
from kernel_ir.dtypes import ARITHMETIC, BOOL, F32, I64, DType
from kernel_ir.nodes import ArrayType, Binder, Call, Const, Expr, Fold, IndexRef, Load, Local, ParamRef, Reduce, SizeRef, const
from kernel_ir.ops import COMPARE, OPS, PRODUCT, SUM, UNARY

ATOM: Final = 20
"""Precedence of what needs no parentheses."""
_INFIX: Final = {"add", "sub", "mul", "div", "lt", "le", "gt", "ge", "eq", "ne", "band", "bor", "bxor"}
_CALLS: Final = {
    "and": "np.logical_and", "or": "np.logical_or", "not": "np.logical_not", "abs": "np.abs", "sign": "np.sign", "floor": "np.floor",
    "ceil": "np.ceil", "round": "np.rint", "trunc": "np.trunc", "sqrt": "np.sqrt", "min": "np.minimum", "max": "np.maximum",
    "fmin": "np.fmin", "fmax": "np.fmax", "cbrt": "np.cbrt", "exp": "np.exp", "exp2": "np.exp2", "expm1": "np.expm1", "log": "np.log",
    "log2": "np.log2", "log10": "np.log10", "log1p": "np.log1p", "sin": "np.sin", "cos": "np.cos", "tan": "np.tan", "asin": "np.arcsin",
    "acos": "np.arccos", "atan": "np.arctan", "atan2": "np.arctan2", "sinh": "np.sinh", "cosh": "np.cosh", "tanh": "np.tanh",
    "hypot": "np.hypot", "pow": "np.power", "floordiv": "floordiv", "mod": "mod", "shl": "shl", "shr": "shr", "fma": "fma",
    "erf": "erf", "powi": "powi",
}  # fmt: skip
HELPERS: Final = ("floordiv", "mod", "shl", "shr", "fma", "erf", "powi")


@dataclass(frozen=True, slots=True)
class Code:
    """An expression's text, its axes (index names, outermost first) and its precedence."""

    text: str
    axes: tuple[str, ...] = ()
    precedence: int = ATOM
    untransposed: "Code | None" = None

    def tight(self, least: int) -> str:
        """The text, in parentheses where it binds looser than `least`."""
        return self.text if self.precedence >= least else f"({self.text})"


@dataclass(slots=True)
class Axis:
    """An index variable in scope: its Python name, its range (core expressions where they are fixed), and the text of its start."""

    name: str
    lo: Expr | None
    hi: Expr | None
    start: str
    used: bool = False


@dataclass(slots=True)
class Writer:
    """Prints the expressions of one module: lines go to `lines`, helpers that are used into `helpers`."""

    arrays: Mapping[str, ArrayType]
    lines: list[str | tuple[str, Axis]] = field(default_factory=list[str | tuple[str, Axis]])
    helpers: dict[str, None] = field(default_factory=dict[str, None])
    order: list[str] = field(default_factory=list[str])
    axes: dict[str, Axis] = field(default_factory=dict[str, Axis])
    locals: dict[str, Code] = field(default_factory=dict[str, Code])
    taken: set[str] = field(default_factory=set[str])
    indent: int = 1

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def fresh(self, stem: str) -> str:
        """A Python name that nothing in this module has."""
        name, number = stem, 2
        while name in self.taken:
            name, number = f"{stem}_{number}", number + 1
        self.taken.add(name)
        return name

    def helper(self, name: str) -> str:
        self.helpers[name] = None
        return name

    # axes

    def enter(self, b: Binder) -> str | None:
        """Brings an index into scope; the text of its mask where its range depends on outer indices."""
        lo, hi = self.expr(b.lo), self.expr(b.hi)
        name = self.fresh(b.index)
        if not lo.axes and not hi.axes:
            axis = Axis(name, b.lo, b.hi, lo.text)
            first = "" if lo.text == "0" else f"{lo.text}, "
            definition = f"{name} = np.arange({first}{hi.text})"
        else:
            start, stop = lo.text, hi.text
            if lo.axes:
                start = self.fresh(f"{name}_lo")
                self.line(f"{start} = int(np.min({lo.text}, initial=0))")
            if hi.axes:
                stop = self.fresh(f"{name}_hi")
                self.line(f"{stop} = int(np.max({hi.text}, initial=0))")
            axis = Axis(name, b.lo if not lo.axes else None, None, start)
            definition = f"{name} = np.arange({'' if start == '0' else start + ', '}{stop})"
        self.lines.append(("    " * self.indent + definition, axis))
        self.axes[b.index] = axis
        self.order.append(b.index)
        here = Code(self.use(b.index), (b.index,))
        conditions = [self.infix(">=", COMPARE, here, lo)] if lo.axes else []
        conditions += [self.infix("<", COMPARE, here, hi)] if hi.axes else []
        if not conditions:
            axis.used = False
            return None
        self.locals[f"mask of {b.index}"] = self.both(conditions)
        return self.locals[f"mask of {b.index}"].text

    def use(self, index: str) -> str:
        """The Python name of an index array, which is then defined."""
        self.axes[index].used = True
        return self.axes[index].name

    def both(self, conditions: Sequence[Code]) -> Code:
        """The conjunction of masks."""
        total = conditions[0]
        for other in conditions[1:]:
            total = self.infix("&", OPS["band"].precedence, total, other)
        return total

    def masks(self, binders: Sequence[Binder]) -> list[Code]:
        """Enters the binders in order; the masks of those with dependent ranges."""
        return [self.locals[f"mask of {b.index}"] for b in binders if self.enter(b) is not None]

    def leave(self, binders: Sequence[Binder], before: Mapping[str, Axis]) -> None:
        """Takes the binders out of scope again."""
        for b in reversed(binders):
            self.order.pop()
            del self.axes[b.index]
            if b.index in before:
                self.axes[b.index] = before[b.index]

    def union(self, codes: Sequence[Code]) -> tuple[str, ...]:
        """All axes of the operands, in order of nesting."""
        wanted = {axis for c in codes for axis in c.axes}
        return tuple(dict.fromkeys(axis for axis in self.order if axis in wanted))

    def aligned(self, code: Code, axes: tuple[str, ...], full: bool = False) -> str:
        """The text with an axis for each of `axes`; leading ones may be left to broadcasting unless `full`."""
        if not code.axes or code.axes == axes or (not full and axes[len(axes) - len(code.axes) :] == code.axes):
            return code.text
        places = [":" if axis in code.axes else "None" for axis in axes]
        while not full and places and places[0] == "None":
            places.pop(0)
        # `x[:, None]`, for whatever axes follow, needs no trailing colons.
        while places and places[-1] == ":":
            places.pop()
        if not places:
            return code.text
        return f"{code.tight(ATOM)}[{', '.join(places)}]"

    def operand(self, code: Code, axes: tuple[str, ...], least: int) -> str:
        text = self.aligned(code, axes)
        return code.tight(least) if text == code.text else text

    def infix(self, symbol: str, precedence: int, a: Code, b: Code) -> Code:
        """`a symbol b`, left-associative."""
        axes = self.union((a, b))
        strict = precedence + 1 if precedence == COMPARE else precedence
        return Code(f"{self.operand(a, axes, strict)} {symbol} {self.operand(b, axes, precedence + 1)}", axes, precedence)

    def function(self, name: str, args: Sequence[Code]) -> Code:
        axes = self.union(args)
        return Code(f"{name}({', '.join(self.aligned(a, axes) for a in args)})", axes)

    # expressions

    def expr(self, e: Expr) -> Code:
        """The code of an expression."""
        match e:
            case Const():
                return Code(plain(e)) if e.dtype in (I64, BOOL) else Code(typed(e))
            case SizeRef(name=name) | ParamRef(name=name):
                return Code(name)
            case Local(name=name):
                return self.locals[name]
            case IndexRef(name=name):
                return Code(self.use(name), (name,)) if name in self.axes else self.locals[name]
            case Load():
                return self.load(e)
            case Call():
                return self.call(e)
            case Reduce():
                return self.reduce(e)
            case Fold():
                return self.fold(e)

    def call(self, e: Call) -> Code:
        op = OPS[e.op]
        if op.cast is not None:
            return self.cast(e.args[0], op.cast)
        args = [self.expr(a) for a in e.args]
        if e.op in _INFIX:
            # A literal beside an array takes the array's dtype.
            for n in (0, 1):
                other, literal = e.args[1 - n], e.args[n]
                if isinstance(literal, Const) and args[1 - n].axes and not isinstance(other, Const):
                    args[n] = Code(plain(literal), (), UNARY if plain(literal).startswith("-") else ATOM)
            return self.infix(op.symbol, op.precedence, args[0], args[1])
        match e.op:
            case "neg":
                return Code(f"-{args[0].tight(UNARY)}", args[0].axes, UNARY)
            case "bnot":
                return Code(f"~{args[0].tight(UNARY)}", args[0].axes, UNARY)
            case "powi" if isinstance(e.args[1], Const) and e.args[1].value == 2:
                return self.function("np.square", args[:1])
            case "rsqrt":
                return Code(f"{typed(const(1.0, e.dtype))} / np.sqrt({args[0].text})", args[0].axes, PRODUCT)
            case "select":
                return self.function("np.where", args)
            case _:
                name = _CALLS[e.op]
                return self.function(self.helper(name) if name in HELPERS else name, args)

    def cast(self, e: Expr, to: DType) -> Code:
        code = self.expr(e)
        if not code.axes and e.dtype in (I64, BOOL) and to in ARITHMETIC:
            return Code(f"{stored_type(to)}({code.text})")
        if e.dtype == to:
            return code
        if to in ARITHMETIC and (to.is_float or not e.dtype.is_float or to is BOOL):
            return Code(self.stored(code, e.dtype, to), code.axes)
        return self.read(Code(self.stored(code, e.dtype, to), code.axes), to)

    def stored(self, code: Code, source: DType, to: DType) -> str:
        """The text of a value as an array of storage type `to`."""
        if to == source:
            return code.text
        if to.name == "bf16":
            return f"{self.helper('to_bf16')}({code.text})"
        if to.is_int and source.is_float:
            widest = "np.int64" if to.reads_as == "i64" else "np.int32"
            return f"{self.helper('_saturate')}(np.asarray({code.text}), np.dtype({widest})).astype({stored_type(to)})"
        twice = f".astype({stored_type(to)}).astype({stored_type(source)})"
        if code.text.endswith(twice):  # rounded by a cast already
            return code.text.removesuffix(f".astype({stored_type(source)})")
        inner = code.tight(ATOM) if code.axes else f"np.asarray({code.text})"
        return f"{inner}.astype({stored_type(to)})"

    def read(self, code: Code, dtype: DType) -> Code:
        """What a read gives of stored elements."""
        if dtype in ARITHMETIC:
            return code
        if dtype.name == "bf16":
            return Code(f"{self.helper('from_bf16')}({code.text})", code.axes)
        arithmetic = {t.name: t for t in ARITHMETIC}[dtype.reads_as]
        return Code(f"{code.tight(ATOM)}.astype({stored_type(arithmetic)})", code.axes)

    def load(self, e: Load) -> Code:
        array = self.arrays[e.array]
        if not e.indices:
            return self.read(Code(f"{e.array}[()]"), array.dtype)
        view = self.view(e.array, e.indices) if e.default is None else None
        if view is not None:
            return self.read(view, array.dtype)
        indices = [self.expr(i) for i in e.indices]
        axes = self.union(indices)
        positions = ", ".join(self.aligned(i, axes) for i in indices)
        if e.default is None:
            return self.read(Code(f"{self.helper('at')}({e.array}, {positions})", axes), array.dtype)
        value = self.read(Code(f"{self.helper('at')}({e.array}, {positions})", axes), array.dtype)
        inside = Code(f"{self.helper('inside')}({e.array}, {positions})", axes)
        return self.function("np.where", [inside, value, self.expr(e.default)])

    def view(self, name: str, indices: Sequence[Expr]) -> Code | None:
        """The array sliced along whole axes, where every index is a plain one whose range provably lies inside."""
        pieces: list[str] = []
        axes: list[str] = []
        for index, extent in zip(indices, self.arrays[name].shape, strict=True):
            base, offset = shifted(index)
            if base is None:
                if not (isinstance(extent, Const) and 0 <= offset < int(extent.value)):
                    return None
                pieces.append(str(offset))
                continue
            if base not in self.axes or base in axes:
                return None
            piece = self.slice(self.axes[base], offset, extent)
            if piece is None:
                return None
            pieces.append(piece)
            axes.append(base)
        text = name if all(p == ":" for p in pieces) else f"{name}[{', '.join(pieces)}]"
        order = tuple(dict.fromkeys(axis for axis in self.order if axis in axes))
        if order == tuple(axes):
            return Code(text, order)
        plain = Code(text, tuple(axes))
        return Code(self.turned(plain, order), order, untransposed=plain)

    def slice(self, axis: Axis, offset: int, extent: Expr) -> str | None:
        """The slice for `index + offset`, None where it is not plain that it lies inside."""
        if not isinstance(axis.lo, Const) or axis.hi is None:
            return None
        (base, ahead), (whole, size) = constant_part(axis.hi), constant_part(extent)
        start, slack = int(axis.lo.value) + offset, size - ahead - offset
        if start < 0 or slack < 0 or base != whole:
            return None
        if start == 0 and slack == 0:
            return ":"
        length = self.expr(extent).tight(SUM)
        stop = "" if slack == 0 else f"{length} - {slack}" if slack == 1 else f"max({length} - {slack}, 0)"
        return f"{start or ''}:{stop}"

    # reductions and folds

    def reduce(self, e: Reduce) -> Code:
        before = dict(self.axes)
        masks = self.masks(e.binders)
        bodies = [self.expr(b) for b in e.bodies]
        inner = tuple(b.index for b in e.binders)
        result = self.reduced(e, bodies, masks, inner)
        self.leave(e.binders, before)
        return result

    def reduced(self, e: Reduce, bodies: list[Code], masks: list[Code], inner: tuple[str, ...]) -> Code:
        mask = self.both(masks) if masks else None
        if e.kind == "expsum":
            return self.expsum(e, bodies, mask, inner)
        if e.kind == "sum" and mask is None and e.dtype.is_float and isinstance(e.bodies[0], Call) and e.bodies[0].op == "mul":
            product = self.contraction([self.expr(a) for a in e.bodies[0].args], inner)
            if product is not None:
                return product
        body = self.spread(bodies[0], inner, mask)
        return self.over(e.kind, body, mask, inner, e.dtype, e.bodies[0].dtype)

    def over(
        self, kind: str, body: Code, mask: Code | None, inner: tuple[str, ...], dtype: DType, source: DType, keep: bool = False
    ) -> Code:
        """The reduction call over the inner axes of `body`."""
        outer = tuple(axis for axis in body.axes if axis not in inner)
        where = f", where={self.aligned(mask, body.axes)}" if mask is not None else ""
        axis = _axis_text(len(inner), not outer and not keep)
        kept = ", keepdims=True" if keep else ""
        match kind:
            case "sum" | "prod":
                exact = f", dtype={stored_type(dtype)}" if dtype.is_int else ""
                text = f"np.{kind}({body.text}{axis}{exact}{where}{kept})"
            case "max" | "min":
                text = f"np.{kind}({body.text}{axis}, initial={limit(source, kind)}{where}{kept})"
            case "any" | "all":
                text = f"np.{kind}({body.text}{axis}{where})"
            case _:
                start = self.axes[inner[0]].start if len(inner) == 1 else "0"
                return _shifted_by(start, Code(self.first_extreme(kind, body, mask, len(inner), source), outer))
        return Code(text, outer)

    def first_extreme(self, kind: str, body: Code, mask: Code | None, count: int, source: DType) -> str:
        if mask is None and count == 1:
            return f"np.{kind}({body.text}, axis=-1)"
        ufunc, least = ("np.maximum", "max") if kind == "argmax" else ("np.minimum", "min")
        given = f", {self.aligned(mask, body.axes)}" if mask is not None else ""
        return f"{self.helper('first_extreme')}({ufunc}, {body.text}, {count}, {limit(source, least)}{given})"

    def spread(self, body: Code, inner: tuple[str, ...], mask: Code | None) -> Code:
        """The body with all inner axes, last, and all axes of the mask."""
        axes = self.union([body, *([mask] if mask is not None else []), Code("", inner)])
        if body.axes == axes:
            return body
        shape = ", ".join(f"len({self.use(axis)})" for axis in axes)
        return Code(f"np.broadcast_to({self.aligned(body, axes)}, ({shape},))", axes)

    def expsum(self, e: Reduce, bodies: list[Code], mask: Code | None, inner: tuple[str, ...]) -> Code:
        score = self.spread(bodies[0], inner, mask)
        name = self.fresh("s")
        self.line(f"{name} = {score.text}")
        score = Code(name, score.axes)
        top = self.over("max", score, mask, inner, e.dtype, e.dtype, keep=True)
        weight = Code(self.fresh("w"), score.axes)
        self.line(f"{weight.text} = np.exp({score.text} - {top.text})")
        product = self.contraction([weight, bodies[1]], inner) if mask is None else None
        if product is not None:
            return product
        one = isinstance(e.bodies[1], Const) and e.bodies[1].value == 1.0
        body = weight if one else self.infix("*", PRODUCT, weight, bodies[1])
        return self.over("sum", self.spread(body, inner, mask), mask, inner, e.dtype, e.dtype)

    def contraction(self, factors: list[Code], inner: tuple[str, ...]) -> Code | None:
        """The sum of a product as a matrix product, where each factor has one axis of its own (or the second none)."""
        if len(inner) != 1 or any(inner[0] not in f.axes for f in factors):
            return None
        a, b = factors
        own_a = [axis for axis in a.axes if axis not in b.axes]
        own_b = [axis for axis in b.axes if axis not in a.axes]
        batch = tuple(axis for axis in a.axes if axis in b.axes and axis not in inner)
        if len(own_a) != 1 or len(own_b) > 1 or (not own_b and batch):
            return None
        left = self.turned(a, (*batch, own_a[0], inner[0]))
        right = self.turned(b, (*batch, inner[0], *own_b))
        result = Code(f"{left} @ {right}", (*batch, own_a[0], *own_b), PRODUCT)
        axes = tuple(dict.fromkeys(axis for axis in self.order if axis in result.axes))
        return result if axes == result.axes else Code(self.turned(result, axes), axes)

    def turned(self, code: Code, axes: tuple[str, ...]) -> str:
        """The code with its axes in another order."""
        code = code.untransposed or code
        if code.axes == axes:
            return code.tight(PRODUCT + 1)
        if len(axes) == 2:
            return f"{code.tight(ATOM)}.T"
        return f"{code.tight(ATOM)}.transpose({', '.join(str(code.axes.index(axis)) for axis in axes)})"

    def fold(self, e: Fold) -> Code:
        """A Python loop before the statement; its carries hold all axes that their updates have."""
        before, kept = dict(self.axes), dict(self.locals)
        lo, hi = self.expr(e.binder.lo), self.expr(e.binder.hi)
        first = {c.name: self.expr(c.init) for c in e.carries}
        axes = self.fold_axes(e, [lo, hi, *first.values()])
        names = {c.name: self.fresh(c.name) for c in e.carries}
        for c in e.carries:
            start = first[c.name]
            held = self.aligned(start, axes, full=True) if start.axes else f"np.full({_ones(len(axes))}, {start.text})"
            self.line(f"{names[c.name]} = {held}")
            self.locals[c.name] = Code(names[c.name], axes)
        alive = self.fresh("alive")
        self.line(f"{alive} = np.full({_ones(len(axes))}, True)")
        index = self.fresh(e.binder.index)
        start = lo.text if not lo.axes else f"int(np.min({lo.text}, initial=0))"
        stop = hi.text if not hi.axes else f"int(np.max({hi.text}, initial=0))"
        self.line(f"for {index} in range({start}, {stop}):")
        self.indent += 1
        self.axes.pop(e.binder.index, None)
        step = self.locals[e.binder.index] = Code(index)
        active = Code(alive, axes)
        if e.condition is not None:
            self.line(f"{alive} = {alive} & {self.operand(self.expr(e.condition), axes, UNARY)}")
            self.line(f"if not {alive}.any():")
            self.line("    break")
        bounds = [self.infix("<=", COMPARE, lo, step)] if lo.axes else []
        bounds += [self.infix("<", COMPARE, step, hi)] if hi.axes else []
        if bounds:
            active = self.both([active, *bounds])
        updates = [self.function("np.where", [active, self.expr(c.update), self.locals[c.name]]).text for c in e.carries]
        self.line(f"{', '.join(names[c.name] for c in e.carries)} = {', '.join(updates)}")
        self.indent -= 1
        self.axes, self.locals = before, kept
        return Code(names[e.result], axes)

    def fold_axes(self, e: Fold, outer: Sequence[Code]) -> tuple[str, ...]:
        """Axes of everything that a step reads, found by printing it once aside."""
        aside = Writer(self.arrays, [], {}, list(self.order), dict(self.axes), dict(self.locals), set(self.taken))
        marks = {name: axis.used for name, axis in self.axes.items()}
        aside.axes.pop(e.binder.index, None)
        aside.locals[e.binder.index] = Code("k")
        for c in e.carries:
            aside.locals[c.name] = Code(c.name)
        codes = [aside.expr(x) for x in (*(c.update for c in e.carries), *([] if e.condition is None else [e.condition]))]
        for name, used in marks.items():
            self.axes[name].used = used
        return self.union([*outer, *codes])


def _shifted_by(start: str, position: Code) -> Code:
    """The index value from its position in a range."""
    return position if start == "0" else Code(f"{position.text} + {start}", position.axes, SUM)


def shifted(e: Expr) -> tuple[str | None, int]:
    """`e` as an index name plus a constant; ("", 0) for anything else, (None, c) for a constant."""
    match e:
        case Const():
            return None, int(e.value)
        case IndexRef():
            return e.name, 0
        case Call("add", (IndexRef(name=name), Const() as c)) | Call("add", (Const() as c, IndexRef(name=name))):
            return name, int(c.value)
        case Call("sub", (IndexRef(name=name), Const() as c)):
            return name, -int(c.value)
        case _:
            return "", 0


def constant_part(e: Expr) -> tuple[Expr | None, int]:
    """`e` as a base plus a constant."""
    match e:
        case Const():
            return None, int(e.value)
        case Call("add", (base, Const() as c)):
            return base, int(c.value)
        case Call("sub", (base, Const() as c)):
            return base, -int(c.value)
        case _:
            return e, 0


def plain(c: Const) -> str:
    """A constant as a Python literal, which takes the dtype of the array beside it."""
    if not c.dtype.is_float:
        return repr(c.value)
    value = float(c.value)
    if value != value:
        return "np.nan"
    if value in (float("inf"), float("-inf")):
        return "np.inf" if value > 0 else "-np.inf"
    if c.dtype is F32:
        import numpy as np

        return repr(float(str(np.float32(value))))
    return repr(value)


def typed(c: Const) -> str:
    """A constant as a NumPy scalar."""
    return f"{stored_type(c.dtype)}({plain(c)})"


def limit(dtype: DType, kind: str) -> str:
    """max or min over nothing."""
    if dtype.is_float:
        return "-np.inf" if kind == "max" else "np.inf"
    return f"np.iinfo({stored_type(dtype)}).{'min' if kind == 'max' else 'max'}"


def _axis_text(count: int, everything: bool) -> str:
    if everything:
        return ""
    return ", axis=-1" if count == 1 else f", axis={tuple(range(-count, 0))}"


def _ones(count: int) -> str:
    return "(1,)" if count == 1 else f"({', '.join('1' * count)})"
