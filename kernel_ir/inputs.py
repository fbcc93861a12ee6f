"""Turns a kernel's signature and facts into inputs for it: Hypothesis strategies, and a fast seeded sampler without Hypothesis.

Sizes are chosen from a short list of telling ones and then repaired until the facts hold; arrays are filled by one of several
patterns (ordinary, huge, cancelling, …) and then brought into the range that the facts leave them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np

from kernel_ir import meaning
from kernel_ir.dtypes import DType
from kernel_ir.errors import ArgumentError
from kernel_ir.evaluate import evaluate, evaluate_expr
from kernel_ir.filling import filled
from kernel_ir.nodes import Expr, Kernel, SizeRef
from kernel_ir.number_system import Array
from kernel_ir.patterns import INTEGER_PATTERNS, PATTERNS, REALISTIC
from kernel_ir.shapes import open_sizes
from kernel_ir.sizes import conjuncts, repaired, structural

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

SIZES: Final = (1, 2, 3, 0, 5, 4, 7, 8, 13, 16, 31, 32, 33, 64)
"""Extents worth trying, the simplest first: empty, one, odd, prime, either side of a vector's or warp's width."""
COUNTS: Final = (1, 2, 0, 3, 5, -1)
"""Values of integer parameters that ranges, shapes or repetitions depend on."""
WORK: Final = 1 << 14
"""Most points of any one statement, reductions included: keeps an example to milliseconds."""
LAYOUTS: Final = ("rows", "cols", "strided", "reversed")


class Chooser(Protocol):
    """Where choices come from: Hypothesis, or a random generator."""

    def pick(self, options: Sequence[T]) -> T:
        """One of the options; the first is the simplest."""
        ...

    def seed(self) -> int:
        """A seed for an array's values."""
        ...


class RandomChooser:
    """Choices of a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def seed(self) -> int:
        return int(self.rng.integers(1 << 30))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Inputs of one call: `values` by parameter (arrays as stored, rows order; scalars), every size, a layout for each array."""

    values: dict[str, Any]
    sizes: dict[str, int]
    layouts: dict[str, str]

    def arguments(self, kernel: Kernel) -> dict[str, Any]:
        """Keyword arguments of a call: fresh arrays laid out as chosen, and the sizes that no input fixes."""
        types = {p.name: p.type for p in kernel.params}
        laid = {
            name: laid_out(v, self.layouts.get(name, "rows")) if types[name].rank else _scalar(v, types[name].dtype)
            for name, v in self.values.items()
        }
        return laid | _named(kernel, self.sizes)


def _scalar(value: Any, dtype: DType) -> Any:
    """A scalar as a caller gives it: a bfloat16 as a number, not as its bits."""
    return float(meaning.read(np.asarray(value), dtype)) if dtype.name == "bf16" else value


