"""NVVM's intrinsics and a CUDA block's threads become LLVM IR for the CPU: one fiber a thread, over libc's makecontext and swapcontext.

Only text is made here; `simt_run.py` links it to a kernel and drives it. A thread that meets a barrier, shuffle or vote notes what it
waits for and switches back to the scheduler, which wakes it when all whom it waits for have come.
"""

import re
from typing import Final

RUNNABLE: Final = 0
AT_BLOCK_BARRIER: Final = 1
AT_WARP_BARRIER: Final = 2
RETURNED: Final = 3
CONTEXT_BYTES: Final = 8192
"""Room for a ucontext_t (968 bytes in glibc on x86-64, 4560 on AArch64)."""

RUNTIME: Final = f"""
@simt.arguments = global ptr null
@simt.grid = global [3 x i32] zeroinitializer
@simt.block = global [3 x i32] zeroinitializer
@simt.block.index = global [3 x i32] zeroinitializer
@simt.thread = global [3 x i32] zeroinitializer
@simt.lane = global i32 0
@simt.current = global i64 0
@simt.contexts = global ptr null
@simt.stacks = global ptr null
@simt.stack.bytes = global i64 0
@simt.state = global ptr null
@simt.mask = global ptr null
@simt.site = global ptr null
@simt.sent = global ptr null
@simt.received = global ptr null
@simt.scheduler = global [{CONTEXT_BYTES} x i8] zeroinitializer, align 16

declare i32 @getcontext(ptr) returns_twice
declare i32 @swapcontext(ptr, ptr)
declare void @makecontext(ptr, ptr, i32, ...)
declare ptr @llvm.returnaddress(i32)

; Makes thread number %index the one whose registers are read.
define internal void @simt.become(i64 %index) {{
  store i64 %index, ptr @simt.current
  %n = trunc i64 %index to i32
  %lane = and i32 %n, 31
  store i32 %lane, ptr @simt.lane
  %nx = load i32, ptr @simt.block
  %ny = load i32, ptr getelementptr (i32, ptr @simt.block, i64 1)
  %x = urem i32 %n, %nx
  %rest = udiv i32 %n, %nx
  %y = urem i32 %rest, %ny
  %z = udiv i32 %rest, %ny
  store i32 %x, ptr @simt.thread
  store i32 %y, ptr getelementptr (i32, ptr @simt.thread, i64 1)
  store i32 %z, ptr getelementptr (i32, ptr @simt.thread, i64 2)
  ret void
}}

define internal ptr @simt.context(i64 %index) {{
  %base = load ptr, ptr @simt.contexts
  %offset = mul i64 %index, {CONTEXT_BYTES}
  %context = getelementptr i8, ptr %base, i64 %offset
  ret ptr %context
}}

; Leaves the current thread in a waiting state until the scheduler resumes it.
define internal void @simt.suspend(i32 %state, i32 %mask, ptr %site) noinline {{
  %index = load i64, ptr @simt.current
  %states = load ptr, ptr @simt.state
  %state.at = getelementptr i32, ptr %states, i64 %index
  store i32 %state, ptr %state.at
  %masks = load ptr, ptr @simt.mask
  %mask.at = getelementptr i32, ptr %masks, i64 %index
  store i32 %mask, ptr %mask.at
  %sites = load ptr, ptr @simt.site
  %site.at = getelementptr i64, ptr %sites, i64 %index
  %address = ptrtoint ptr %site to i64
  store i64 %address, ptr %site.at
  %context = call ptr @simt.context(i64 %index)
  %ignored = call i32 @swapcontext(ptr %context, ptr @simt.scheduler)
  ret void
}}

define internal void @simt.entry() {{
  call void @simt.kernel()
  call void @simt.suspend(i32 {RETURNED}, i32 0, ptr null)
  unreachable
}}

; Gives each of %count threads a stack and its entry.
define void @simt.start(i64 %count) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %context = call ptr @simt.context(i64 %i)
  %got = call i32 @getcontext(ptr %context)
  %bytes = load i64, ptr @simt.stack.bytes
  %stacks = load ptr, ptr @simt.stacks
  %offset = mul i64 %i, %bytes
  %stack = getelementptr i8, ptr %stacks, i64 %offset
  ; ucontext_t starts {{flags, link, {{stack pointer, flags, stack size}}}} in glibc on all 64-bit machines.
  %link.at = getelementptr i8, ptr %context, i64 8
  store ptr null, ptr %link.at
  %stack.at = getelementptr i8, ptr %context, i64 16
  store ptr %stack, ptr %stack.at
  %bytes.at = getelementptr i8, ptr %context, i64 32
  store i64 %bytes, ptr %bytes.at
  call void (ptr, ptr, i32, ...) @makecontext(ptr %context, ptr @simt.entry, i32 0)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}}

; Runs each of the %count threads listed in %order until it waits or returns.
define void @simt.round(ptr %order, i64 %count) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = getelementptr i64, ptr %order, i64 %i
  %index = load i64, ptr %at
  call void @simt.become(i64 %index)
  %context = call ptr @simt.context(i64 %index)
  %ignored = call i32 @swapcontext(ptr @simt.scheduler, ptr %context)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}}

; Runs the threads listed in %order to their end, one after the other: for kernels in which nobody waits.
define void @simt.straight(ptr %order, i64 %count) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = getelementptr i64, ptr %order, i64 %i
  %index = load i64, ptr %at
  call void @simt.become(i64 %index)
  call void @simt.kernel()
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}}

; Publishes a value to the lanes of %mask and waits for them; afterwards `simt.received` holds what each of them sent.
define internal void @simt.publish(i32 %mask, i32 %value, ptr %site) {{
  %index = load i64, ptr @simt.current
  %sent = load ptr, ptr @simt.sent
  %at = getelementptr i32, ptr %sent, i64 %index
  store i32 %value, ptr %at
  call void @simt.suspend(i32 {AT_WARP_BARRIER}, i32 %mask, ptr %site)
  ret void
}}

define internal i32 @simt.from.lane(i32 %lane) {{
  %index = load i64, ptr @simt.current
  %first = and i64 %index, -32
  %wide = zext i32 %lane to i64
  %source = add i64 %first, %wide
  %received = load ptr, ptr @simt.received
  %at = getelementptr i32, ptr %received, i64 %source
  %value = load i32, ptr %at
  ret i32 %value
}}

define void @nvvm.barrier.cta.sync.aligned.all(i32 %number) noinline {{
  %site = call ptr @llvm.returnaddress(i32 0)
  call void @simt.suspend(i32 {AT_BLOCK_BARRIER}, i32 -1, ptr %site)
  ret void
}}

define void @nvvm.bar.warp.sync(i32 %mask) noinline {{
  %site = call ptr @llvm.returnaddress(i32 0)
  call void @simt.suspend(i32 {AT_WARP_BARRIER}, i32 %mask, ptr %site)
  ret void
}}

; shfl.sync as the PTX manual defines it: modes 0 idx, 1 up, 2 down, 3 bfly; %c packs the clamp and the segment mask.
define {{ i32, i1 }} @nvvm.shfl.sync.i32(i32 %mask, i32 %mode, i32 %value, i32 %b, i32 %c) noinline {{
  %site = call ptr @llvm.returnaddress(i32 0)
  call void @simt.publish(i32 %mask, i32 %value, ptr %site)
  %lane = load i32, ptr @simt.lane
  %high = lshr i32 %c, 8
  %segment = and i32 %high, 31
  %clamp = and i32 %c, 31
  %free = xor i32 %segment, 31
  %least = and i32 %lane, %segment
  %within = and i32 %clamp, %free
  %greatest = or i32 %least, %within
  %b.free = and i32 %b, %free
  %idx = or i32 %least, %b.free
  %up = sub i32 %lane, %b
  %down = add i32 %lane, %b
  %bfly = xor i32 %lane, %b
  %is.up = icmp eq i32 %mode, 1
  %is.down = icmp eq i32 %mode, 2
  %is.bfly = icmp eq i32 %mode, 3
  %s1 = select i1 %is.up, i32 %up, i32 %idx
  %s2 = select i1 %is.down, i32 %down, i32 %s1
  %source = select i1 %is.bfly, i32 %bfly, i32 %s2
  %up.ok = icmp sge i32 %source, %greatest
  %others.ok = icmp sle i32 %source, %greatest
  %ok = select i1 %is.up, i1 %up.ok, i1 %others.ok
  %from = select i1 %ok, i32 %source, i32 %lane
  %got = call i32 @simt.from.lane(i32 %from)
  %r1 = insertvalue {{ i32, i1 }} poison, i32 %got, 0
  %r2 = insertvalue {{ i32, i1 }} %r1, i1 %ok, 1
  ret {{ i32, i1 }} %r2
}}

; vote.sync: modes 0 all, 1 any, 2 uni, 3 ballot.
define {{ i32, i1 }} @nvvm.vote.sync(i32 %mask, i32 %mode, i1 %vote) noinline {{
entry:
  %site = call ptr @llvm.returnaddress(i32 0)
  %sent = zext i1 %vote to i32
  call void @simt.publish(i32 %mask, i32 %sent, ptr %site)
  br label %loop
loop:
  %lane = phi i32 [ 0, %entry ], [ %next, %count ]
  %ballot = phi i32 [ 0, %entry ], [ %joined, %count ]
  %bit = shl i32 1, %lane
  %named = and i32 %mask, %bit
  %is.named = icmp ne i32 %named, 0
  br i1 %is.named, label %read, label %count
read:
  %theirs = call i32 @simt.from.lane(i32 %lane)
  %yes = shl i32 %theirs, %lane
  br label %count
count:
  %mark = phi i32 [ 0, %loop ], [ %yes, %read ]
  %joined = or i32 %ballot, %mark
  %next = add i32 %lane, 1
  %more = icmp ult i32 %next, 32
  br i1 %more, label %loop, label %done
done:
  %any = icmp ne i32 %joined, 0
  %all = icmp eq i32 %joined, %mask
  %none = xor i1 %any, true
  %uni = or i1 %all, %none
  %is.any = icmp eq i32 %mode, 1
  %is.uni = icmp eq i32 %mode, 2
  %a1 = select i1 %is.any, i1 %any, i1 %all
  %answer = select i1 %is.uni, i1 %uni, i1 %a1
  %v1 = insertvalue {{ i32, i1 }} poison, i32 %joined, 0
  %v2 = insertvalue {{ i32, i1 }} %v1, i1 %answer, 1
  ret {{ i32, i1 }} %v2
}}

; Of the settings that libdevice asks about, only flushing subnormals is off; precise division and square root are on.
define i32 @__nvvm_reflect(ptr %name) alwaysinline {{
  %at = getelementptr i8, ptr %name, i64 7
  %letter = load i8, ptr %at
  %is.ftz = icmp eq i8 %letter, 70
  %answer = select i1 %is.ftz, i32 0, i32 1
  ret i32 %answer
}}
"""

