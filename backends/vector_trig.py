"""Source text of sine, cosine and tangent as functions that vectorise, for arguments of every size, and of the arc tangent.

Up to 50000, an argument is reduced by pi / 2 in three parts, of which products with the number of quarter turns are exact (Cody and
Waite, 1980). Where a lane has a larger one, m * 2**e is reduced exactly: what 2**e * 2 / pi leaves modulo 4 stands in a table, in four
doubles, and the products with m are kept with their rounding errors (as Payne and Hanek reduce, 1983, with a table in place of the
bits). The sine and cosine polynomials of f64 are those of fdlibm; the others interpolate at Chebyshev nodes. f32 functions compute in
f64 and round once.
"""

from typing import Final

from backends.helper import Helper
from backends.vector_numbers import NUMBERS, function

_TABLE: Final = '''def quarter_turns():
    """For each exponent of a double, 2**(exponent - 1075) * 2 / pi modulo 4, in four parts that add up."""
    bits = 1300
    pi = 0
    for factor, x in ((16, 5), (-4, 239)):  # Machin: pi = 16 atan(1/5) - 4 atan(1/239)
        power, n = (1 << (2 * bits)) // x, 1
        while power:
            pi += factor * (power // n) if n % 4 == 1 else -factor * (power // n)
            power, n = power // (x * x), n + 2
    two_over_pi = (2 << (4 * bits)) // pi
    table = np.full((2048, 4), np.nan)
    for exponent in range(2047):
        rest = (two_over_pi << max(0, exponent - 1075)) % (4 << (2 * bits))
        scale = min(0, exponent - 1075)
        for part in range(4):
            size = max(0, rest.bit_length() - 53)
            table[exponent, part] = math.ldexp(rest >> size, size - 2 * bits + scale)
            rest &= (1 << size) - 1
    return table.T


def tables_of_turns(module):
    """The four parts as constants of an LLVM module."""
    if "kir_turns_0" not in module.globals:
        for part, row in enumerate(quarter_turns().tolist()):
            table = ir.GlobalVariable(module, ir.ArrayType(ir.DoubleType(), 2048), f"kir_turns_{part}")
            table.initializer = ir.Constant(table.value_type, row)
            table.linkage, table.global_constant = "internal", True
    return [module.globals[f"kir_turns_{part}"] for part in range(4)]
'''
_REDUCED: Final = '''SIGN = -(1 << 63)


def two_sum(a, b):
    """The rounded sum, and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def quarters_of_any(x):
    """A number, not negative, as quarter turns and a rest: their number modulo 4 in the last bits of an integer, the rest in two parts."""
    bits = x.bits()
    m = ((bits & 0xFFFFFFFFFFFFF) ^ (1075 << 52)).floats()
    a, b, c, d = ((bits >> 52).from_table(table) for table in tables_of_turns(x.builder.module))
    high, second, third = m * a, m * b, m * c
    low, rest, last = m.llvm("fma", a, -high), m.llvm("fma", b, -second), m.llvm("fma", c, -third)
    total, first = two_sum(high - 4.0 * (high * 0.25).llvm("rint"), low)
    total, error = two_sum(total, second)
    number = total + 6755399441055744.0  # 1.5 * 2**52: rounds to an integer, kept in the low bits
    r, tail = two_sum(total - (number - 6755399441055744.0), first)
    r, more = two_sum(r, error)
    tail += more
    r, more = two_sum(r, rest)
    tail += more
    r, more = two_sum(r, third)
    r, tail = two_sum(r, tail + (more + m.llvm("fma", d, last)))
    angle = r * 1.5707963267948966
    return number.bits(), angle, r.llvm("fma", 1.5707963267948966, -angle) + (r * 6.123233995736766e-17 + tail * 1.5707963267948966)


def quarters_of_small(x):
    """The same for numbers up to 50000: pi / 2 in parts of 38, 38 and 53 bits, the number of quarters in 15."""
    shifted = x.llvm("fmuladd", 0.6366197723675814, 6755399441055744.0)
    n = shifted - 6755399441055744.0
    near = n.llvm("fmuladd", -1.5707963267923333, x)
    angle = n.llvm("fmuladd", -2.5633441515971907e-12, near)
    tail = n.llvm("fmuladd", -2.5633441515971907e-12, near - angle)
    return shifted.bits(), angle, n.llvm("fmuladd", 2.6718907338610155e-24, tail)


def is_large(x):
    return (x.f64().llvm("fabs").bits() - 0x40E86A0000000000) < 0x3F07960000000000  # from 50000 up to, not with, infinity


def quarters_of(x, rare):
    return quarters_of_any(x.llvm("fabs")) if rare else quarters_of_small(x.llvm("fabs"))
'''


