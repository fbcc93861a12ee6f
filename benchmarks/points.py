"""Turns a claim into the points at which it is tried: all small numbers first, then edges and random ones; deterministic."""

import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from benchmarks.claims import Claim, Points
from kernel_ir.dtypes import BOOL, DType

CHUNK: Final = 6_000
SMALL: Final = tuple(range(-6, 9))


def points_for(claim: Claim, count: int, real: bool) -> Iterator[Points]:
    """Points in pieces, the simplest first: all small numbers, then edges and random ones."""
    rng = np.random.default_rng(zlib.crc32(claim.rule.text.encode()))
    kinds = claim.kinds
    if not claim.indices and not real and kinds and len(SMALL) ** len(kinds) <= count and not any(t.is_float for t in kinds.values()):
        grids = [np.asarray([False, True]) if t is BOOL else np.asarray(SMALL, t.numpy) for t in kinds.values()]
        yield {name: a.ravel() for name, a in zip(kinds, np.meshgrid(*grids, indexing="ij"), strict=True)}
    pieces = max(2, (count if not claim.indices else count // 6) // CHUNK)
    for piece in range(pieces):
        yield _drawn(claim, rng, real, piece)


def _drawn(claim: Claim, rng: Any, real: bool, piece: int) -> Points:
    """One piece of random points: for an unflagged float sum, in turn of two terms at most and of small whole numbers."""
    whole = claim.regrouped and not real and (piece % 2 == 1 or claim.compound)
    count = CHUNK if not claim.indices else CHUNK // 4
    depends, bounds = claim.depends(), claim.bounds
    extent = 17 if claim.compound else 5
    points: Points = {}
    for name, dtype in claim.kinds.items():
        shape = (count, *(extent for _ in depends[name]))
        if name in bounds:
            few = claim.regrouped and not real and not whole
            outer = name.partition(".")[0] in claim.indices[1:]
            points[name] = rng.integers(0, (2 if outer else 3) if few else 5, shape)
        elif dtype is BOOL:
            points[name] = rng.random(shape) < 0.5
        elif dtype.is_int:
            points[name] = _integers(rng, shape, dtype)
        elif real:
            points[name] = _generic(rng, shape, dtype, ends=claim.rule.within is not None)
        elif whole:
            points[name] = rng.integers(-4, 5, shape).astype(dtype.numpy)
        else:
            points[name] = _floats(rng, shape, dtype)
        if depends[name] and dtype is not BOOL and name not in bounds:
            # A guard on every element would hold too rarely: in some lanes all have one sign.
            positive = rng.random((count, *(1 for _ in depends[name]))) < 0.3
            points[name] = np.where(positive, np.abs(points[name]), points[name])
    return points


def _integers(rng: Any, shape: tuple[int, ...], dtype: DType) -> Any:
    ends = np.iinfo(dtype.numpy)
    edges = np.asarray(
        [ends.min, ends.min + 1, ends.max, ends.max - 1, ends.max // 2, ends.min // 2, *(1 << b for b in range(dtype.bits - 1))]
    )
    edges = np.concatenate([edges, edges - 1, -edges])
    how = rng.random(shape)
    wide = rng.integers(ends.min, ends.max, shape, np.int64) >> rng.integers(0, dtype.bits - 2, shape)
    return np.where(how < 0.6, rng.integers(-12, 40, shape), np.where(how < 0.8, rng.choice(edges, shape), wide)).astype(dtype.numpy)


def _floats(rng: Any, shape: tuple[int, ...], dtype: DType) -> Any:
    """Bit patterns, edges, small whole numbers and ordinary ones."""
    info = np.finfo(dtype.numpy)
    tiny = float(info.smallest_subnormal)
    edges = [
        0.0,
        1.0,
        0.5,
        2.0,
        3.0,
        tiny,
        3 * tiny,
        float(info.tiny),
        float(info.max),
        float(info.max) / 2,
        np.inf,
        1 + float(info.eps),
        1e-3,
        7.0,
    ]
    edges = np.asarray([s * v for v in edges for s in (1.0, -1.0)] + [np.nan])
    bits = rng.integers(0, 1 << 32, shape, np.uint32) if dtype.bits == 32 else rng.integers(0, 1 << 64, shape, np.uint64)
    how = rng.random(shape)
    with np.errstate(all="ignore"):
        patterns = bits.view(dtype.numpy).astype(np.float64)
        ordinary = rng.standard_normal(shape) * np.exp2(rng.integers(-4, 5, shape))
        picked = np.where(how < 0.15, patterns, np.where(how < 0.4, rng.choice(edges, shape), ordinary))
        return np.where(how > 0.85, rng.integers(-4, 5, shape), picked).astype(dtype.numpy)


def _generic(rng: Any, shape: tuple[int, ...], dtype: DType, ends: bool) -> Any:
    """Numbers in general position: no zeros, nothing that overflows, both signs."""
    size = rng.uniform(0.05, 1.0, shape) * rng.choice([0.3, 1.0, 3.0], (shape[0], *(1,) * (len(shape) - 1)))
    if ends and rng.random() < 0.2:  # of a stated interval
        size = np.round(size * 24) / 4
    sign = rng.choice([1.0, 1.0, -1.0], shape if rng.random() < 0.5 else (shape[0], *(1,) * (len(shape) - 1)))
    return (sign * size).astype(dtype.numpy)
