"""Turns a rule into sampled values for its variables: edge grids by dtype, one axis for the samples and one for each reduction index."""

import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy

from kernel_ir.dtypes import BOOL, DType
from rewrites.pattern import Apply, At, Index, Lit, Pattern, Reduction, Var, scopes, subpatterns
from rewrites.rule import Rule

np: Any = numpy  # its stubs cannot follow code that is generic in the dtype
Random = Any  # a NumPy Generator

Array = Any  # an ndarray: its dtype is the rule's, known only as data
MAX_SAMPLES: Final = 16_000
EXTENT: Final = 4
"""Reductions run over 0 to 4 terms."""

_POWERS: Final = (1.0, 2.0, 0.5, 4.0, 0.25, 1024.0, 2.0**-10)
_ORDINARY: Final = (3.0, 1.0 / 3.0, 0.1, 1.5, 5.0, 7.0, 1e3, 12345.678, 0.7071067811865476)


def float_edges(dtype: DType) -> Array:
    """Zeros, subnormals, powers, neighbours, ordinary numbers, huge ones, infinities, NaN: both signs.

    >>> from kernel_ir.dtypes import F32
    >>> bool(np.isnan(float_edges(F32)).any()), float_edges(F32).dtype
    (True, dtype('float32'))
    """
    t = dtype.numpy.type
    info = np.finfo(dtype.numpy)
    tiny, least, largest = float(info.tiny), float(info.smallest_subnormal), float(info.max)
    root = float(np.sqrt(t(largest)))
    values = [0.0, least, 3 * least, tiny, tiny / 2, *_POWERS, *_ORDINARY, root, 1.0 / root, largest, largest / 2, float("inf"), 80.0]
    near = [float(np.nextafter(t(1.0), t(side))) for side in (0.0, 2.0)]
    both = np.array([s * v for v in (*values, *near) for s in (1.0, -1.0)] + [float("nan")])
    return both.astype(dtype.numpy)


def int_edges(dtype: DType) -> Array:
    """Small integers, powers of two and their neighbours, and both ends of the type."""
    info = np.iinfo(dtype.numpy)
    small = [*range(-9, 10), 12, 16, 24, 31, 32, 33, 63, 64, 100, -16, -32, -100]
    ends = [info.min, info.min + 1, info.max, info.max - 1, info.max // 2, info.min // 2, 2 ** (dtype.bits // 2), 46341]
    return np.array([*small, *ends], dtype=dtype.numpy)


def edges(dtype: DType) -> Array:
    """The edge grid of an arithmetic type."""
    if dtype is BOOL:
        return np.array([False, True])
    return float_edges(dtype) if dtype.is_float else int_edges(dtype)


@dataclass(frozen=True, slots=True)
class Samples:
    """Values of variables and indices, all broadcastable to (samples, extent of each index)."""

    values: Mapping[str, Array]
    indices: Mapping[str, Array]
    axes: Mapping[str, int]
    dtypes: Mapping[int, DType]
    zero: float = 0.0
    """The zero that min and max give for zeros of both signs: no rule may rely on it."""


def assignments(rule: Rule) -> list[dict[int, DType]]:
    """Every choice of a dtype for each type variable that the rule uses."""
    used = sorted({t for side in (rule.lhs, rule.rhs) for p in subpatterns(side) for t in _types(p)})
    return [dict(zip(used, chosen, strict=True)) for chosen in itertools.product(*(rule.types[t] for t in used))]


def _types(p: Pattern) -> tuple[int, ...]:
    return (p.type, p.result) if isinstance(p, Apply | Reduction) else (p.type,)


def dependence(rule: Rule) -> dict[str, frozenset[str]]:
    """For each variable, the indices that its value may depend on."""
    inside: dict[str, frozenset[str]] = {}
    for side in (rule.lhs, rule.rhs):
        for name, around in scopes(side):
            inside[name] = inside.get(name, around) & around
    for g in rule.guards:
        if g.kind == "absent":
            index, variable = g.args
            assert isinstance(index, Index) and isinstance(variable, Var)
            inside[variable.name] = inside.get(variable.name, frozenset()) - {index.name}
    return inside


def bound_variables(rule: Rule) -> frozenset[str]:
    """Variables that stand in the range of a reduction, or in an index's place: they are sampled from 0..4."""
    reductions = [p for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Reduction)]
    ends = [end for r in reductions for end in (r.lo, r.hi)]
    places = [p.to for p in subpatterns(rule.rhs) if isinstance(p, At)]
    return frozenset(v.name for end in (*ends, *places) for v in subpatterns(end) if isinstance(v, Var))


