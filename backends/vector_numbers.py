"""Source text of the helpers with which an emitted CPU module writes a function as a formula that holds for one number and for vectors.

A formula is plain Python over `Numbers`; it is run once for each number of lanes while numba compiles, and leaves LLVM code. A loop that
LLVM turns into vectors calls the form for so many lanes, which an attribute of the call names. Unlike code that is inlined and then
vectorised, such a form may branch: on whether any lane needs the long way.
"""

from typing import Final

from backends.helper import Helper

_NUMBERS: Final = '''class Numbers:
    """A number in LLVM's code, or a vector of them."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value
        self.lanes = value.type.count if isinstance(value.type, ir.VectorType) else 0
        self.whole = isinstance(value.type.element if self.lanes else value.type, ir.IntType)

    def of(self, element):
        """The type of as many elements."""
        return ir.VectorType(element, self.lanes) if self.lanes else element

    def also(self, x):
        """Another value of this type; a constant goes to every lane."""
        if isinstance(x, Numbers):
            return x.value
        if self.whole or x == 0.0 or not self.lanes:
            return ir.Constant(self.value.type, [x] * self.lanes if self.lanes else x)
        # From memory that LLVM does not look into: else each of the constants has an address of its own, and an instruction for it.
        kept = self.builder.function.constants
        if x not in kept.values:
            kept.values.append(x)
        first, count = ir.Constant(ir.IntType(32), 0), ir.IntType(32)
        place = self.builder.gep(kept, [first, ir.Constant(count, kept.values.index(x))], inbounds=True)
        one = self.builder.load(place, typ=ir.DoubleType())
        vector = self.builder.insert_element(ir.Constant(self.value.type, ir.Undefined), one, first)
        return self.builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(count, self.lanes), [0] * self.lanes))

    def __add__(self, x):
        return Numbers(self.builder, (self.builder.add if self.whole else self.builder.fadd)(self.value, self.also(x)))

    def __sub__(self, x):
        return Numbers(self.builder, (self.builder.sub if self.whole else self.builder.fsub)(self.value, self.also(x)))

    def __mul__(self, x):
        return Numbers(self.builder, self.builder.fmul(self.value, self.also(x)))

    def __truediv__(self, x):
        return Numbers(self.builder, self.builder.fdiv(self.value, self.also(x)))

    def __and__(self, x):
        return Numbers(self.builder, self.builder.and_(self.value, self.also(x)))

    def __or__(self, x):
        return Numbers(self.builder, self.builder.or_(self.value, self.also(x)))

    def __xor__(self, x):
        return Numbers(self.builder, self.builder.xor(self.value, self.also(x)))

    def __lshift__(self, x):
        return Numbers(self.builder, self.builder.shl(self.value, self.also(x)))

    def __rshift__(self, x):
        return Numbers(self.builder, self.builder.lshr(self.value, self.also(x)))

    def __neg__(self):
        return Numbers(self.builder, self.builder.fneg(self.value))

    def __radd__(self, x):
        return self + x

    def __rmul__(self, x):
        return self * x

    def __rsub__(self, x):
        return Numbers(self.builder, self.builder.fsub(self.also(x), self.value))

    def __lt__(self, x):
        compare = self.builder.icmp_unsigned if self.whole else self.builder.fcmp_ordered
        return Numbers(self.builder, compare("<", self.value, self.also(x)))

    def equals(self, x):
        compare = self.builder.icmp_unsigned if self.whole else self.builder.fcmp_ordered
        return Numbers(self.builder, compare("==", self.value, self.also(x)))

    def llvm(self, name, *more):
        """LLVM's function of that name, of this and more numbers."""
        bits = 64 if (self.value.type.element if self.lanes else self.value.type) == ir.DoubleType() else 32
        kind = f"v{self.lanes}f{bits}" if self.lanes else f"f{bits}"
        args = [self.value, *map(self.also, more)]
        return self.called(f"llvm.{name}.{kind}", self.value.type, args)

    def called(self, name, result, args):
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, [x.type for x in args]), name)
        return Numbers(self.builder, self.builder.call(function, args))

    def bits(self):
        """As integers of 64 bits."""
        return Numbers(self.builder, self.builder.bitcast(self.value, self.of(ir.IntType(64))))

    def floats(self):
        """Of such integers, the numbers of f64."""
        return Numbers(self.builder, self.builder.bitcast(self.value, self.of(ir.DoubleType())))

    def f64(self):
        if (self.value.type.element if self.lanes else self.value.type) == ir.DoubleType():
            return self
        return Numbers(self.builder, self.builder.fpext(self.value, self.of(ir.DoubleType())))

    def f32(self):
        return Numbers(self.builder, self.builder.fptrunc(self.value, self.of(ir.FloatType())))

    def where(self, yes, no):
        """Of each lane, the one or the other."""
        return Numbers(self.builder, self.builder.select(self.value, yes.value, yes.also(no)))

    def filled(self, x):
        """A constant in every lane."""
        return Numbers(self.builder, self.also(x))

    def negative(self):
        """Whether the first bit is set."""
        return Numbers(self.builder, self.builder.icmp_signed("<", self.value, self.also(0)))

    def lane(self, n):
        return Numbers(self.builder, self.builder.extract_element(self.value, ir.Constant(ir.IntType(32), n)))

    def any(self):
        """Whether this holds of a lane."""
        return self.called(f"llvm.vector.reduce.or.v{self.lanes}i1", ir.IntType(1), [self.value]) if self.lanes else self

    def from_table(self, table):
        """The element of a constant array at this place: of one number, not of vectors."""
        place = self.builder.gep(table, [ir.Constant(ir.IntType(64), 0), self.value], inbounds=True)
        return Numbers(self.builder, self.builder.load(place, typ=ir.DoubleType()))


def polynomial(x, *coefficients):
    """Highest power first."""
    y = coefficients[0]
    for c in coefficients[1:]:
        y = x.llvm("fmuladd", y, c)
    return y


def halved(x, *coefficients):
    """The same from two polynomials of x * x, which run side by side."""
    square = x * x
    return x.llvm("fmuladd", polynomial(square, *coefficients[-2::-2][::-1]), polynomial(square, *coefficients[-1::-2][::-1]))


def in_vectors(name, formula, rare=None):
    """The code of a call of a function that has a form for each usual number of lanes. Where `rare` holds of an argument, the formula
    is told so: for one number; a vector with such a lane goes lane by lane. Without `rare`, the formula itself: LLVM turns it into vectors.
    """

    def defined(module, name, kinds, constants, one=None):
        function = ir.Function(module, ir.FunctionType(kinds[0], kinds), name)
        function.constants = constants
        function.linkage = "weak_odr"  # kept although nothing calls it until loops are turned into vectors
        for attribute in ("noinline", "nounwind", "willreturn", "readnone", '"prefer-vector-width"="512"'):
            set.add(function.attributes, attribute)  # llvmlite's own list lacks some
        builder = ir.IRBuilder(function.append_basic_block())
        given = [Numbers(builder, x) for x in function.args]
        if rare is not None:
            with builder.if_then(rare(*given).any().value, likely=False):
                builder.ret(by_lanes(one, given).value if one else formula(*given, rare=True).value)
        builder.ret(formula(*given).value)
        return function

    def by_lanes(one, given):
        builder, result = given[0].builder, ir.Constant(given[0].value.type, ir.Undefined)
        for n in range(given[0].lanes):
            element = builder.call(one, [x.lane(n).value for x in given])
            result = builder.insert_element(result, element, ir.Constant(ir.IntType(32), n))
        return Numbers(builder, result)

    def generate(context, builder, signature, args):
        if rare is None:
            return formula(*(Numbers(builder, x) for x in args)).value
        module, kinds = builder.module, [x.type for x in args]
        usual = (2, 4, 8) if kinds[0] == ir.DoubleType() else (4, 8, 16)
        if name not in module.globals:
            table = ir.ArrayType(ir.DoubleType(), 64)
            constants = ir.GlobalVariable(module, table, f"{name}_constants")
            constants.linkage, constants.global_constant, constants.values = "weak", True, []
            one = defined(module, name, kinds, constants)
            for lanes in usual:
                defined(module, f"{name}_x{lanes}", [ir.VectorType(kind, lanes) for kind in kinds], constants, one)
            constants.initializer = ir.Constant(table, (constants.values + [0.0] * 64)[:64])
        call = builder.call(module.globals[name], args)
        forms = ",".join(f"_ZGV_LLVM_N{lanes}{'v' * len(args)}_{name}({name}_x{lanes})" for lanes in usual)
        set.add(call.attributes, f'"vector-function-abi-variant"="{forms}"')
        return call

    return generate
'''

NUMBERS: Final[dict[str, Helper]] = {"numbers": Helper(_NUMBERS)}


def function(name: str, formula: str, uses: str, arity: int = 1, rare: str = "None") -> Helper:
    """The helper called `name`, of numbers of one type, by a formula that is in the helper `uses`."""
    args, kind = ", ".join("ab"[:arity]), f"types.float{name[-2:]}"
    return Helper(
        f"@intrinsic\ndef {name}(context, {args}):\n"
        f"    return {kind}({', '.join([kind] * arity)}), in_vectors({f'kir_{name}'!r}, {formula}, {rare})\n",
        ("numbers", uses),
    )
