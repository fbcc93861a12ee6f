"""An NVVM intrinsic (`llvm.nvvm.fma.rm.f`) becomes a function in LLVM IR that means the same on the CPU."""

import re
from typing import Final

_ONE_INSTRUCTION: Final = re.compile(r"(?P<op>\w+(?:\.\w+)*)\s+\$0\s*,\s*\$1\s*(?:,\s*\$2\s*)?;")
_PATTERNS: Final = (
    ("mov.b32 {$0, $1}, $2", "=h,=h,r", "halves"),
    ("mov.b32 $0, {$1, $2}", "=r,h,h", "whole"),
    ("setp.equ.f64", "=d", "choose.equ"),
    ("add.cc.u32", "=l", "wide.add"),
    ("sub.cc.u32", "=l", "wide.sub"),
    ("mad.lo.cc.u32", "=r", "wide.mad"),
    ("clo,chi", "=l", "wide.mad"),
    ("mul.lo.u32", "=l", "wide.mul"),
)
"""What tells the longer pieces of inline PTX in libdevice apart: words of the text, the first constraint; the meaning's name."""


def inline_name(code: str, constraints: str) -> str | None:
    """The name, as for an intrinsic, of a piece of inline PTX that numba-cuda or libdevice writes; None for any other.

    >>> inline_name("sub.rm.f32 $0, $1, $2;", "=f,f,f"), inline_name("bar.red.popc.u32 $0, $1, $2, $3;", "=r,r")
    ('nvvm.sub.rm.f', None)
    """
    if (found := _ONE_INSTRUCTION.fullmatch(code.strip())) is not None:
        return "nvvm." + re.sub(r"(?<=[mnpzx])\.f32$", ".f", re.sub(r"(?<=[mnpzx])\.f64$", ".d", found["op"].replace(".ftz", "")))
    known = (name for words, first, name in _PATTERNS if words in code and constraints.startswith(first))
    if (name := next(known, None)) is None:
        return None
    return f"nvvm.inline.{name}.{'i32' if constraints.startswith('=r') else 'i64'}"


_SPECIAL: Final = {"tid": "thread", "ntid": "block", "ctaid": "block.index", "nctaid": "grid"}
_FLOATS: Final = {"f": "float", "d": "double", "f32": "float", "f64": "double"}
_ROUNDING: Final = {"rz": 0, "rp": 2, "rm": 3}
"""llvm.set.rounding's numbers; 1 is to nearest even."""
_ROUND_TO_WHOLE: Final = {"rn": "roundeven", "rz": "trunc", "rm": "floor", "rp": "ceil"}
_UNARY: Final = {
    "fabs": "fabs", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven",
    "ex2": "exp2", "lg2": "log2", "sin": "sin", "cos": "cos",
}  # fmt: skip
_INTEGER: Final = {"i": ("si", 32), "ui": ("ui", 32), "ll": ("si", 64), "ull": ("ui", 64)}


def definition(name: str, result: str, arguments: tuple[str, ...]) -> str | None:
    """A definition of the NVVM intrinsic `llvm.<name>` for the CPU (named `<name>`), or None for one that is not known here.

    `result` and `arguments` are LLVM types. Approximate instructions (`ex2.approx`) are computed accurately: the GPU's own result
    may differ by the documented error.
    """
    body = _body(name.removeprefix("nvvm.").replace(".ftz", ""), result, arguments)
    if body is None:
        return None
    parameters = ", ".join(f"{kind} %a{number}" for number, kind in enumerate(arguments))
    directed = re.search(r"\.r[zpm](\.|$)", name) is not None and "set.rounding" in body
    return f"define {result} @{name}({parameters}) {'noinline strictfp' if directed else 'alwaysinline'} {{\n{body}\n}}\n"


def _body(name: str, result: str, arguments: tuple[str, ...]) -> str | None:
    words = name.split(".")
    if words[:3] == ["read", "ptx", "sreg"]:
        return _special_register(words[3:])
    if name.startswith(("membar", "fence")):
        return "  ret void"
    for family in (_bits, _inline, _function, _arithmetic, _conversion):
        if (body := family(words, result, arguments)) is not None:
            return body
    return None


def _special_register(words: list[str]) -> str | None:
    if words[0] in _SPECIAL:
        offset = "xyz".index(words[1])
        return f"  %r = load i32, ptr getelementptr (i32, ptr @simt.{_SPECIAL[words[0]]}, i64 {offset})\n  ret i32 %r"
    if words == ["laneid"]:
        return "  %r = load i32, ptr @simt.lane\n  ret i32 %r"
    return "  ret i32 32" if words == ["warpsize"] else None


