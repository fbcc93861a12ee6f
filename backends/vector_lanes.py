"""Source text of the helpers with which an emitted CPU module holds vectors in registers: masked loads and stores, arithmetic, splats.

A vector is a numba type of its own, one LLVM vector. Lanes behind a mask are neither read nor written; a load gives 0 there.
"""

from typing import Final

from backends.helper import Helper

_TYPES: Final = '''class Lanes(types.Type):
    """One LLVM vector of numbers or, as a mask, of bits."""

    def __init__(self, dtype, count):
        self.dtype, self.count = dtype, count
        super().__init__(f"{count} lanes of {dtype}")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.boolean: ir.IntType(1)}[kind.dtype]
        super().__init__(manager, kind, ir.VectorType(element, kind.count))


def suffix(kind):
    """How LLVM calls a vector type in the names of its functions."""
    return f"v{kind.count}f{64 if kind.element == ir.DoubleType() else 32}"


def call(builder, name, result, args):
    """A call of one of LLVM's own functions."""
    function = ir.FunctionType(result, [x.type for x in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), args)


def spread(builder, value, count):
    """A vector of one value."""
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))
'''

_PLACE: Final = '''def place(context, builder, signature, args):
    """The address of an element as one of a vector."""
    array, index = signature.args[:2]
    held = context.make_array(array)(context, builder, args[0])
    indices = [context.cast(builder, x, kind, types.intp) for x, kind in zip(cgutils.unpack_tuple(builder, args[1]), index)]
    return cgutils.get_item_pointer(context, builder, array, held, indices, wraparound=False)
'''

_MEMORY: Final = '''def align(array):
    """Bytes that an element's address is a multiple of, as LLVM wants to be told."""
    return ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8)


def masked(builder, what, kind, result, args):
    """A call of LLVM's masked load or store of vectors of a kind."""
    name = f"llvm.masked.{what}.{suffix(kind)}.p0{suffix(kind)}"
    return call(builder, name, result, args)
'''

_STREAM: Final = '''@intrinsic
def stream(context, target, at, source, here, count):
    """Writes neighbouring elements, from `at` on, past the caches: lines of memory that are whole; the ends are stored as ever."""

    def generate(context, builder, signature, args):
        word, kind = ir.IntType(64), context.get_data_type(source.dtype)
        size = context.get_abi_sizeof(kind)
        side = 64 // size
        vector = ir.VectorType(kind, side)
        to = place(context, builder, types.void(target, at), args[:2])
        of = place(context, builder, types.void(source, here), args[2:4])
        number = lambda value: ir.Constant(word, value)
        count = context.cast(builder, args[4], signature.args[4], types.int64)

        def copied(first, last):
            with cgutils.for_range_slice(builder, first, last, number(1)) as (i, _):
                builder.store(builder.load(builder.gep(of, [i])), builder.gep(to, [i]))

        ahead = builder.udiv(builder.and_(builder.neg(builder.ptrtoint(to, word)), number(63)), number(size))
        first = builder.select(builder.icmp_signed("<", ahead, count), ahead, count)
        lines = builder.udiv(builder.sub(count, first), number(side))
        copied(number(0), first)
        hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        with cgutils.for_range(builder, lines) as loop:
            i = builder.add(first, builder.mul(loop.index, number(side)))
            value = builder.load(builder.bitcast(builder.gep(of, [i]), vector.as_pointer()), align=size, typ=vector)
            stored = builder.store(value, builder.bitcast(builder.gep(to, [i]), vector.as_pointer()), align=64)
            stored.set_metadata("nontemporal", hint)
        copied(builder.add(first, builder.mul(lines, number(side))), count)
        return context.get_dummy_value()

    return types.void(target, at, source, here, count), generate


@intrinsic
def drain(context):
    """What was written past the caches is in memory before anything that follows."""

    def generate(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
'''

