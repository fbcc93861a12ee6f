"""What numba.cuda has no word for becomes a small device function in the emitted source: one table row a function."""

from typing import Final

NOALIAS: Final = '''@intrinsic
def noalias(context):
    """Tells the compiler that no two arrays of this kernel overlap: loads may be reordered with stores."""

    def generate(context, builder, signature, arguments):
        for argument in builder.function.args:
            if argument.name.endswith(".4"):  # the data pointer of an array
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate
'''

WIDE: Final = '''def mover(move):
    """The intrinsic (array, place, part, count): `move` for each piece of array[place : place + count] and of part, of up to 128 bits.

    The array must be so aligned there.
    """

    def typed(context, array, place, part, count):
        if not isinstance(count, types.IntegerLiteral):
            return None

        def generate(context, builder, signature, arguments):
            array, part = (context.make_array(signature.args[n])(context, builder, arguments[n]) for n in (0, 2))
            item = context.get_data_type(signature.args[0].dtype)
            for at, held, kind, bits in pieces(item, context.get_abi_sizeof(item), signature.args[3].literal_value):
                place = builder.add(arguments[1], arguments[1].type(at))
                there = builder.bitcast(builder.gep(array.data, [place]), kind.as_pointer())
                here = [builder.gep(part.data, [word(at + n)]) for n in range(held)]
                move(builder, there, here, kind, item, bits // 8)
            return context.get_dummy_value()

        return types.void(array, place, part, count), generate

    return intrinsic(typed)


def loaded(builder, there, here, kind, item, align):
    """One load of a vector, then its elements to where they are held."""
    value = builder.load(there, align=align)
    lanes = [builder.extract_element(value, word(n)) for n in range(kind.count)]
    if kind.count < len(here):
        split = ir.InlineAsm(ir.FunctionType(halves, [word]), "mov.b32 {$0, $1}, $2;", "=h,=h,r")
        pairs = [builder.call(split, [lane]) for lane in lanes]
        lanes = [builder.bitcast(builder.extract_value(pair, n), item) for pair in pairs for n in (0, 1)]
    for lane, at in zip(lanes, here):
        builder.store(lane, at)


def stored(builder, there, here, kind, item, align):
    """The elements from where they are held, then one store of a vector."""
    lanes = [builder.load(at) for at in here]
    if kind.count < len(here):
        join = ir.InlineAsm(ir.FunctionType(word, halves.elements), "mov.b32 $0, {$1, $2};", "=r,h,h")
        lanes = [builder.bitcast(lane, halves.elements[0]) for lane in lanes]
        lanes = [builder.call(join, lanes[n : n + 2]) for n in range(0, len(here), 2)]
    value = ir.Constant(kind, ir.Undefined)
    for n, lane in enumerate(lanes):
        value = builder.insert_element(value, lane, word(n))
    builder.store(value, there, align=align)


wide_load, wide_store = mover(loaded), mover(stored)
word = ir.IntType(32)
halves = ir.LiteralStructType([ir.IntType(16), ir.IntType(16)])


def pieces(item, size, number):
    """(first element, elements, vector type, bits) of each access that moves `number` elements of `size` bytes.

    Elements of 16 bits go in pairs, as 32: the compiler would split a vector of eight in two accesses.
    """
    held = min(number, 16 // size)
    paired = size == 2 and held > 1
    kind = ir.VectorType(word, held // 2) if paired else ir.VectorType(item, held)
    return [(at, held, kind, held * size * 8) for at in range(0, number, held)]
'''

ALIGNED: Final = '''def aligned(*arrays):
    """Whether every array starts at a multiple of 16 bytes."""
    return all(array.__cuda_array_interface__["data"][0] % 16 == 0 for array in arrays)
'''

_HELPERS: Final[dict[str, tuple[str, str]]] = {
    "maximum": ("a, b", "return a if a >= b or a != a else b"),
    "minimum": ("a, b", "return a if a <= b or a != a else b"),
    "fmaximum": ("a, b", "return a if a >= b or b != b else b"),
    "fminimum": ("a, b", "return a if a <= b or b != b else b"),
    "sign": ("a", "return {T}(1) if a > {T}(0) else ({T}(-1) if a < {T}(0) else ({T}(0) if a == {T}(0) else a))"),
    "floordiv": ("a, b", "return {T}(0) if b == {T}(0) else ({T}(-a) if b == {T}(-1) else {T}(a // b))"),
    "mod": ("a, b", "return {T}(0) if b == {T}(0) or b == {T}(-1) else {T}(a % b)"),
    "shl": ("a, b", "return {T}(a << b) if {T}(0) <= b and b < {T}({bits}) else {T}(0)"),
    "shr": ("a, b", "return {T}(a >> b) if {T}(0) <= b and b < {T}({bits}) else {T}(a >> {T}({last}))"),
}  # fmt: skip
"""Arguments and body; {T} is the numba type, {bits} its width, {last} that less one. The floats' floordiv and mod are _MODULUS."""

