"""Source text of the helper functions that emitted CPU modules bring along: exact integer ops, conversions, float functions that vectorise.

A float function here is branch-free range reduction and a polynomial, written with `fmadd` (llvm.fmuladd: one rounding where the
machine has FMA), so that LLVM turns a loop over it into SIMD code. The polynomials interpolate at Chebyshev nodes, computed with
mpmath at 60 digits; the ULP of each is measured in tests/test_cpu_math.py against the stated bound in `ULP`. A helper never carries
fast-math flags of the caller: its error terms would be optimised away.
"""

from typing import Final

from backends.helper import EXACT, REGROUPED, Helper
from backends.vector_lanes import LANES
from backends.vector_trig import TRIG
from backends.wrapping import WRAPS


def _llvm(name: str, call: str, arity: int, result: str = "a") -> Helper:
    """An intrinsic function of LLVM, over arguments of one float type."""
    args = ", ".join("abc"[:arity])
    return Helper(
        f"@intrinsic\n"
        f"def {name}(context, {args}):\n"
        f"    def generate(context, builder, signature, args):\n"
        f"        kind = args[0].type\n"
        f"        function = builder.module.declare_intrinsic({call!r}, [kind], ir.FunctionType(kind, [kind] * {arity}))\n"
        f"        return builder.call(function, args)\n\n"
        f"    return {result}({', '.join('a' * arity)}), generate\n"
    )


def _bits(name: str, source: str, target: str, llvm: str) -> Helper:
    return Helper(
        f"@intrinsic\n"
        f"def {name}(context, a):\n"
        f"    def generate(context, builder, signature, args):\n"
        f"        return builder.bitcast(args[0], {llvm})\n\n"
        f"    return types.{target}(types.{source}), generate\n"
    )


def _whole(name: str, target: str, bits: int) -> Helper:
    """Float to integer by truncation: saturates, NaN gives 0."""
    return Helper(
        f"@intrinsic\n"
        f"def {name}(context, a):\n"
        f"    def generate(context, builder, signature, args):\n"
        f"        kind, suffix = args[0].type, 'f32' if a == types.float32 else 'f64'\n"
        f"        whole = ir.FunctionType(ir.IntType({bits}), [kind])\n"
        f"        function = cgutils.get_or_insert_function(builder.module, whole, 'llvm.fptosi.sat.i{bits}.' + suffix)\n"
        f"        return builder.call(function, args)\n\n"
        f"    return types.{target}(a), generate\n"
    )


def _float32_text(c: float) -> str:
    return f"float32({c!r})"


def _horner(variable: str, coefficients: tuple[float, ...], kind: str) -> str:
    """Lines that leave the polynomial (constant first) in `p`."""
    number = _float32_text if kind == "f32" else repr
    lines = [f"    p = {number(coefficients[-1])}"]
    lines += [f"    p = fmadd(p, {variable}, {number(c)})" for c in reversed(coefficients[:-1])]
    return "\n".join(lines) + "\n"


def _f32(body: str) -> str:
    """Numbers in `{…}` become float32 constants."""
    return body.replace("{", "float32(").replace("}", ")")


