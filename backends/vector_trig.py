"""Source text of sine, cosine and arc tangent as functions that vectorise, for arguments of every size.

An argument m * 2**e is reduced exactly: what 2**e * 2 / pi leaves modulo 4 stands in a table, in four doubles, and the products with m
are kept with their rounding errors (as Payne and Hanek reduce, 1983, with a table in place of the bits). The sine and cosine
polynomials are those of fdlibm; the arc tangent's interpolates at Chebyshev nodes. f32 functions compute in f64 and round once.
"""

from typing import Final

from backends.helper import EXACT, Helper

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
    return np.ascontiguousarray(table.T)


TURNS_A, TURNS_B, TURNS_C, TURNS_D = quarter_turns()
'''

_REDUCED: Final = (
    EXACT
    + '''def reduced(x):
    """|x| as quarter turns and a rest: twice 2**52 with the number of quarters modulo 4 in its last bits, the rest in two parts."""
    bits = bits_of_f64(abs(x))
    exponent = uint64(bits >> 52)
    m = f64_of_bits((bits & 0xFFFFFFFFFFFFF) | (1075 << 52))
    a, b = TURNS_A[exponent], TURNS_B[exponent]
    c = TURNS_C[exponent]
    high, second, third = m * a, m * b, m * c
    low, rest, last = fma(m, a, -high), fma(m, b, -second), fma(m, c, -third)
    total, first = two_sum(high - 4.0 * np.rint(high * 0.25), low)
    total, error = two_sum(total, second)
    number = total + 6755399441055744.0
    r, tail = two_sum(total - (number - 6755399441055744.0), first)
    r, more = two_sum(r, error)
    tail += more
    r, more = two_sum(r, rest)
    tail += more
    r, more = two_sum(r, third)
    r, tail = two_sum(r, tail + (more + fma(m, TURNS_D[exponent], last)))
    angle = r * 1.5707963267948966
    return bits_of_f64(number), angle, fma(r, 1.5707963267948966, -angle) + (r * 6.123233995736766e-17 + tail * 1.5707963267948966)
'''
)
_SINE: Final = (1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06, -1.98412698298579493134e-04,
                8.33333333332248946124e-03, -1.66666666666666324348e-01)  # fmt: skip
_COSINE: Final = (-1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07, 2.48015872894767294178e-05,
                  -1.38888888888741095749e-03, 4.16666666666666019037e-02)  # fmt: skip
_ATAN64: Final = (
    -0.3333333333333333, 0.19999999999999993, -0.14285714285711515, 0.11111111110754406,
    -0.0909090906699066, 0.07692306735321475, -0.06666642004996545, 0.05881925033877732,
    -0.052580394289794816, 0.04719381457895137, -0.04104381417807643, 0.03063443323901452,
    -0.013916943217800841,
)  # fmt: skip


def _polynomial(name: str, variable: str, coefficients: tuple[float, ...]) -> str:
    """Lines that leave the polynomial (highest power first) in `name`."""
    lines = [f"    {name} = {coefficients[0]!r}\n"]
    return "".join(lines + [f"    {name} = fmadd({name}, {variable}, {c!r})\n" for c in coefficients[1:]])


_TURNED: Final = (
    EXACT
    + '''def turned(quarters, x, tail):
    """The sine of x + tail after so many quarter turns."""
    z = x * x
'''
    + _polynomial("p", "z", _SINE)
    + "    sine = x + fmadd(z * x, p, tail * (1.0 - 0.5 * z))\n"
    + _polynomial("q", "z", _COSINE)
    + "    half = 0.5 * z\n    first = 1.0 - half\n    cosine = first + (((1.0 - first) - half) + (z * z * q - x * tail))\n"
    + "    y = cosine if quarters & 1 else sine\n    return -y if quarters & 2 else y\n"
)
_SIN: Final = (
    EXACT
    + "def sin_f64(x):\n    quarters, angle, tail = reduced(x)\n    y = turned(quarters, angle, tail)\n    y = -y if x < 0.0 else y\n"
    + "    return x if abs(x) < 1e-8 else y\n"
)
_COS: Final = EXACT + "def cos_f64(x):\n    quarters, angle, tail = reduced(x)\n    return turned(quarters + 1, angle, tail)\n"
_ATAN2: Final = (
    EXACT
    + """def atan2_f64(y, x):
    far, near = max_nan(abs(x), abs(y)), min_nan(abs(x), abs(y))
    t = near / far
    t = 0.0 if far == 0.0 else t
    t = 1.0 if near == np.inf else t
    over = t > 0.41421356237309503
    t = (near - far) / (near + far) if over and near < np.inf else (0.0 if over else t)
    z = t * t
"""
    + _polynomial("p", "z", tuple(reversed(_ATAN64)))
    + """    angle = fmadd(t * z, p, t)
    angle = (angle + 3.061616997868383e-17) + 0.7853981633974483 if over else angle
    angle = (6.123233995736766e-17 - angle) + 1.5707963267948966 if abs(y) > abs(x) else angle
    angle = (1.2246467991473532e-16 - angle) + 3.141592653589793 if math.copysign(1.0, x) < 0.0 else angle
    return math.copysign(angle, y)
"""
)

TRIG: Final[dict[str, Helper]] = {
    "quarter_turns": Helper(_TABLE),
    "two_sum": Helper(
        EXACT + 'def two_sum(a, b):\n    """The rounded sum, and its rounding error (Knuth)."""\n'
        "    total = a + b\n    part = total - a\n    return total, (a - (total - part)) + (b - part)\n"
    ),
    "reduced": Helper(_REDUCED, ("quarter_turns", "two_sum", "bits_of_f64", "f64_of_bits", "fma")),
    "turned": Helper(_TURNED, ("fmadd",)),
    "sin_f64": Helper(_SIN, ("reduced", "turned")),
    "cos_f64": Helper(_COS, ("reduced", "turned")),
    "atan2_f64": Helper(_ATAN2, ("fmadd", "max_nan", "min_nan")),
    "sin_f32": Helper(EXACT + "def sin_f32(x):\n    return float32(sin_f64(float64(x)))\n", ("sin_f64",)),
    "cos_f32": Helper(EXACT + "def cos_f32(x):\n    return float32(cos_f64(float64(x)))\n", ("cos_f64",)),
    "atan2_f32": Helper(EXACT + "def atan2_f32(y, x):\n    return float32(atan2_f64(float64(y), float64(x)))\n", ("atan2_f64",)),
}