def _bits(words: list[str], result: str, arguments: tuple[str, ...]) -> str | None:
    match words:
        case ["lohi", "i2d"]:
            return (
                "  %lo = zext i32 %a0 to i64\n  %hi = zext i32 %a1 to i64\n  %up = shl i64 %hi, 32\n"
                "  %b = or i64 %up, %lo\n  %r = bitcast i64 %b to double\n  ret double %r"
            )
        case ["d2i", "lo" | "hi" as half]:
            shift = 32 if half == "hi" else 0
            return f"  %b = bitcast double %a0 to i64\n  %s = lshr i64 %b, {shift}\n  %r = trunc i64 %s to i32\n  ret i32 %r"
        case ["mulhi", kind]:
            extend = "zext" if kind.startswith("u") else "sext"
            bits = int(result[1:])
            return (
                f"  %x = {extend} {result} %a0 to i{2 * bits}\n"
                f"  %y = {extend} {result} %a1 to i{2 * bits}\n"
                f"  %p = mul i{2 * bits} %x, %y\n  %s = lshr i{2 * bits} %p, {bits}\n"
                f"  %r = trunc i{2 * bits} %s to {result}\n  ret {result} %r"
            )
        case ["f2h", "rn"]:
            return "  %h = fptrunc float %a0 to half\n  %r = bitcast half %h to i16\n  ret i16 %r"
        case ["cvt", "f32", "f16"]:
            return "  %h = bitcast i16 %a0 to half\n  %r = fpext half %h to float\n  ret float %r"
        case ["cvt", "rn", "f16", _]:
            return f"  %h = fptrunc {arguments[0]} %a0 to half\n  %r = bitcast half %h to i16\n  ret i16 %r"
        case ["bfind", "shiftamt", "u32"]:
            return (
                "  %n = call i32 @llvm.ctlz.i32(i32 %a0, i1 false)\n  %none = icmp eq i32 %a0, 0\n"
                "  %r = select i1 %none, i32 -1, i32 %n\n  ret i32 %r"
            )
        case ["bitcast", *_]:
            return f"  %r = bitcast {arguments[0]} %a0 to {result}\n  ret {result} %r"
        case _:
            return None


def _inline(words: list[str], result: str, arguments: tuple[str, ...]) -> str | None:
    match words:
        case ["inline", "choose", "equ", _]:
            return "  %p = fcmp ueq double %a0, %a1\n  %r = select i1 %p, double %a2, double %a3\n  ret double %r"
        case ["inline", "halves", _]:
            return (
                "  %low = trunc i32 %a0 to i16\n  %s = lshr i32 %a0, 16\n  %high = trunc i32 %s to i16\n"
                "  %p = insertvalue { i16, i16 } poison, i16 %low, 0\n  %r = insertvalue { i16, i16 } %p, i16 %high, 1\n"
                "  ret { i16, i16 } %r"
            )
        case ["inline", "whole", _]:
            return (
                "  %low = zext i16 %a0 to i32\n  %high = zext i16 %a1 to i32\n"
                "  %s = shl i32 %high, 16\n  %r = or i32 %s, %low\n  ret i32 %r"
            )
        case ["inline", "wide", op, kind]:
            return _wide(op, kind, int(kind[1:]))
        case _:
            return None


def _wide(op: str, kind: str, bits: int) -> str:
    """Arithmetic of twice the width; results (and the operands of add and sub) are pairs, low word first."""
    double = f"i{2 * bits}"

    def widened(name: str, low: int, high: int | None = None) -> str:
        text = f"  %{name}.low = zext {kind} %a{low} to {double}\n"
        if high is None:
            return text + f"  %{name} = or {double} %{name}.low, 0\n"
        text += f"  %{name}.high = zext {kind} %a{high} to {double}\n  %{name}.up = shl {double} %{name}.high, {bits}\n"
        return text + f"  %{name} = or {double} %{name}.low, %{name}.up\n"

    if op in ("add", "sub"):
        body = widened("x", 0, 1) + widened("y", 2, 3) + f"  %w = {op} {double} %x, %y\n"
    else:
        body = widened("x", 0) + widened("y", 1) + f"  %p = mul {double} %x, %y\n"
        body += (widened("z", 2) if op == "mad" else f"  %z = or {double} 0, 0\n") + f"  %w = add {double} %p, %z\n"
    pair = f"{{ {kind}, {kind} }}"
    return (
        f"{body}  %low = trunc {double} %w to {kind}\n  %top = lshr {double} %w, {bits}\n  %high = trunc {double} %top to {kind}\n"
        f"  %r1 = insertvalue {pair} poison, {kind} %low, 0\n  %r = insertvalue {pair} %r1, {kind} %high, 1\n  ret {pair} %r"
    )


def _intrinsic(name: str, kind: str, arguments: str) -> str:
    return f"call {kind} @llvm.{name}.{'f32' if kind == 'float' else 'f64'}({arguments})"