def samples(rule: Rule, dtypes: Mapping[int, DType], count: int = MAX_SAMPLES) -> Samples:
    """Sampled values: the whole product of the edge grids where it is small, else drawn from it; deterministic."""
    rng = np.random.default_rng(zlib.crc32(rule.name.encode()))
    kinds = {p.name: dtypes[p.type] for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Var)}
    names = sorted(kinds)
    indices = sorted({p.index for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Reduction)})
    axes = {name: axis for axis, name in enumerate(indices, 1)}
    bounds = bound_variables(rule)
    numbers = {p.value for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Lit)}
    more = {1: 2000, 2: 40}.get(len(names), 0)
    grids = {n: np.arange(EXTENT + 1) if n in bounds else _with(edges(kinds[n]), numbers, more, rng) for n in names}
    depends = dependence(rule)
    extent = _extent(rule)
    values: dict[str, Array] = {}
    if not indices and np.prod([float(len(g)) for g in grids.values()]) <= count:
        mesh: list[Array] = list(np.meshgrid(*grids.values(), indexing="ij")) if names else []
        values = {n: m.ravel() for n, m in zip(names, mesh, strict=True)}
    else:
        total = count if not indices else count // 8
        for n in names:
            shape = [total, *(extent if i in depends[n] else 1 for i in indices)]
            drawn = rng.choice(grids[n], size=shape)
            values[n] = drawn if n in bounds else _mixed(drawn, kinds[n], rng)
        if not indices:
            values = _with_cores(values, kinds)
    ranges = {i: np.arange(extent).reshape([1] * axes[i] + [extent] + [1] * (len(indices) - axes[i])) for i in indices}
    return Samples(values, ranges, axes, dtypes)


def _with_cores(values: dict[str, Array], kinds: Mapping[str, DType]) -> dict[str, Array]:
    """The samples and, of few variables, every combination of the values that rules most often forget."""
    cores = {n: _core(kinds[n]) for n in values}
    if np.prod([float(len(c)) for c in cores.values()]) > MAX_SAMPLES:
        return values
    mesh: list[Array] = list(np.meshgrid(*cores.values(), indexing="ij"))
    return {n: np.concatenate([m.ravel(), values[n]]) for n, m in zip(values, mesh, strict=True)}


def _core(dtype: DType) -> Array:
    if dtype is BOOL:
        return np.array([False, True])
    if dtype.is_float:
        info = np.finfo(dtype.numpy)
        some = [0.0, 1.0, 3.0, float(info.smallest_subnormal), float(info.max), np.inf]
        return np.array([*some, *(-v for v in some), np.nan], dtype.numpy)
    info = np.iinfo(dtype.numpy)
    return np.array([0, 1, -1, 2, -2, 3, 7, info.min, info.max, info.max - 1], dtype.numpy)


def _extent(rule: Rule) -> int:
    """A bound past every index: products and sums of bounds need a longer axis."""
    compound = any(
        isinstance(b, Apply) for side in (rule.lhs, rule.rhs) for p in subpatterns(side) if isinstance(p, Reduction) for b in (p.lo, p.hi)
    )
    return EXTENT**2 + 1 if compound else EXTENT


def _with(grid: Array, numbers: set[bool | int | float], more: int, rng: Random) -> Array:
    """The grid with the rule's own literals, their neighbours, and some random numbers."""
    if grid.dtype == bool:
        return grid
    extra = [v + d for v in numbers if not isinstance(v, bool) for d in (-1, 0, 1)]
    if grid.dtype.kind == "f":
        drawn = rng.standard_normal(more) * np.exp2(rng.integers(-20, 20, more))
        return np.concatenate([grid, np.array([*extra, *drawn]).astype(grid.dtype)])
    info = np.iinfo(grid.dtype)
    fitting = [int(v) for v in extra if info.min <= v <= info.max]
    return np.unique(np.concatenate([grid, np.array(fitting, grid.dtype), rng.integers(info.min, info.max, more, grid.dtype)]))


def _mixed(drawn: Array, dtype: DType, rng: Random) -> Array:
    """Half of the draws stay edges; the rest become ordinary random numbers, zeros or small integers."""
    if dtype is BOOL:
        return drawn
    keep = rng.random(drawn.shape) < 0.5
    if dtype.is_float:
        other = (rng.standard_normal(drawn.shape) * np.exp2(rng.integers(-3, 4, drawn.shape))).astype(dtype.numpy)
        # Zeros of both signs side by side are where min and max differ.
        other = np.where(rng.random(drawn.shape) < 0.3, np.copysign(dtype.numpy.type(0), other), other)
    else:
        other = rng.integers(-12, 40, drawn.shape).astype(dtype.numpy)
    return np.where(keep, drawn, other)