_EXP32 = (0.5, 0.16666573381900846, 0.041666550110305124, 0.008363773874405573, 0.0013926926614021906)
_EXP64 = (
    0.5000000000000001, 0.16666666666666668, 0.04166666666662064, 0.008333333333329794, 0.0013888888918939168,
    0.000198412698643805133, 2.480151864139599358e-05, 2.75572664186123037e-06, 2.76213386691429238e-07, 2.51013469283503402e-08,
)  # fmt: skip
_LOG32 = (
    0.3333333118003005, -0.24999996957950882, 0.20000715748892102, -0.16667802319501254, 0.142490576456974804,
    -0.1242568733145110611, 0.1168541992348673931, -0.1147973384663763556, 0.06971611471451177832,
)  # fmt: skip
_LOG64 = (
    0.6666666666666666646, 0.4000000000000091204, 0.2857142857078220772, 0.2222222239655298081,
    0.1818179512447675351, 0.1538626767288222503, 0.132680261404287393, 0.1309441666654332402,
)  # fmt: skip
_ERF32 = (
    1.6279070351257872, 0.9184476252979997, 0.1482770665029755, -0.027632031049824472, -0.00023140086454007824,
    0.0024050102517894478, -0.0009129893987913819, 0.0001697201215555229, -1.335392553002032e-05,
)  # fmt: skip
_EXP2M1_32 = (
    0.6931471879267012, 0.24022649794897477, 0.05550357433588149, 0.009618237502478135, 0.0013390735503468686, 0.00015403510394061196,
)  # fmt: skip
_ERF_SMALL64 = (
    0.1283791670955125739, -0.3761263890318375246, 0.1128379167095512563, -0.02686617064513121852, 0.005223977625441674014,
    -0.0008548327023403000609, 0.0001205533297887948387, -0.00001492565023696750174, 1.646211078201863639e-06,
    -1.636576864883207212e-07, 1.480602714612875166e-08, -1.227773448679552385e-09, 9.323723518153026634e-11,
    -6.196736428787699983e-12, 2.806712819561126247e-13,
)  # fmt: skip
_ERF_BIG64 = (
    0.2108063640611435839, -0.3717367339489729603, 0.2517131932174487659, -0.1250330523789178115, 0.03992253907546523192,
    -0.003993701160123029215, -0.002642365951813454858, 0.0008759152875774327465, 0.0002283799633257643002,
    -0.0001288748313483784184, -0.00003417571889685629259, 0.00001859674773114452863, 7.49973505076329867e-06,
    -2.232851651755521436e-06, -1.587633893127344024e-06,
)  # fmt: skip
_TANH32 = (-0.333333303327315471, 0.1333291536698745339, -0.05387394884864333359, 0.02111095904951478965, -0.006269119719649729174)
_TANH64 = (
    -0.3333333333333332867, 0.1333333333333019618, -0.05396825396475762478, 0.02186948838378092915, -0.008863232113541473187,
    0.003592083166343457503, -0.001455464802800744916, 0.0005880541548418729, -0.000232251040679385094,
    0.00008154737806525365138, -0.00001833596211003941992,
)  # fmt: skip
_ASIN32 = (
    0.1666666633743090705,
    0.07500094543497423476,
    0.04459940152851218372,
    0.03110066273549456793,
    0.01714923835767725319,
    0.03369084720283011952,
)
_EXP_F32 = (
    EXACT
    + _f32(
        """def exp_f32(x):
    # Beyond these the result is inf or 0 whatever x is; a NaN passes both comparisons by.
    x = {100.0} if x > {100.0} else x
    x = {-110.0} if x < {-110.0} else x
    shifted = fmadd(x, {1.4426950408889634}, {12582912.0})  # adding 1.5 * 2**23 rounds to an integer, kept in the low bits
    k = shifted - {12582912.0}
    r = fmadd(k, {-0.693359375}, x)
    r = fmadd(k, {0.00021219444005469057}, r)
"""
    )
    + _horner("r", _EXP32, "f32")
    + _f32(
        """    p = fmadd(p * r, r, r) + {1.0}
    return times_two_to(p, int32(bits_of_f32(shifted) - int32(1262485504)))
"""
    )
)
_EXP_F64 = (
    EXACT
    + """def exp_f64(x):
    x = 710.0 if x > 710.0 else x
    x = -746.0 if x < -746.0 else x
    shifted = fmadd(x, 1.4426950408889634, 6755399441055744.0)
    k = shifted - 6755399441055744.0
    r = fmadd(k, -0.6931471803691238, x)
    r = fmadd(k, -1.9082149292705877e-10, r)
"""
    + _horner("r", _EXP64, "f64")
    + """    p = fmadd(p * r, r, r) + 1.0
    return times_two_to(p, bits_of_f64(shifted) - 4843621399236968448)
"""
)
_TIMES_TWO_TO: Final = '''@intrinsic
def times_two_to(context, a, n):
    """a * 2**n, rounded once, for n that exponents of a's type reach in two steps."""

    def generate(context, builder, signature, args):
        from llvmlite.binding import llvm_version_info

        value, n = args
        kind, word = value.type, n.type
        digits, bias = {32: (23, 127), 64: (52, 1023)}[word.width]
        if llvm_version_info[0] >= 22 and "+avx512vl" in context.codegen().magic_tuple()[2]:  # one instruction
            name, exponent = {32: "llvm.ldexp.f32.i32", 64: "llvm.ldexp.f64.i32"}[word.width], ir.IntType(32)
            n = n if word == exponent else builder.trunc(n, exponent)
            function = ir.FunctionType(kind, [kind, exponent])
            return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, function, name), [value, n])
        half = builder.ashr(n, ir.Constant(word, 1))
        for part in (half, builder.sub(n, half)):  # the result may be subnormal, or the way to it past the largest power
            biased = builder.add(part, ir.Constant(word, bias))
            value = builder.fmul(value, builder.bitcast(builder.shl(biased, ir.Constant(word, digits)), kind))
        return value

    return a(a, n), generate
'''
_LOG_F32 = (
    EXACT
    + _f32(
        """def log_f32(x):
    tiny = x < {1.1754943508222875e-38}
    scaled = x * {8388608.0} if tiny else x
    bits = bits_of_f32(scaled)
    exponent = int32(int32(bits - int32(1060439283)) >> int32(23))  # of x / sqrt(1/2)
    m = f32_of_bits(int32(bits - int32(exponent << int32(23))))
    k = float32(exponent) - ({23.0} if tiny else {0.0})
    r = m - {1.0}
"""
    )
    + _horner("r", _LOG32, "f32")
    + _f32(
        """    z = r * r
    y = fmadd(p * r, z, k * {-0.00021219444005469057})
    y = fmadd({-0.5}, z, y)
    y = fmadd(k, {0.693359375}, r + y)
    y = x if x == {np.inf} else y
    y = {-np.inf} if x == {0.0} else y
    return {np.nan} if not x >= {0.0} else y
"""
    )
)
_LOG_F64 = (
    EXACT
    + """def log_f64(x):
    tiny = x < 2.2250738585072014e-308
    scaled = x * 4503599627370496.0 if tiny else x
    bits = bits_of_f64(scaled)
    exponent = (bits - 4604544271217802189) >> 52
    m = f64_of_bits(bits - (exponent << 52))
    k = float64(int32(exponent)) - (52.0 if tiny else 0.0)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
"""
    + _horner("z", _LOG64, "f64")
    + """    half = 0.5 * f * f
    y = k * 1.9082149292705877e-10 + s * (half + p * z)
    y = k * 0.6931471803691238 - ((half - y) - f)
    y = x if x == np.inf else y
    y = -np.inf if x == 0.0 else y
    return np.nan if not x >= 0.0 else y
"""
)
_ERF_F32 = (
    EXACT
    + _f32("""def erf_f32(x):
    # erf(t) = 1 - 2**-u: u is smooth, and with 2**r - 1 for the fraction of u nothing cancels near zero.
    t = abs(x)
    t = {3.95} if t > {3.95} else t
""")
    + _horner("t", _ERF32, "f32")
    + _f32("""    u = p * t
    shifted = {12582912.0} - u  # rounds to an integer, kept in the low bits
    r = ({12582912.0} - shifted) - u
""")
    + _horner("r", _EXP2M1_32, "f32")
    + _f32("""    power = f32_of_bits(int32(int32(bits_of_f32(shifted) - int32(1262485377)) << int32(23)))
    return math.copysign(fmadd(power * r, -p, {1.0} - power), x)
""")
)
_ERF_F64 = (
    EXACT
    + "def erf_f64(x):\n    t = abs(x)\n    z = x * x\n"
    + _horner("z", _ERF_SMALL64, "f64")
    + "    small = fmadd(p, x, x)\n    t = 6.0 if t > 6.0 else t\n    u = (t - 2.5) / (t + 2.5)\n"
    + _horner("u", _ERF_BIG64, "f64")
    + """    big = 1.0 - exp_f64(-(t * t)) * p
    big = -big if x < 0.0 else big
    return big if abs(x) > 1.0 else small
"""
)
_TANH_F32 = (
    EXACT
    + "def tanh_f32(x):\n    z = x * x\n"
    + _horner("z", _TANH32, "f32")
    + _f32("""    small = fmadd(p * z, x, x)
    big = {1.0} - {2.0} / (exp_f32(abs(x) + abs(x)) + {1.0})
    big = -big if x < {0.0} else big
    small = x if x == {0.0} else small
    return big if abs(x) > {0.6} else small
""")
)
_TANH_F64 = (
    EXACT
    + "def tanh_f64(x):\n    z = x * x\n"
    + _horner("z", _TANH64, "f64")
    + """    small = fmadd(p * z, x, x)
    big = 1.0 - 2.0 / (exp_f64(abs(x) + abs(x)) + 1.0)
    big = -big if x < 0.0 else big
    small = x if x == 0.0 else small
    return big if abs(x) > 0.6 else small
"""
)


