"""Turns a kernel's name and a seed into benchmark inputs: realistic sizes and values, by parameter name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Inputs = dict[str, Any]
Sizes = Mapping[str, int]
Draw = Callable[[np.random.Generator, Sizes], Inputs]


@dataclass(frozen=True, slots=True)
class Case:
    """Sizes of the full run, of `--quick` and of the tests, and how the inputs are drawn."""

    full: Sizes
    quick: Sizes
    small: Sizes
    draw: Draw

    def inputs(self, sizes: Sizes, seed: int = 0) -> Inputs:
        """Arrays and NumPy scalars for each parameter in the kernel's order, then the sizes that none of them fixes (as int)."""
        return self.draw(np.random.default_rng(seed), sizes)


def _normal(rng: np.random.Generator, *shape: int, dtype: type = np.float32) -> Any:
    return rng.standard_normal(shape, np.float64 if dtype is np.float64 else np.float32).astype(dtype, copy=False)


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Any:
    return rng.uniform(low, high, shape)


def _saxpy(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"a": np.float32(1.5), "x": _normal(rng, s["N"]), "y": _normal(rng, s["N"])}


def _vector(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"x": _normal(rng, s["N"])}


def _vector64(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"x": _normal(rng, s["N"], dtype=np.float64)}


def _silu(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"x": _normal(rng, s["T"], 2 * s["D"], dtype=np.float16)}


def _options(rng: np.random.Generator, s: Sizes) -> Inputs:
    n = s["N"]
    prices = {"s": _uniform(rng, 10.0, 50.0, n), "k": _uniform(rng, 10.0, 50.0, n), "t": _uniform(rng, 0.5, 2.0, n)}
    return prices | {"r": np.float64(0.02), "v": np.float64(0.3)}


def _places(rng: np.random.Generator, s: Sizes) -> Inputs:
    half, n = np.pi / 2, s["N"]
    north = [_uniform(rng, -half, half, n) for _ in range(2)]
    east = [_uniform(rng, -np.pi, np.pi, n) for _ in range(2)]
    return {"lat1": north[0], "lon1": east[0], "lat2": north[1], "lon2": east[1], "radius": np.float64(6371.0)}


def _plane(rng: np.random.Generator, s: Sizes) -> Inputs:
    shift = rng.uniform(-1e-3, 1e-3)
    return {"cr": np.linspace(-2.0, 0.6, s["W"]) + shift, "ci": np.linspace(-1.3, 1.3, s["H"]) + shift}


def _grids(rng: np.random.Generator, s: Sizes) -> Inputs:
    n = s["N"]
    grids = {"a": _normal(rng, n, n, dtype=np.float64), "b": _normal(rng, n, n, dtype=np.float64)}
    return grids | {"steps": np.int64(s["steps"])}


def _image(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"x": _normal(rng, s["H"], s["W"])}


def _convolution(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"x": _normal(rng, s["B"], s["C"], s["H"], s["W"]), "w": _normal(rng, s["K"], s["C"], s["R"], s["S"])}


def _transposed(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"a": _normal(rng, s["M"], s["N"]), "b": _normal(rng, s["N"], s["M"])}


def _bodies(rng: np.random.Generator, s: Sizes) -> Inputs:
    p = _normal(rng, s["N"], 4)
    p[:, 3] = rng.uniform(0.5, 2.0, s["N"])  # masses
    return {"p": p, "eps": np.float32(1e-2)}


def _photo(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"image": rng.integers(0, 256, (s["H"], s["W"], 3), np.uint8)}


def _flat(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"x": _normal(rng, s["H"] * s["W"]), "a": np.float32(1.5), "W": s["W"]}


def _table(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"table": _normal(rng, s["V"], s["D"]), "id": rng.integers(0, s["V"], s["T"])}


def _rows(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"x": _normal(rng, s["R"], s["C"])}


def _layernorm(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"x": _normal(rng, s["R"], s["C"]), "g": _normal(rng, s["C"]), "b": _normal(rng, s["C"]), "eps": np.float32(1e-5)}


def _rmsnorm(rng: np.random.Generator, s: Sizes) -> Inputs:
    t, d, half = s["T"], s["D"], np.float16
    arrays = {"x": _normal(rng, t, d, dtype=half), "residual": _normal(rng, t, d, dtype=half), "w": _normal(rng, d, dtype=half)}
    return arrays | {"eps": np.float32(1e-6)}


def _states(rng: np.random.Generator, s: Sizes) -> Inputs:
    t, h, d = s["T"], s["H"], s["D"]
    a = {"va": _normal(rng, t, h, d, dtype=np.float16), "sa": _normal(rng, t, h)}
    return a | {"vb": _normal(rng, t, h, d, dtype=np.float16), "sb": _normal(rng, t, h)}


def _labels(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"logits": _normal(rng, s["R"], s["C"]), "label": rng.integers(0, s["C"], s["R"])}


def _clusters(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"p": _normal(rng, s["N"], s["D"]), "centre": _normal(rng, s["K"], s["D"])}