def _listed(coefficients: tuple[float, ...]) -> str:
    return ", ".join(map(repr, coefficients))


_SINE: Final = (1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06, -1.98412698298579493134e-04,
                8.33333333332248946124e-03, -1.66666666666666324348e-01)  # fmt: skip
_COSINE: Final = (-1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07, 2.48015872894767294178e-05,
                  -1.38888888888741095749e-03, 4.16666666666666019037e-02)  # fmt: skip
_SINE_SHORT: Final = (2.7249864658196823519e-6, -0.00019840086263779024592, 0.0083333318738371317012, -0.16666666663853044206)
_COSINE_SHORT: Final = (0.00002446372116696830894, -0.0013887588637841695, 0.041666650634931317726, -0.49999999969094656404)

_TURNED: Final = f'''def sine_and_cosine(x, tail):
    """Of x + tail, within pi / 4 of zero."""
    z = x * x
    sine = x + (z * x).llvm("fmuladd", polynomial(z, {_listed(_SINE)}), tail * z.llvm("fmuladd", -0.5, 1.0))
    half = 0.5 * z
    first = 1.0 - half
    rest = (z * z).llvm("fmuladd", polynomial(z, {_listed(_COSINE)}), x.llvm("fmuladd", -tail, (1.0 - first) - half))
    return sine, first + rest


def short_sine_and_cosine(x, tail):
    """The same as good as f32 needs it."""
    z = x * x
    sine = (z * x).llvm("fmuladd", polynomial(z, {_listed(_SINE_SHORT)}), x)
    return sine, z.llvm("fmuladd", polynomial(z, {_listed(_COSINE_SHORT)}), 1.0)


def turned(quarters, sine, cosine):
    """The sine after so many quarter turns, as bits."""
    return (quarters & 1).equals(1).where(cosine, sine).bits() ^ ((quarters << 62) & SIGN)


def sine_of(x, rare=False, both=sine_and_cosine):
    quarters, angle, tail = quarters_of(x, rare)
    return (turned(quarters, *both(angle, tail)) ^ (x.bits() & SIGN)).floats()


def cosine_of(x, rare=False, both=sine_and_cosine):
    quarters, angle, tail = quarters_of(x, rare)
    return turned(quarters + 1, *both(angle, tail)).floats()


def tangent_of(x, rare=False, both=sine_and_cosine):
    quarters, angle, tail = quarters_of(x, rare)
    sine, cosine = both(angle, tail)
    odd = (quarters & 1).equals(1)
    quotient = odd.where(cosine, sine) / odd.where(sine, cosine)
    return (quotient.bits() ^ ((quarters << 63) ^ x.bits()) & SIGN).floats()


def short_sine_of(x, rare=False):
    return sine_of(x.f64(), rare, short_sine_and_cosine).f32()


def short_cosine_of(x, rare=False):
    return cosine_of(x.f64(), rare, short_sine_and_cosine).f32()


def short_tangent_of(x, rare=False):
    return tangent_of(x.f64(), rare, short_sine_and_cosine).f32()
'''
_ATAN: Final = (
    -0.019176887119062253, 0.03923165829558718, -0.0508544973794026, 0.0585814891280221, -0.06664511447381948, 0.07692183190826087,
    -0.09090904578123903, 0.11111111015256361, -0.14285714284666542, 0.1999999999999552, -0.3333333333333333,
)  # fmt: skip
_ASIN: Final = (
    0.028169218060881414, -0.010749050339697808, 0.01603551434914882, 0.0078029494773533175, 0.011875494382636922,
    0.013929652902326633, 0.017355259955786323, 0.02237204763174451, 0.03038194736709848, 0.044642857103423646,
    0.07500000000020764, 0.1666666666666665,
)  # fmt: skip