_ASIN_F32 = (
    EXACT
    + _f32("""def asin_f32(x):
    t = abs(x)
    far = t > {0.5}
    z = {0.5} * ({1.0} - t) if far else t * t
    s = math.sqrt(z) if far else t
""")
    + _horner("z", _ASIN32, "f32")
    + _f32("""    y = fmadd(p * z, s, s)
    y = {1.5707963267948966} - (y + y) if far else y
    return -y if x < {0.0} else (x if x == {0.0} else y)
""")
)


HELPERS: Final[dict[str, Helper]] = (
    LANES
    | TRIG
    | {
        "fmadd": _llvm("fmadd", "llvm.fmuladd", 3),
        "fma": _llvm("fma", "llvm.fma", 3),
        "max_nan": _llvm("max_nan", "llvm.maximum", 2),
        "min_nan": _llvm("min_nan", "llvm.minimum", 2),
        "fmax": _llvm("fmax", "llvm.maxnum", 2),
        "fmin": _llvm("fmin", "llvm.minnum", 2),
        "remainder": Helper(
            "@intrinsic\ndef remainder(context, a, b):\n"
            "    def generate(context, builder, signature, args):\n"
            "        return builder.frem(*args)\n\n"
            "    return a(a, a), generate\n"
        ),
        "bits_of_f32": _bits("bits_of_f32", "float32", "int32", "ir.IntType(32)"),
        "f32_of_bits": _bits("f32_of_bits", "int32", "float32", "ir.FloatType()"),
        "bits_of_f64": _bits("bits_of_f64", "float64", "int64", "ir.IntType(64)"),
        "f64_of_bits": _bits("f64_of_bits", "int64", "float64", "ir.DoubleType()"),
        "whole_i32": _whole("whole_i32", "int32", 32),
        "whole_i64": _whole("whole_i64", "int64", 64),
        "restrict": Helper(
            '@intrinsic\ndef restrict(context):\n    """Arrays of a kernel do not overlap: their data pointers are marked noalias."""\n\n'
            "    def generate(context, builder, signature, args):\n"
            "        for argument in builder.function.args:\n"
            '            if isinstance(argument.type, ir.PointerType) and argument.name.endswith(".4"):\n'
            '                argument.add_attribute("noalias")\n'
            "        return context.get_dummy_value()\n\n"
            "    return types.void(), generate\n"
        ),
        "wide": Helper(
            '@intrinsic\ndef wide(context):\n    """LLVM uses the widest vectors of the processor, also where it prefers others."""\n\n'
            "    def generate(context, builder, signature, args):\n"
            '        set.add(builder.function.attributes, \'"prefer-vector-width"="512"\')  # llvmlite\'s own list lacks it\n'
            "        return context.get_dummy_value()\n\n"
            "    return types.void(), generate\n"
        ),
        "narrow": Helper(
            '@intrinsic\ndef narrow(context):\n    """Vectors of half a cache line: of neighbours that overlap, fewer cross lines."""\n\n'
            "    def generate(context, builder, signature, args):\n"
            '        set.add(builder.function.attributes, \'"prefer-vector-width"="256"\')\n'
            "        return context.get_dummy_value()\n\n"
            "    return types.void(), generate\n"
        ),
        "wraps": Helper(WRAPS),
        "run_code": Helper(
            "@cache\ndef code_of(function, kinds):\n"
            '    """Where a function\'s machine code for these types begins: who calls it there is not compiled with a copy of it."""\n'
            "    function.compile(kinds)\n"
            "    made = function.overloads[normalize_signature(kinds)[0]]\n"
            "    return made.library.get_pointer_to_function(made.fndesc.llvm_func_name)\n\n\n"
            "@intrinsic(prefer_literal=True)\ndef run_code(context, code, kinds, arguments):\n"
            '    """Calls machine code with arguments of just the types that it was made for."""\n'
            "    made = normalize_signature(kinds.literal_value)[0]\n"
            "    plain = lambda kind: kind.copy(readonly=False) if isinstance(kind, types.Array) else kind\n"
            "    if tuple(map(plain, arguments)) != made:\n"
            '        raise TypeError(f"code for {made} got {tuple(arguments)}")\n\n'
            "    def generate(context, builder, signature, args):\n"
            "        result = context.call_conv.get_function_type(types.none, made)\n"
            "        values = cgutils.unpack_tuple(builder, args[2])\n"
            "        context.call_conv.call_function(builder, builder.inttoptr(args[0], result.as_pointer()), types.none, made, values)\n"
            "        return context.get_dummy_value()\n\n"
            "    return types.void(code, kinds, arguments), generate\n"
        ),
        "aligned": Helper(
            '@njit(error_model="numpy")\ndef aligned(size, dtype):\n    """Scratch that begins with a cache line."""\n'
            "    step = np.empty(1, dtype).itemsize\n    scratch = np.empty(size + 64 // step, dtype)\n"
            "    first = -scratch.ctypes.data % 64 // step\n    return scratch[first : first + size]\n"
        ),
        "from_f16": Helper(
            "@intrinsic\ndef from_f16(context, a):\n"
            "    def generate(context, builder, signature, args):\n"
            "        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())\n\n"
            "    return types.float32(types.uint16), generate\n"
        ),
        "to_f16": Helper(
            "@intrinsic\ndef to_f16(context, a):\n"
            "    def generate(context, builder, signature, args):\n"
            "        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))\n\n"
            "    return types.uint16(types.float32), generate\n"
        ),
        "f16_of_f64": Helper(
            EXACT
            + "def f16_of_f64(x):\n"
            + '    """Through f32 rounded to odd, so that the second rounding is the only one that counts."""\n'
            + "    near = float32(x)\n    wide = float64(near)\n    bits = bits_of_f32(near)\n"
            + "    step = int32(-1) if abs(wide) > abs(x) else int32(1)\n"
            + "    inexact = wide != x and x == x and abs(wide) < np.inf\n"
            + "    bits = int32(bits + step) if inexact and (bits & 1) == 0 else bits\n    return to_f16(f32_of_bits(bits))\n",
            ("bits_of_f32", "f32_of_bits", "to_f16"),
        ),
        "from_bf16": Helper(EXACT + "def from_bf16(bits):\n    return f32_of_bits(int32(int32(bits) << int32(16)))\n", ("f32_of_bits",)),
        "to_bf16": Helper(
            EXACT
            + "def to_bf16(x):\n    bits = int64(bits_of_f32(x)) & 0xFFFFFFFF\n"
            + "    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16\n    return uint16(rounded if x == x else (bits >> 16) | 0x40)\n",
            ("bits_of_f32",),
        ),
        "bf16_of_f64": Helper(EXACT + "def bf16_of_f64(x):\n    return to_bf16(float32(x))\n", ("to_bf16",)),
        "add_any_order": Helper(REGROUPED + "def add_any_order(a, b):\n    return a + b\n"),
        "mul_any_order": Helper(REGROUPED + "def mul_any_order(a, b):\n    return a * b\n"),
        "floordiv_int": Helper(
            EXACT
            + "def floordiv_int(a, b):\n    if b == 0:\n        return 0\n    if b == -1:\n        return -int64(a)\n    return a // b\n"
        ),
        "mod_int": Helper(EXACT + "def mod_int(a, b):\n    if b == 0 or b == -1:\n        return 0\n    return a % b\n"),
        "floordiv_float": Helper(
            EXACT
            + "def floordiv_float(a, b):\n    if b == 0:\n        return a / b\n    rest = remainder(a, b)\n    quotient = (a - rest) / b\n"
            + "    if rest != 0:\n        if (b < 0) != (rest < 0):\n            quotient -= type(a)(1)\n"
            + "    if quotient == 0:\n        return math.copysign(type(a)(0), a / b)\n"
            + "    whole = np.floor(quotient)\n    return whole + type(a)(1) if quotient - whole > 0.5 else whole\n",
            ("remainder",),
        ),
        "mod_float": Helper(
            EXACT
            + "def mod_float(a, b):\n    rest = remainder(a, b)\n    if b == 0:\n        return rest\n"
            + "    if rest == 0:\n        return math.copysign(rest, b)\n    return rest + b if (b < 0) != (rest < 0) else rest\n",
            ("remainder",),
        ),
        "sign_float": Helper(
            EXACT
            + "def sign_float(x):\n    one = type(x)(1)\n    return one if x > 0 else (-one if x < 0 else (type(x)(0) if x == 0 else x))\n"
        ),
        "sign_int": Helper(EXACT + "def sign_int(x):\n    return 1 if x > 0 else (-1 if x < 0 else 0)\n"),
        "shl_i32": Helper(EXACT + "def shl_i32(a, n):\n    return int32(a << n) if 0 <= n < 32 else int32(0)\n"),
        "shl_i64": Helper(EXACT + "def shl_i64(a, n):\n    return a << n if 0 <= n < 64 else 0\n"),
        "shr_i32": Helper(EXACT + "def shr_i32(a, n):\n    return int32(a >> (n if 0 <= n < 32 else 31))\n"),
        "shr_i64": Helper(EXACT + "def shr_i64(a, n):\n    return a >> (n if 0 <= n < 64 else 63)\n"),
        "times_two_to": Helper(_TIMES_TWO_TO),
        "exp_f32": Helper(_EXP_F32, ("fmadd", "bits_of_f32", "times_two_to")),
        "exp_f64": Helper(_EXP_F64, ("fmadd", "bits_of_f64", "times_two_to")),
        "log_f32": Helper(_LOG_F32, ("fmadd", "bits_of_f32", "f32_of_bits")),
        "log_f64": Helper(_LOG_F64, ("fmadd", "bits_of_f64", "f64_of_bits")),
        "erf_f32": Helper(_ERF_F32, ("fmadd", "bits_of_f32", "f32_of_bits")),
        "erf_f64": Helper(_ERF_F64, ("fmadd", "exp_f64")),
        "tanh_f32": Helper(_TANH_F32, ("fmadd", "exp_f32")),
        "tanh_f64": Helper(_TANH_F64, ("fmadd", "exp_f64")),
        "asin_f32": Helper(_ASIN_F32, ("fmadd",)),
    }
)