WAITING: Final = ("nvvm.barrier.cta.sync.aligned.all", "nvvm.bar.warp.sync", "nvvm.shfl.sync.i32", "nvvm.vote.sync")
"""The intrinsics of RUNTIME: a kernel that calls none of them needs no fibers."""

INLINE_PTX: Final[dict[str, tuple[str, str]]] = {
    "cvt.f32.f16 $0, $1;": ("simt.f16.to.f32", "float @simt.f16.to.f32(i16 %a) { %h = bitcast i16 %a to half %r = fpext half %h to float ret float %r }"),
    "cvt.rn.f16.f32 $0, $1;": ("simt.f32.to.f16", "i16 @simt.f32.to.f16(float %a) { %h = fptrunc float %a to half %r = bitcast half %h to i16 ret i16 %r }"),
    "cvt.rn.f16.f64 $0, $1;": ("simt.f64.to.f16", "i16 @simt.f64.to.f16(double %a) { %h = fptrunc double %a to half %r = bitcast half %h to i16 ret i16 %r }"),
}
"""Inline PTX that numba-cuda writes, and the function that means the same."""

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
    if name.startswith("membar") or name.startswith("fence"):
        return "  ret void"
    for family in (_bits, _function, _arithmetic, _conversion):
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
                f"  %x = {extend} {result} %a0 to i{2 * bits}\n  %y = {extend} {result} %a1 to i{2 * bits}\n"
                f"  %p = mul i{2 * bits} %x, %y\n  %s = lshr i{2 * bits} %p, {bits}\n  %r = trunc i{2 * bits} %s to {result}\n  ret {result} %r"
            )
        case ["f2h", "rn"]:
            return "  %h = fptrunc float %a0 to half\n  %r = bitcast half %h to i16\n  ret i16 %r"
        case ["bitcast", *_]:
            return f"  %r = bitcast {arguments[0]} %a0 to {result}\n  ret {result} %r"
        case _:
            return None


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
    if len(words) < 2 or words[0] not in ("add", "mul", "div", "rcp", "sqrt", "fma") or result not in ("float", "double"):
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