_PREFETCH: Final = '''@intrinsic
def prefetch(context, source, at, count):
    """Asks for the lines of neighbouring elements, from `at` on, to come into the second-level cache."""

    def generate(context, builder, signature, args):
        word, byte = ir.IntType(64), ir.IntType(8)
        first = builder.bitcast(place(context, builder, types.void(source, at), args[:2]), byte.as_pointer())
        size = context.get_abi_sizeof(context.get_data_type(source.dtype))
        bytes_ = builder.mul(context.cast(builder, args[2], signature.args[2], types.int64), ir.Constant(word, size))
        how = [ir.Constant(ir.IntType(32), x) for x in (0, 2, 1)]  # to read, into the second level, data
        with cgutils.for_range_slice(builder, ir.Constant(word, 0), bytes_, ir.Constant(word, 64)) as (i, _):
            line = builder.gep(first, [i])
            kinds = ir.FunctionType(ir.VoidType(), [line.type, *(x.type for x in how)])
            builder.call(cgutils.get_or_insert_function(builder.module, kinds, "llvm.prefetch.p0"), [line, *how])
        return context.get_dummy_value()

    return types.void(source, at, count), generate
'''

_TURN: Final = '''@intrinsic(prefer_literal=True)
def turn_lanes(context, count, target, at, below, source, here, beside):
    """Turns a square: row r of the target, from `at` on, is what lies r elements after each of the places `here`, `beside`, …"""
    side = count.literal_value

    def generate(context, builder, signature, args):
        index = ir.IntType(32)
        kind = context.get_value_type(source.dtype)
        vector = ir.VectorType(kind, side)

        def addresses(array, held, first, second, kinds):
            place_of = lambda at, kind: place(context, builder, types.void(array, kind), [held, at])
            begin, after = place_of(first, kinds[0]), place_of(second, kinds[1])
            word = ir.IntType(64)
            step = builder.sub(builder.ptrtoint(after, word), builder.ptrtoint(begin, word))
            byte = builder.bitcast(begin, ir.IntType(8).as_pointer())
            return [builder.bitcast(builder.gep(byte, [builder.mul(step, ir.Constant(word, n))]), vector.as_pointer()) for n in range(side)]

        align = source.dtype.bitwidth // 8
        reads = addresses(source, args[4], args[5], args[6], (here, beside))
        held = [builder.load(x, align=align, typ=vector) for x in reads]
        half = side // 2
        while half:  # rows and columns change sides: halves, then quarters, …
            for n in range(side):
                if not n & half:
                    a, b = held[n], held[n + half]
                    low = [k if not k & half else side + k - half for k in range(side)]
                    high = [k + half if not k & half else side + k for k in range(side)]
                    mask = lambda lanes: ir.Constant(ir.VectorType(index, side), lanes)
                    held[n], held[n + half] = builder.shuffle_vector(a, b, mask(low)), builder.shuffle_vector(a, b, mask(high))
            half //= 2
        for value, x in zip(held, addresses(target, args[1], args[2], args[3], (at, below))):
            builder.store(value, x, align=align)
        return context.get_dummy_value()

    return types.void(count, target, at, below, source, here, beside), generate
'''


def _arithmetic(name: str, what: str, arity: int, result: str) -> Helper:
    args = ", ".join("abc"[:arity])
    return Helper(
        f'@intrinsic\ndef {name}(context, {args}):\n    """{what}"""\n\n    def generate(context, builder, signature, args):\n'
        f"        return {result}\n\n    return a({', '.join('a' * arity)}), generate\n",
        ("lanes",),
    )