_SATURATE: Final = '''def {name}(a):
    """Toward zero; what does not fit becomes the nearest end, NaN 0."""
    if a != a:
        return {I}(0)
    if a >= {T}({end}.0):
        return {I}({last})
    if a <= {T}(-{end}.0):
        return {I}(-{end})
    return {I}(a)
'''

_MODULUS: Final = '''def float_mod_{S}(a, b):
    """NumPy's `a % b`: the sign of b."""
    if b == {T}(0):
        return {T}(math.nan)
    rest = libdevice.{fmod}(a, b)
    if rest == {T}(0):
        return libdevice.{copysign}({T}(0), b)
    return rest + b if (b < {T}(0)) != (rest < {T}(0)) else rest
'''

_FLOOR: Final = '''def float_floordiv_{S}(a, b):
    """NumPy's `a // b`."""
    if b == {T}(0):
        return a / b
    rest = libdevice.{fmod}(a, b)
    quotient = (a - rest) / b
    if rest != {T}(0) and (b < {T}(0)) != (rest < {T}(0)):
        quotient = quotient - {T}(1)
    if quotient == {T}(0):
        return libdevice.{copysign}({T}(0), a / b)
    whole = libdevice.{floor}(quotient)
    return whole + {T}(1) if quotient - whole > {T}(0.5) else whole
'''

_BFLOAT: Final = {
    "from_bf16": (
        "bits",
        "A bf16's float32: its bits are the upper half.",
        ["return libdevice.int_as_float(int32(bits) << int32(16))"],
    ),
    "to_bf16": (
        "a",
        "The bits of the nearest bf16, ties to even; NaN stays NaN.",
        [
            "bits = uint32(libdevice.float_as_int(a))",
            "if a != a:",
            "    return uint16(uint32(bits >> uint32(16)) | uint32(64))",
            "return uint16(uint32(bits + uint32(32767) + (uint32(bits >> uint32(16)) & uint32(1))) >> uint32(16))",
        ],
    ),
}

_BITS: Final = {"float32": 32, "float64": 64, "int32": 32, "int64": 64}
_SHORT: Final = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64"}
_DECORATOR: Final = '@cuda.jit(device=True, inline="always")\n'


def helper_name(helper: str, numba_type: str) -> str:
    """The name under which the helper of this type is called.

    >>> helper_name("maximum", "float32")
    'maximum_f32'
    """
    return f"{helper}_{_SHORT[numba_type]}"


def prelude(used: frozenset[str]) -> str:
    """The definitions of the helpers that are called, in a fixed order; `power<n>_f32` is made for each exponent n."""
    texts: list[str] = [_DECORATOR + _definition(name) for name in sorted(used)]
    return "\n\n".join(texts)


def _definition(name: str) -> str:
    if name in _BFLOAT:
        argument, doc, lines = _BFLOAT[name]
        return f'def {name}({argument}):\n    """{doc}"""\n' + "".join(f"    {line}\n" for line in lines)
    helper, _, short = name.rpartition("_")
    kind = next(t for t, s in _SHORT.items() if s == short)
    suffix = "f" if kind == "float32" else ""
    words = {"fmod": f"fmod{suffix}", "copysign": f"copysign{suffix}", "floor": f"floor{suffix}"}
    if helper.startswith("power"):
        return _power(name, helper.removeprefix("power").removesuffix("_contract"), kind)
    if helper in ("float_mod", "float_floordiv"):
        return (_MODULUS if helper == "float_mod" else _FLOOR).format(T=kind, S=short, **words)
    if helper in ("to_int32", "to_int64"):
        end = 1 << (_BITS[helper.removeprefix("to_")] - 1)
        return _SATURATE.format(name=name, I=helper.removeprefix("to_"), T=kind, end=end, last=end - 1)
    arguments, body = _HELPERS[helper]
    return f"def {name}({arguments}):\n    {body.format(T=kind, bits=_BITS[kind], last=_BITS[kind] - 1)}\n"


def _power(name: str, exponent: str, kind: str) -> str:
    """`x ** n` by squaring, in the order of the reference: p(n) = p(n // 2) ** 2 * (x if n is odd)."""
    n = int(exponent.replace("m", "-"))
    multiply = {"float32": "libdevice.fmul_rn({}, {})", "float64": "libdevice.dmul_rn({}, {})"}.get(kind, f"{kind}({{}} * {{}})")
    lines: list[str] = []
    value = "x"
    if n == 0:
        value = f"{kind}(1)"
    for bit in bin(abs(n))[3:]:
        value = multiply.format(value, value)
        lines.append(f"    p = {value}\n")
        value = "p"
        if bit == "1":
            lines.append(f"    p = {multiply.format('p', 'x')}\n")
    return (
        f"def {name}(x):\n{''.join(lines)}    return {value}\n"
        if n >= 0
        else f"def {name}(x):\n{''.join(lines)}    return {kind}(1) / {value}\n"
    )