def _weighted(rng: np.random.Generator, s: Sizes) -> Inputs:
    # One bin in a hundred lies outside on each side: the kernel's `where` drops it.
    margin = max(1, s["B"] // 100)
    return {"bin": rng.integers(-margin, s["B"] + margin, s["N"], np.int32), "w": rng.random(s["N"], np.float32), "B": s["B"]}


def _matrices(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"a": _normal(rng, s["M"], s["K"]), "b": _normal(rng, s["K"], s["N"])}


def _chain(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"a": _normal(rng, s["M"], s["K"]), "b": _normal(rng, s["K"], s["L"]), "v": _normal(rng, s["L"])}


def _attention(rng: np.random.Generator, s: Sizes) -> Inputs:
    batch, heads, m, n, k, d = (s[name] for name in ("B", "H", "M", "N", "K", "D"))
    arrays = {"q": _normal(rng, batch, heads, m, k), "k": _normal(rng, batch, heads, n, k), "v": _normal(rng, batch, heads, n, d)}
    return arrays | {"scale": np.float32(1 / np.sqrt(k))}


def _causal(rng: np.random.Generator, s: Sizes) -> Inputs:
    h, n, k, d = (s[name] for name in ("H", "N", "K", "D"))
    arrays = {"q": _normal(rng, h, n, k), "k": _normal(rng, h, n, k), "v": _normal(rng, h, n, d)}
    return arrays | {"scale": np.float32(1 / np.sqrt(k))}


def _gemver(rng: np.random.Generator, s: Sizes) -> Inputs:
    n = s["N"]
    vectors = {name: _normal(rng, n, dtype=np.float64) for name in ("u1", "v1", "u2", "v2", "y", "z")}
    return {"alpha": np.float64(1.5), "beta": np.float64(1.2), "a": _normal(rng, n, n, dtype=np.float64)} | vectors


def _arcs(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {name: rng.random(s["N"]) for name in ("theta_1", "phi_1", "theta_2", "phi_2")}


def _integers(rng: np.random.Generator, s: Sizes) -> Inputs:
    arrays = {name: rng.integers(0, 1000, (s["M"], s["N"])) for name in ("array_1", "array_2")}
    return arrays | {"a": np.int64(4), "b": np.int64(3), "c": np.int64(9)}


def _gemm(rng: np.random.Generator, s: Sizes) -> Inputs:
    shapes = {"c": ("M", "N"), "a": ("M", "K"), "b": ("K", "N")}
    arrays = {name: _normal(rng, *(s[n] for n in shape), dtype=np.float64) for name, shape in shapes.items()}
    return {"alpha": np.float64(1.5), "beta": np.float64(1.2)} | arrays


def _atax(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"a": _normal(rng, s["M"], s["N"], dtype=np.float64), "x": _normal(rng, s["N"], dtype=np.float64)}


def _gesummv(rng: np.random.Generator, s: Sizes) -> Inputs:
    n = s["N"]
    matrices = {name: _normal(rng, n, n, dtype=np.float64) for name in ("a", "b")}
    return {"alpha": np.float64(1.5), "beta": np.float64(1.2)} | matrices | {"x": _normal(rng, n, dtype=np.float64)}


def _steps(rank: int) -> Draw:
    def draw(rng: np.random.Generator, s: Sizes) -> Inputs:
        shape = (s["N"],) * rank
        return {"tsteps": np.int64(s["tsteps"]), "a": _normal(rng, *shape, dtype=np.float64), "b": _normal(rng, *shape, dtype=np.float64)}

    return draw


def _heads(rng: np.random.Generator, s: Sizes) -> Inputs:
    return {"x": _normal(rng, s["N"], s["H"], s["S"], s["S"])}


M = 1 << 20

CASES: dict[str, Case] = {
    # element by element
    "saxpy": Case({"N": 16 * M}, {"N": M}, {"N": 101}, _saxpy),
    "gelu": Case({"N": 16 * M}, {"N": M}, {"N": 101}, _vector),
    "silu_and_mul": Case({"T": 1024, "D": 11008}, {"T": 64, "D": 11008}, {"T": 3, "D": 37}, _silu),
    "polynomial": Case({"N": 8 * M}, {"N": M}, {"N": 101}, _vector64),
    "black_scholes": Case({"N": 2 * M}, {"N": M // 8}, {"N": 101}, _options),
    "haversine": Case({"N": 2 * M}, {"N": M // 8}, {"N": 101}, _places),
    "mandelbrot": Case({"H": 1024, "W": 1024}, {"H": 256, "W": 256}, {"H": 11, "W": 13}, _plane),
    # grids
    "jacobi2d": Case({"N": 2000, "steps": 20}, {"N": 500, "steps": 20}, {"N": 17, "steps": 3}, _grids),
    "blur": Case({"H": 4096, "W": 4096}, {"H": 1024, "W": 1024}, {"H": 11, "W": 13}, _image),
    "conv2d": Case(
        {"B": 8, "C": 16, "H": 64, "W": 64, "K": 32, "R": 3, "S": 3},
        {"B": 2, "C": 8, "H": 32, "W": 32, "K": 16, "R": 3, "S": 3},
        {"B": 2, "C": 3, "H": 9, "W": 8, "K": 4, "R": 3, "S": 2},
        _convolution,
    ),
    "edge_copy": Case({"N": 16 * M}, {"N": M}, {"N": 101}, _vector),
    # layouts
    "transpose_add": Case({"M": 4096, "N": 4096}, {"M": 1024, "N": 1024}, {"M": 11, "N": 13}, _transposed),
    "gravity": Case({"N": 4096}, {"N": 1024}, {"N": 19}, _bodies),
    "rgb_to_gray": Case({"H": 2160, "W": 3840}, {"H": 540, "W": 960}, {"H": 11, "W": 13}, _photo),
    "reshape_scale": Case({"H": 4096, "W": 4096}, {"H": 1024, "W": 1024}, {"H": 11, "W": 13}, _flat),
    "gather_rows": Case({"V": 8192, "D": 1024, "T": 16384}, {"V": 4000, "D": 1024, "T": 1024}, {"V": 7, "D": 13, "T": 11}, _table),
    # rows
    "softmax": Case({"R": 4096, "C": 4096}, {"R": 512, "C": 4096}, {"R": 5, "C": 37}, _rows),
    "log_softmax": Case({"R": 4096, "C": 4096}, {"R": 512, "C": 4096}, {"R": 5, "C": 37}, _rows),
    "layernorm": Case({"R": 4096, "C": 4096}, {"R": 512, "C": 4096}, {"R": 5, "C": 37}, _layernorm),
    "fused_add_rmsnorm": Case({"T": 989, "D": 8192}, {"T": 99, "D": 8192}, {"T": 5, "D": 37}, _rmsnorm),
    "merge_attn_states": Case({"T": 768, "H": 32, "D": 256}, {"T": 96, "H": 32, "D": 256}, {"T": 5, "H": 3, "D": 17}, _states),
    "cross_entropy": Case({"R": 512, "C": 32000}, {"R": 64, "C": 32000}, {"R": 5, "C": 37}, _labels),
    "nearest": Case({"N": 100_000, "D": 16, "K": 64}, {"N": 10_000, "D": 16, "K": 64}, {"N": 53, "D": 5, "K": 7}, _clusters),
    "cumsum": Case({"N": 8 * M}, {"N": M}, {"N": 101}, _vector64),
    "histogram": Case({"N": 16 * M, "B": 1024}, {"N": M, "B": 1024}, {"N": 301, "B": 7}, _weighted),
    # contractions
    "matmul": Case({"M": 1024, "K": 1024, "N": 1024}, {"M": 256, "K": 256, "N": 256}, {"M": 11, "K": 17, "N": 13}, _matrices),
    "matmul_chain": Case({"M": 512, "K": 512, "L": 512}, {"M": 256, "K": 256, "L": 256}, {"M": 11, "K": 17, "L": 13}, _chain),
    "attention": Case(
        {"B": 1, "H": 8, "M": 1024, "N": 1024, "K": 64, "D": 64},
        {"B": 1, "H": 8, "M": 256, "N": 256, "K": 64, "D": 64},
        {"B": 2, "H": 3, "M": 5, "N": 7, "K": 4, "D": 6},
        _attention,
    ),
    "causal_attention": Case(
        {"H": 8, "N": 1024, "K": 64, "D": 64}, {"H": 8, "N": 256, "K": 64, "D": 64}, {"H": 3, "N": 7, "K": 4, "D": 6}, _causal
    ),
    "gemver": Case({"N": 2000}, {"N": 500}, {"N": 19}, _gemver),
}

NPBENCH: dict[str, Case] = {
    "arc_distance": Case({"N": 2 * M}, {"N": M // 8}, {"N": 101}, _arcs),
    "compute": Case({"M": 2000, "N": 2000}, {"M": 500, "N": 500}, {"M": 11, "N": 13}, _integers),
    "gemm": Case({"M": 1000, "N": 1100, "K": 1200}, {"M": 200, "N": 220, "K": 240}, {"M": 11, "N": 17, "K": 13}, _gemm),
    "atax": Case({"M": 4000, "N": 5000}, {"M": 400, "N": 500}, {"M": 11, "N": 13}, _atax),
    "gesummv": Case({"N": 4000}, {"N": 500}, {"N": 19}, _gesummv),
    "jacobi_2d": Case({"N": 700, "tsteps": 200}, {"N": 150, "tsteps": 50}, {"N": 17, "tsteps": 3}, _steps(2)),
    "heat_3d": Case({"N": 70, "tsteps": 100}, {"N": 25, "tsteps": 25}, {"N": 7, "tsteps": 3}, _steps(3)),
    "softmax_4d": Case({"N": 32, "H": 8, "S": 256}, {"N": 16, "H": 16, "S": 128}, {"N": 2, "H": 3, "S": 7}, _heads),
}
"""By the names that they have in NPBench."""
