"""Turns timed and predicted points into a verdict on the cycle model: rank correlations, how near the fastest is, errors."""

from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import fmean, median
from typing import Any, Final

Point = Mapping[str, Any]
NOISE: Final = 0.05
"""Times that differ by less are equal: two runs of one variant here differ by as much."""
ALIKE: Final = 0.02
"""Predictions that differ by less are equal."""
FEWEST: Final = 3
"""Variants of one kernel at one size from which on their order is judged."""
TOP: Final = 5


def judged(points: Sequence[Point]) -> dict[str, Any]:
    """The verdict. Within a kernel: over its variants at one size, where their times differ by more than noise; `raw` takes every
    difference for real. The fastest counts as found where one of the predicted best five takes at most 3 % longer than the fastest."""
    groups = _groups(points)
    told = {key: group for key, group in groups.items() if len(group) >= FEWEST and len(set(_ranks(_times(group), _noise(group)))) > 1}
    within = {key: spearman(_ranks(_times(g), _noise(g)), _ranks(_predictions(g), ALIKE)) for key, g in told.items()}
    raw = {key: spearman(_ranks(_times(g), 0.0), _ranks(_predictions(g), 0.0)) for key, g in told.items()}
    kernels = {name: [p for p in points if p["kernel"] == name] for name in dict.fromkeys(p["kernel"] for p in points)}
    pooled = [spearman(_ranks(_times(g), NOISE), _ranks(_predictions(g), ALIKE)) for g in kernels.values() if len(g) >= FEWEST]
    errors = [abs(log(p["predicted"] / p["seconds"])) for p in points]
    many = [group for group in groups.values() if len(group) > TOP]
    return {
        "points": len(points),
        "kernels": len(kernels),
        "groups": len(groups),
        "groups_whose_order_is_judged": len(told),
        "spearman_overall": spearman(_ranks(_times(points), 0.0), _ranks(_predictions(points), 0.0)) if points else None,
        "spearman_within_kernel_and_size_median": median(within.values()) if within else None,
        "spearman_within_kernel_and_size_raw_median": median(raw.values()) if raw else None,
        "spearman_within_kernel_median": median(pooled) if pooled else None,
        "fastest_in_top_5": fmean(_found(g, TOP) for g in groups.values()) if groups else None,
        "fastest_in_top_5_where_more_than_5": fmean(_found(g, TOP) for g in many) if many else None,
        "first_choice_over_fastest": exp(fmean(log(_choice(g)) for g in groups.values())) if groups else None,
        "typical_error": exp(median(errors)) if errors else None,
        "within_2x": fmean(e < log(2.0) for e in errors) if errors else None,
        "worst_groups": {key: round(rho, 3) for key, rho in sorted(within.items(), key=lambda pair: pair[1])[:12]},
    }


def lines(verdict: Mapping[str, Any]) -> list[str]:
    return [f"{key.replace('_', ' ')}: {value:.3f}" if isinstance(value, float) else f"{key.replace('_', ' ')}: {value}"
            for key, value in verdict.items()]  # fmt: skip


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """The rank correlation, equal values sharing their mean rank; 0 where one side has no order.

    >>> spearman([1, 2, 3, 4], [10, 20, 30, 30])
    0.9486832980505138
    """
    x, y = _mean_ranks(a), _mean_ranks(b)
    mx, my = fmean(x), fmean(y)
    xx, yy = sum((v - mx) ** 2 for v in x), sum((v - my) ** 2 for v in y)
    if xx == 0 or yy == 0:
        return 0.0
    return sum((v - mx) * (w - my) for v, w in zip(x, y, strict=True)) / (xx * yy) ** 0.5


def _mean_ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    return [order.index(v) + (order.count(v) - 1) / 2 for v in values]


def _ranks(values: Sequence[float], near: float) -> list[float]:
    """The rank of each value; those within `near` of the least of a run share one."""
    ranks: dict[float, int] = {}
    start, rank = 0.0, -1
    for value in sorted(set(values)):
        if rank < 0 or value > start * (1.0 + near):
            start, rank = value, rank + 1
        ranks[value] = rank
    return [float(ranks[v]) for v in values]


def _groups(points: Sequence[Point]) -> dict[str, list[Point]]:
    groups: dict[str, list[Point]] = {}
    for p in points:
        groups.setdefault(f"{p['kernel']} {' '.join(f'{k}={v}' for k, v in p['sizes'].items())}", []).append(p)
    return groups


def _times(points: Sequence[Point]) -> list[float]:
    return [p["seconds"] for p in points]


def _predictions(points: Sequence[Point]) -> list[float]:
    return [p["predicted"] for p in points]


def _noise(group: Sequence[Point]) -> float:
    """What times of one kernel at one size must differ by: more than two halves of the rounds of one variant do."""
    return max(NOISE, median(p.get("noise", 0.0) for p in group))


def _found(group: Sequence[Point], count: int) -> bool:
    best = sorted(group, key=lambda p: p["predicted"])[:count]
    return min(_times(best)) <= 1.03 * min(_times(group))


def _choice(group: Sequence[Point]) -> float:
    return min(group, key=lambda p: p["predicted"])["seconds"] / min(_times(group))