_INVERSE: Final = f'''def arc_of_quotient(near, far, swap, y, x):
    """The arc tangent of y / x, whose sizes are near <= far, swapped or not: eighths of a turn and the arc tangent of what is left."""
    over = (far * 0.41421356237309503) < near
    t = (near - over.where(far, 0.0)) / (far + over.where(near, 0.0))
    z = t * t
    angle = (t * z).llvm("fmuladd", halved(z, {_listed(_ATAN)}), t)
    eighths = over.where(far.filled(1.0), 0.0)
    eighths = swap.where(2.0 - eighths, eighths)
    back = x.bits().negative()
    eighths = back.where(4.0 - eighths, eighths)
    angle = swap.where(-angle, angle)
    angle = back.where(-angle, angle)
    whole = eighths.llvm("fmuladd", 0.7853981633974483, eighths.llvm("fmuladd", 3.061616997868383e-17, angle))
    return (whole.bits() ^ (y.bits() & SIGN)).floats()


def by_size(y, x):
    """The larger and the smaller of two sizes, and whether the larger is that of y."""
    across, along = y.llvm("fabs"), x.llvm("fabs")
    swap = along < across
    return swap.where(across, along), swap.where(along, across), swap


def is_extreme(y, x):
    """Whether the larger is not from 2**-1000 to 2**1000: quotients of zeros, of infinities, of what overflows or loses digits."""
    far, _, _ = by_size(y.f64(), x.f64())
    return ((far.bits() - (23 << 52)) < (2000 << 52)) ^ True


def arc_tangent_of(y, x, rare=False):
    far, near, swap = by_size(y, x)
    if rare:
        endless, one = far.equals(float("inf")), far.filled(1.0)
        near = endless.where(near.equals(float("inf")).where(one, near * 0.0), near)
        far = (endless | far.equals(0.0)).where(one, far)
        scale = (far.filled(2.0**1000) < far).where(far.filled(2.0**-600), 1.0)
        scale = (far < 2.0**-1000).where(far.filled(2.0**600), scale)
        far, near = far * scale, near * scale
    return arc_of_quotient(near, far, swap, y, x)


def arc_parts(x):
    """The arc sine of |x| up to 1/2, else half the arc cosine, as a sum of two; and which."""
    t = x.llvm("fabs")
    far = t.filled(0.5) < t
    z = far.where(0.5 - 0.5 * t, t * t)
    s = far.where(z.llvm("sqrt"), t)
    return far, s, z * s * halved(z, {_listed(_ASIN)})


def arc_sine_of(x):
    far, s, rest = arc_parts(x)
    y = far.where((1.5707963267948966 - (s + s)) - (rest + rest - 6.123233995736766e-17), s + rest)
    return (y.bits() ^ (x.bits() & SIGN)).floats()


def arc_cosine_of(x):
    far, s, rest = arc_parts(x)
    back = x.bits().negative()
    s, rest = back.where(-s, s), back.where(-rest, rest)
    whole = far.where(back.where(s.filled(3.141592653589793), 0.0), s.filled(1.5707963267948966))
    low = far.where(back.where(s.filled(1.2246467991473532e-16), 0.0), s.filled(6.123233995736766e-17))
    s, rest = far.where(s + s, -s), far.where(rest + rest, -rest)
    return (whole + s) + (rest + low)


def short_arc_tangent_of(y, x, rare=False):
    return arc_tangent_of(y.f64(), x.f64(), rare).f32()


def is_extreme_to_one(x):
    return is_extreme(x.f64(), x.f64().filled(1.0))


def arc_tangent_to_one(x, rare=False):
    return arc_tangent_of(x, x.filled(1.0), rare)


def short_arc_tangent_to_one(x, rare=False):
    return arc_tangent_to_one(x.f64(), rare).f32()


def short_arc_cosine_of(x):
    return arc_cosine_of(x.f64()).f32()
'''

TRIG: Final[dict[str, Helper]] = NUMBERS | {
    "quarter_turns": Helper(_TABLE),
    "quarters": Helper(_REDUCED, ("quarter_turns", "numbers")),
    "turned": Helper(_TURNED, ("quarters",)),
    "sin_f64": function("sin_f64", "sine_of", "turned", rare="is_large"),
    "cos_f64": function("cos_f64", "cosine_of", "turned", rare="is_large"),
    "tan_f64": function("tan_f64", "tangent_of", "turned", rare="is_large"),
    "sin_f32": function("sin_f32", "short_sine_of", "turned", rare="is_large"),
    "cos_f32": function("cos_f32", "short_cosine_of", "turned", rare="is_large"),
    "tan_f32": function("tan_f32", "short_tangent_of", "turned", rare="is_large"),
    "arcs": Helper(_INVERSE, ("quarters",)),
    "atan2_f64": function("atan2_f64", "arc_tangent_of", "arcs", 2, "is_extreme"),
    "atan2_f32": function("atan2_f32", "short_arc_tangent_of", "arcs", 2, "is_extreme"),
    "atan_f64": function("atan_f64", "arc_tangent_to_one", "arcs", rare="is_extreme_to_one"),
    "atan_f32": function("atan_f32", "short_arc_tangent_to_one", "arcs", rare="is_extreme_to_one"),
    "asin_f64": function("asin_f64", "arc_sine_of", "arcs"),
    "acos_f64": function("acos_f64", "arc_cosine_of", "arcs"),
    "acos_f32": function("acos_f32", "short_arc_cosine_of", "arcs"),
}