VECTOR: Final[dict[tuple[str, str], str]] = {
    (op, dtype): f"{op}_{dtype}"
    for op in ("exp", "log", "erf", "tanh", "sin", "cos", "tan", "asin", "acos", "atan", "atan2")
    for dtype in ("f32", "f64")
}
"""Functions with a form that vectorises, by op and dtype; the C library's serve the rest."""

ULP: Final[dict[str, float]] = {
    "exp_f32": 1.1, "exp_f64": 1.1, "log_f32": 0.9, "log_f64": 0.9, "erf_f32": 2.6, "erf_f64": 1.1,
    "tanh_f32": 1.5, "tanh_f64": 1.5, "sin_f32": 0.51, "sin_f64": 0.8, "cos_f32": 0.51, "cos_f64": 0.8, "tan_f32": 0.51, "tan_f64": 2.3,
    "asin_f32": 2.6, "asin_f64": 2.1, "acos_f32": 0.51, "acos_f64": 1.6, "atan_f32": 0.51, "atan_f64": 2.3,
    "atan2_f32": 0.51, "atan2_f64": 2.3,
}  # fmt: skip
"""Worst error of each, in ULP: measured, rounded up."""


def helper_text(names: frozenset[str], flags: frozenset[str]) -> str:
    """The text of the helpers and of those they call, callees first."""
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        for callee in HELPERS[name].uses:
            visit(callee)
        ordered[name] = None

    for name in sorted(names):
        visit(name)
    regrouped = "{" + ", ".join(repr(f) for f in sorted({"reassoc", *(flags & {"contract", "nsz"})})) + "}"
    return "\n\n".join(HELPERS[name].text.replace("{flags}", regrouped) for name in ordered)