def _function(words: list[str], result: str, arguments: tuple[str, ...]) -> str | None:
    if result not in ("float", "double"):
        return None
    operands = ", ".join(f"{kind} %a{number}" for number, kind in enumerate(arguments))
    match words:
        case ["fmin" | "fmax" as op, *_]:
            # PTX: a NaN operand is ignored, and -0.0 is less than +0.0.
            return f"  %r = {_intrinsic('minimumnum' if op == 'fmin' else 'maximumnum', result, operands)}\n  ret {result} %r"
        case ["saturate", _]:
            low = _intrinsic("maximumnum", result, f"{result} %a0, {result} 0.0")
            return f"  %low = {low}\n  %r = {_intrinsic('minimumnum', result, f'{result} %low, {result} 1.0')}\n  ret {result} %r"
        case ["sqrt", "approx" | "rn" | "f" | "d", *_]:
            return f"  %r = {_intrinsic('sqrt', result, operands)}\n  ret {result} %r"
        case ["rsqrt", "approx", _]:
            wide = "  %w = fpext float %a0 to double\n" if result == "float" else "  %w = fadd double %a0, -0.0\n"
            narrow = "  %r = fptrunc double %q to float\n" if result == "float" else "  %r = fadd double %q, -0.0\n"
            return f"{wide}  %s = {_intrinsic('sqrt', 'double', 'double %w')}\n  %q = fdiv double 1.0, %s\n{narrow}  ret {result} %r"
        case [op, *_] if op in _UNARY and len(arguments) == 1:
            return f"  %r = {_intrinsic(_UNARY[op], result, operands)}\n  ret {result} %r"
        case _:
            return None


def _arithmetic(words: list[str], result: str, arguments: tuple[str, ...]) -> str | None:
    if len(words) < 2 or words[0] not in ("add", "sub", "mul", "div", "rcp", "sqrt", "fma") or result not in ("float", "double"):
        return None
    op, rounding = words[0], words[1]
    suffix = "f32" if result == "float" else "f64"
    operands = [f"{result} %a{number}" for number in range(len(arguments))]
    if op == "rcp":
        op, operands = "div", [f"{result} 1.0", *operands]
    if rounding in ("rn", "approx"):
        if op == "fma":
            return f"  %r = call {result} @llvm.fma.{suffix}({', '.join(operands)})\n  ret {result} %r"
        return f"  %r = f{op} {operands[0]}, {operands[1].split()[1]}\n  ret {result} %r"
    if rounding not in _ROUNDING:
        return None
    plain = {"fma": "fma", "sqrt": "sqrt"}.get(op, f"f{op}")
    call = f"call {result} @llvm.experimental.constrained.{plain}.{suffix}({', '.join(operands)}, {_DYNAMIC}) strictfp"
    return _directed(f"  %r = {call}", result, rounding)


_DYNAMIC: Final = 'metadata !"round.dynamic", metadata !"fpexcept.strict"'


def _directed(line: str, result: str, rounding: str) -> str:
    return (
        f"  call void @llvm.set.rounding(i32 {_ROUNDING[rounding]}) strictfp\n{line}\n"
        f"  call void @llvm.set.rounding(i32 1) strictfp\n  ret {result} %r"
    )


def _conversion(words: list[str], result: str, arguments: tuple[str, ...]) -> str | None:
    if len(words) != 2 or (found := re.fullmatch(r"(d|f|i|ui|ll|ull)2(d|f|i|ui|ll|ull)", words[0])) is None:
        return None
    source, target, rounding = found[1], found[2], words[1]
    argument = arguments[0]
    if source in _FLOATS and target in _INTEGER:
        return _float_to_integer(argument, result, target, rounding)
    kind = {True: "fptrunc"}.get(source == "d", f"{'u' if source.startswith('u') else 's'}itofp")
    if rounding == "rn":
        return f"  %r = {kind} {argument} %a0 to {result}\n  ret {result} %r"
    suffix = f"{result.replace('float', 'f32').replace('double', 'f64')}.{argument.replace('double', 'f64')}"
    call = f"call {result} @llvm.experimental.constrained.{kind}.{suffix}({argument} %a0, {_DYNAMIC}) strictfp"
    return _directed(f"  %r = {call}", result, rounding)


def _float_to_integer(argument: str, result: str, target: str, rounding: str) -> str:
    sign, bits = _INTEGER[target]
    suffix = "f32" if argument == "float" else "f64"
    saturating = f"call {result} @llvm.fpto{sign}.sat.{result}.{suffix}({argument} %w)"
    # The PTX manual: NaN becomes 0 between 32-bit types, else the integer whose top bit alone is set.
    nan = "0" if bits == 32 and argument == "float" else str(-(1 << (bits - 1)))
    return (
        f"  %w = {_intrinsic(_ROUND_TO_WHOLE[rounding], argument, f'{argument} %a0')}\n  %i = {saturating}\n"
        f"  %nan = fcmp uno {argument} %a0, 0.0\n  %r = select i1 %nan, {result} {nan}, {result} %i\n  ret {result} %r"
    )
