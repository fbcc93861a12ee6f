"""Turns the kernels of SGLang, and softmax, into Triton, one program a row: what a person writes who knows Triton."""

import torch
import triton
import triton.language as tl


@triton.jit
def _silu_and_mul(x, y, columns, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < columns
    gate = tl.load(x + row * 2 * columns + at, mask=inside).to(tl.float32)
    up = tl.load(x + row * 2 * columns + columns + at, mask=inside).to(tl.float32)
    tl.store(y + row * columns + at, (gate / (1.0 + tl.exp(-gate)) * up).to(tl.float16), mask=inside)


def silu_and_mul(x):
    """`silu` of the left half of each row, times the right half."""
    rows, columns = x.shape[0], x.shape[1] // 2
    y = torch.empty((rows, columns), dtype=x.dtype, device=x.device)
    block = min(2048, triton.next_power_of_2(columns))
    _silu_and_mul[(rows, triton.cdiv(columns, block))](x, y, columns, block=block)
    return y


@triton.jit
def _fused_add_rmsnorm(x, residual, w, y, columns, eps, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, block)
    inside = at < columns
    both = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    both += tl.load(residual + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    both = both.to(tl.float16)
    tl.store(residual + row * columns + at, both, mask=inside)
    held = both.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(held * held, axis=0) / columns + eps)
    tl.store(y + row * columns + at, (held * scale * tl.load(w + at, mask=inside).to(tl.float32)).to(tl.float16), mask=inside)


def fused_add_rmsnorm(x, residual, w, eps):
    """`residual += x`, then its rows by their root mean square, times `w`."""
    y = torch.empty_like(x)
    block = triton.next_power_of_2(x.shape[1])
    warps = min(16, max(1, block // 512))
    _fused_add_rmsnorm[(x.shape[0],)](x, residual, w, y, x.shape[1], eps, block=block, num_warps=warps)
    return y


@triton.jit
def _merge_attn_states(va, sa, vb, sb, v, s, columns, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, block)
    inside = at < columns
    a, b = tl.load(sa + row), tl.load(sb + row)
    top = tl.maximum(a, b)
    ea, eb = tl.exp(a - top), tl.exp(b - top)
    left = tl.load(va + row * columns + at, mask=inside).to(tl.float32)
    right = tl.load(vb + row * columns + at, mask=inside).to(tl.float32)
    tl.store(v + row * columns + at, (left * (ea / (ea + eb)) + right * (eb / (ea + eb))).to(tl.float16), mask=inside)
    tl.store(s + row, tl.log(ea + eb) + top)


def merge_attn_states(va, sa, vb, sb):
    """Two partial attentions as one, by the weights that their log-sum-exps give."""
    v, s = torch.empty_like(va), torch.empty_like(sa)
    columns = va.shape[2]
    _merge_attn_states[(sa.numel(),)](va, sa, vb, sb, v, s, columns, block=triton.next_power_of_2(columns), num_warps=1)
    return v, s


@triton.jit
def _softmax(x, y, columns, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, block)
    inside = at < columns
    values = tl.load(x + row * columns + at, mask=inside, other=-float("inf"))
    e = tl.exp(values - tl.max(values, axis=0))
    tl.store(y + row * columns + at, e / tl.sum(e, axis=0), mask=inside)


def softmax(x):
    """Softmax of each row."""
    y = torch.empty_like(x)
    block = triton.next_power_of_2(x.shape[1])
    _softmax[(x.shape[0],)](x, y, x.shape[1], block=block, num_warps=min(16, max(1, block // 512)))
    return y