def _named(kernel: Kernel, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes that a call must give by name."""
    needed = open_sizes(kernel)
    if any(sizes[name] == 0 for name in needed):
        # An extent of H * W = 0 tells nothing of H.
        fixed = {e.name for p in kernel.params for e in p.type.shape if isinstance(e, SizeRef)}
        needed = tuple(name for name in kernel.sizes if name not in fixed)
    return {name: sizes[name] for name in needed}


def laid_out(array: Array, layout: str) -> Array:
    """A fresh copy with other strides: C or Fortran order, every second element of a larger array, or reversed."""
    match layout:
        case "cols":
            return np.array(array, order="F")
        case "strided" if array.ndim:
            wide = np.repeat(array, 2, axis=-1)
            return wide[..., ::2]
        case "reversed" if array.ndim:
            return np.array(array[::-1], order="C")[::-1]
        case _:
            return np.array(array, order="C")


def draw_inputs(kernels: Sequence[Kernel], chooser: Chooser, layouts: bool = False, work: int = WORK) -> Inputs | None:
    """Inputs that fit every one of the kernels (of one signature) and all their facts; None where the choices cannot be repaired."""
    kernel = kernels[0]
    facts = [part for k in kernels for fact in (*k.facts, *k.implied) for part in conjuncts(fact)]
    whole = structural(kernels)
    env = {name: chooser.pick(SIZES) for name in kernel.sizes} | {name: chooser.pick(COUNTS) for name in whole}
    env = repaired(kernels, facts, env, work)
    if env is None:
        return None
    values: dict[str, Any] = {}
    for p in kernel.params:
        if p.name in whole:
            values[p.name] = p.type.dtype.numpy.type(env[p.name])
            continue
        patterns = PATTERNS if p.type.dtype.is_float else INTEGER_PATTERNS
        values[p.name] = filled(kernels, p, facts, env, chooser.pick(patterns), chooser.seed())
    shapes = {name: chooser.pick(LAYOUTS) for name, t in kernel.arrays.items() if t.rank and name in values} if layouts else {}
    drawn = Inputs(values, {name: env[name] for name in kernel.sizes}, shapes)
    return drawn if holds(kernels, drawn) else None


def inputs(kernel: Kernel, layouts: bool = True) -> "SearchStrategy[dict[str, Any]]":
    """A Hypothesis strategy for keyword arguments of a call of `kernel`, obeying its facts.

    Sizes shrink to the smallest shapes, values to zeros. With `layouts`, arrays come in other memory orders too.
    """
    return drawn_inputs((kernel,), layouts).map(lambda drawn: drawn.arguments(kernel))


def drawn_inputs(kernels: Sequence[Kernel], layouts: bool = False) -> "SearchStrategy[Inputs]":
    """A Hypothesis strategy for `Inputs` that fit all of the kernels."""
    from hypothesis import reject
    from hypothesis import strategies as st

    class Drawing:
        """Choices of Hypothesis."""

        def __init__(self, draw: Any) -> None:
            self.draw = draw

        def pick(self, options: Sequence[T]) -> T:
            return self.draw(st.sampled_from(options))

        def seed(self) -> int:
            return self.draw(st.integers(0, 1 << 12))

    def whole(draw: Any) -> Inputs:
        drawn = draw_inputs(kernels, Drawing(draw), layouts)
        return reject() if drawn is None else drawn

    return st.composite(whole)()


def sampled(kernels: Sequence[Kernel], seed: int, layouts: bool = False, work: int = WORK) -> Inputs:
    """Like a draw of `drawn_inputs`, from a seed. Raises ArgumentError where the facts look unsatisfiable."""
    for attempt in range(64):
        drawn = draw_inputs(kernels, RandomChooser(seed * 1_000_003 + attempt), layouts, work)
        if drawn is not None:
            return drawn
    raise ArgumentError(f"found no inputs that satisfy the facts of {kernels[0].name!r}", kernels[0].span, "check that the facts can hold")


def sample_inputs(kernel: Kernel, seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Keyword arguments of one call with realistic values, the same for the same seed: for benchmarks and quick runs.

    `sizes` fixes extents (and integer parameters) by name; the others are 64, or what the facts ask for. Floats are standard normal,
    or in 0.5..1.5 where the kernel would give NaN otherwise. Raises ArgumentError where the sizes given break a fact.
    """
    given = dict(sizes or {})
    facts = [part for fact in (*kernel.facts, *kernel.implied) for part in conjuncts(fact)]
    whole = structural((kernel,))
    env = {name: given.get(name, 64) for name in kernel.sizes} | {name: given.get(name, 3) for name in whole}
    fixed = repaired((kernel,), facts, env, None, frozenset(given))
    if fixed is None:
        shown = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ArgumentError(f"no inputs of {kernel.name!r} with {shown or 'these facts'} satisfy its facts", kernel.span)
    pattern = next((p for p in REALISTIC if _is_finite(kernel, facts, whole, p, seed)), REALISTIC[0])
    values = _values(kernel, facts, whole, fixed, pattern, seed)
    drawn = Inputs(values, {name: fixed[name] for name in kernel.sizes}, {})
    return drawn.arguments(kernel)


def _values(kernel: Kernel, facts: Sequence[Expr], whole: Sequence[str], env: Mapping[str, int], pattern: str, seed: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for number, p in enumerate(kernel.params):
        if p.name in whole:
            values[p.name] = p.type.dtype.numpy.type(env[p.name])
        else:
            # A scalar (an epsilon, a scale) is positive in real life.
            kind = REALISTIC[-1] if p.type.rank == 0 else pattern
            values[p.name] = filled((kernel,), p, facts, env, kind, seed * 1_000_003 + number)
    return values


def _is_finite(kernel: Kernel, facts: Sequence[Expr], whole: Sequence[str], pattern: str, seed: int) -> bool:
    """Whether small inputs of this pattern give finite results."""
    env = repaired((kernel,), facts, dict.fromkeys(kernel.sizes, 4) | dict.fromkeys(whole, 2), WORK)
    if env is None:
        return False
    results = evaluate(kernel, _values(kernel, facts, whole, env, pattern, seed), env)
    types = kernel.arrays
    return all(np.isfinite(meaning.read(a, types[name].dtype)).all() for name, a in results.items())


def holds(kernels: Sequence[Kernel], drawn: Inputs) -> bool:
    """Whether every fact of the kernels holds for the inputs."""
    kernel = kernels[0]
    types = kernel.arrays
    scalars = {p.name: meaning.read(drawn.values[p.name], p.type.dtype) for p in kernel.params if p.type.rank == 0}
    arrays = {p.name: (drawn.values[p.name], types[p.name].dtype) for p in kernel.params if p.type.rank}
    for fact in [fact for k in kernels for fact in (*k.facts, *k.implied)]:
        if not evaluate_expr(fact, scalars, drawn.sizes, arrays).all():
            return False
    return True


def with_values(drawn: Inputs, name: str, value: Any) -> Inputs:
    """The inputs with one parameter's value replaced."""
    return replace(drawn, values={**drawn.values, name: value})
