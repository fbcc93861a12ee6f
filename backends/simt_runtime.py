"""The threads of a CUDA block become fibers on the CPU: LLVM IR over libc's makecontext and swapcontext, no C compiler needed.

Only text is made here; `simt_run.py` links it to a kernel and drives it. A thread that meets a barrier, shuffle or vote notes what it
waits for and switches back to the scheduler, which wakes it when all whom it waits for have come (`simt_turns.py` says who).
"""

from typing import Final

RUNNABLE: Final = 0
AT_BLOCK_BARRIER: Final = 1
AT_WARP_BARRIER: Final = 2
RETURNED: Final = 3
AT_WARP_FENCE: Final = 4
"""A warp's barrier that orders memory; shuffles and votes wait, but do not."""
CONTEXT_BYTES: Final = 8192
"""Room for a ucontext_t (968 bytes in glibc on x86-64, 4560 on AArch64)."""

TURN: Final = "simt.turn"
"""The function of `simt_turns.py`, called before each round."""

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
@simt.order = global ptr null
@simt.turns = global ptr null
@simt.shadow = global ptr null
@simt.scheduler = global [{CONTEXT_BYTES} x i8] zeroinitializer, align 16

declare i32 @getcontext(ptr) returns_twice
; Convergent keeps the optimizer from giving threads that meet different copies of one meeting point.
declare i32 @swapcontext(ptr, ptr) convergent
declare void @makecontext(ptr, ptr, i32, ...)
declare ptr @llvm.returnaddress(i32)
; Releases those whose partners have come and chooses who runs next: how many, 0 where all have returned, negative where something is wrong.
declare i64 @{TURN}(ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr)

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
define internal void @simt.suspend(i32 %state, i32 %mask, ptr %site) noinline convergent {{
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

; Runs the threads of one block, some of them each round, until all have returned or something is wrong.
define i64 @simt.rounds() {{
entry:
  %table = load ptr, ptr @simt.turns
  %state = load ptr, ptr @simt.state
  %mask = load ptr, ptr @simt.mask
  %site = load ptr, ptr @simt.site
  %sent = load ptr, ptr @simt.sent
  %received = load ptr, ptr @simt.received
  %order = load ptr, ptr @simt.order
  %shadow = load ptr, ptr @simt.shadow
  br label %round
round:
  %count = call i64 @{TURN}(ptr %table, ptr %state, ptr %mask, ptr %site, ptr %sent, ptr %received, ptr %order, ptr %shadow)
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %loop, label %done
loop:
  %i = phi i64 [ 0, %round ], [ %next, %loop ]
  %at = getelementptr i64, ptr %order, i64 %i
  %index = load i64, ptr %at
  call void @simt.become(i64 %index)
  %context = call ptr @simt.context(i64 %index)
  %ignored = call i32 @swapcontext(ptr @simt.scheduler, ptr %context)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %round
done:
  ret i64 %count
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
define internal void @simt.publish(i32 %mask, i32 %value, ptr %site) convergent {{
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

define void @nvvm.barrier.cta.sync.aligned.all(i32 %number) noinline convergent {{
  %site = call ptr @llvm.returnaddress(i32 0)
  call void @simt.suspend(i32 {AT_BLOCK_BARRIER}, i32 -1, ptr %site)
  ret void
}}

define void @nvvm.bar.warp.sync(i32 %mask) noinline convergent {{
  %site = call ptr @llvm.returnaddress(i32 0)
  call void @simt.suspend(i32 {AT_WARP_FENCE}, i32 %mask, ptr %site)
  ret void
}}

; shfl.sync as the PTX manual defines it: modes 0 idx, 1 up, 2 down, 3 bfly; %c packs the clamp and the segment mask.
define {{ i32, i1 }} @nvvm.shfl.sync.i32(i32 %mask, i32 %mode, i32 %value, i32 %b, i32 %c) noinline convergent {{
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
define {{ i32, i1 }} @nvvm.vote.sync(i32 %mask, i32 %mode, i1 %vote) noinline convergent {{
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