LANES: Final[dict[str, Helper]] = {
    "lanes": Helper(_TYPES),
    "place": Helper(_PLACE),
    "lanes_in_memory": Helper(_MEMORY, ("place", "lanes")),
    "splat": Helper(
        '@intrinsic(prefer_literal=True)\ndef splat(context, count, value):\n    """A vector of one value."""\n\n'
        "    def generate(context, builder, signature, args):\n"
        "        return spread(builder, args[1], count.literal_value)\n\n"
        "    return Lanes(value, count.literal_value)(count, value), generate\n",
        ("lanes",),
    ),
    "lanes_below": Helper(
        '@intrinsic(prefer_literal=True)\ndef lanes_below(context, count, end):\n    """A mask of the lanes below `end`."""\n\n'
        "    def generate(context, builder, signature, args):\n"
        "        # Made of bits, once: LLVM would make a comparison anew in each loop that uses it.\n"
        "        lanes, none, one, end = count.literal_value, args[1].type(0), args[1].type(1), args[1]\n"
        '        end = builder.select(builder.icmp_signed("<", end, none), none, end)\n'
        '        end = builder.select(builder.icmp_signed(">", end, none.type(lanes)), none.type(lanes), end)\n'
        "        bits = builder.sub(builder.shl(one, end), one)\n"
        "        return builder.bitcast(builder.trunc(bits, ir.IntType(lanes)), ir.VectorType(ir.IntType(1), lanes))\n\n"
        "    return Lanes(types.boolean, count.literal_value)(count, types.int64), generate\n",
        ("lanes",),
    ),
    "load_lanes": Helper(
        '@intrinsic\ndef load_lanes(context, array, index, mask):\n    """Neighbouring elements, from the one at `index` on."""\n'
        "    kind = Lanes(array.dtype, mask.count)\n\n"
        "    def generate(context, builder, signature, args):\n"
        "        element = place(context, builder, signature, args)\n"
        "        vector = context.get_value_type(kind)\n"
        "        parts = [builder.bitcast(element, vector.as_pointer()), align(array), args[2], ir.Constant(vector, None)]\n"
        '        return masked(builder, "load", vector, vector, parts)\n\n'
        "    return kind(array, index, mask), generate\n",
        ("lanes_in_memory",),
    ),
    "store_lanes": Helper(
        '@intrinsic\ndef store_lanes(context, array, index, mask, value):\n    """Stores to neighbouring elements."""\n\n'
        "    def generate(context, builder, signature, args):\n"
        "        element = place(context, builder, signature, args)\n"
        "        vector = args[3].type\n"
        "        parts = [args[3], builder.bitcast(element, vector.as_pointer()), align(array), args[2]]\n"
        '        masked(builder, "store", vector, ir.VoidType(), parts)\n'
        "        return context.get_dummy_value()\n\n"
        "    return types.void(array, index, mask, value), generate\n",
        ("lanes_in_memory",),
    ),
    "read_lanes": Helper(
        '@intrinsic(prefer_literal=True)\ndef read_lanes(context, count, array, index):\n'
        '    """Neighbouring elements, from the one at `index` on, all of them."""\n'
        "    kind = Lanes(array.dtype, count.literal_value)\n\n"
        "    def generate(context, builder, signature, args):\n"
        "        vector = context.get_value_type(kind)\n"
        "        element = place(context, builder, types.void(array, index), args[1:])\n"
        "        return builder.load(builder.bitcast(element, vector.as_pointer()), align=array.dtype.bitwidth // 8, typ=vector)\n\n"
        "    return kind(count, array, index), generate\n",
        ("place", "lanes"),
    ),
    "write_lanes": Helper(
        '@intrinsic\ndef write_lanes(context, array, index, value):\n    """Stores to neighbouring elements, all of them."""\n\n'
        "    def generate(context, builder, signature, args):\n"
        "        element = place(context, builder, signature, args)\n"
        "        builder.store(args[2], builder.bitcast(element, args[2].type.as_pointer()), align=array.dtype.bitwidth // 8)\n"
        "        return context.get_dummy_value()\n\n"
        "    return types.void(array, index, value), generate\n",
        ("place", "lanes"),
    ),
    "shift_lanes": Helper(
        '@intrinsic(prefer_literal=True)\ndef shift_lanes(context, a, b, by):\n'
        '    """The lanes of a from the one at `by` on, followed by the first of b."""\n'
        "    first = by.literal_value\n\n"
        "    def generate(context, builder, signature, args):\n"
        "        count = args[0].type.count\n"
        "        lanes = ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(first, first + count)))\n"
        "        return builder.shuffle_vector(args[0], args[1], lanes)\n\n"
        "    return a(a, b, by), generate\n",
        ("lanes",),
    ),
    "turn_lanes": Helper(_TURN, ("lanes_in_memory",)),
    "stream": Helper(_STREAM, ("place",)),
    "prefetch": Helper(_PREFETCH, ("place",)),
    "add_lanes": _arithmetic("add_lanes", "a + b", 2, "builder.fadd(*args)"),
    "sub_lanes": _arithmetic("sub_lanes", "a - b", 2, "builder.fsub(*args)"),
    "mul_lanes": _arithmetic("mul_lanes", "a * b", 2, "builder.fmul(*args)"),
    "div_lanes": _arithmetic("div_lanes", "a / b", 2, "builder.fdiv(*args)"),
    "neg_lanes": _arithmetic("neg_lanes", "-a", 1, "builder.fneg(*args)"),
    "fma_lanes": _arithmetic(
        "fma_lanes", "a * b + c, rounded once.", 3, "call(builder, f'llvm.fma.{suffix(args[0].type)}', args[0].type, args)"
    ),
}  # fmt: skip
