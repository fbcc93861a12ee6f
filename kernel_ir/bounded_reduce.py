"""Turns (value, bound) terms into the max, min, argmax, … of all, with its bound; helpers that sum over axes."""

import numpy as np

from kernel_ir.bounded_ops import no_nan
from kernel_ir.evaluate import reduce as plain_reduce
from kernel_ir.number_system import Array, Value


def extreme(kind: str, body: Value, mask: Array | None, axes: tuple[int, ...]) -> Value:
    value, bound = body
    best = plain_reduce(kind, value, mask, axes)
    low, high = (plain_reduce(kind, np.asarray(value + s * bound), mask, axes) for s in (-1, 1))
    error = np.where((low == best) & (high == best), 0.0, np.maximum(high - best, best - low).astype(np.float64))
    unknown = np.isinf(bound) if mask is None else np.isinf(bound) & mask
    lost = unknown.any(axis=axes, keepdims=True)
    return best, np.where(lost, np.inf, np.where(np.isnan(best), 0.0, no_nan(error)))


def first_extreme(kind: str, body: Value, mask: Array | None, axes: tuple[int, ...]) -> Value:
    """argmax: known where no other point, its error granted, can reach the winner (exact ties go to the lowest index)."""
    value, bound = body
    position = plain_reduce(kind, value, mask, axes)
    valid = np.ones(value.shape, np.bool_) if mask is None else mask
    best, _ = extreme(kind.removeprefix("arg"), body, mask, axes)
    winner = valid & ((value == best) | (np.isnan(best) & np.isnan(value)))
    slack = np.where(winner, bound, 0.0).max(axis=axes, keepdims=True, initial=0.0)
    near = np.abs(value - best).astype(np.float64) <= bound + slack
    rival = valid & near & ~((bound == 0) & (slack == 0)) & ~(winner & (winner.sum(axis=axes, keepdims=True) == 1))
    rival |= valid & np.isinf(bound)
    return position, np.where(rival.any(axis=axes, keepdims=True), np.inf, 0.0)


def discrete_reduce(kind: str, body: Value, mask: Array | None, axes: tuple[int, ...]) -> Value:
    value = plain_reduce(kind, body[0], mask, axes)
    unknown = np.isinf(body[1]) if mask is None else np.isinf(body[1]) & mask
    lost = np.broadcast_to(unknown, body[0].shape).any(axis=axes, keepdims=True)
    if kind in ("any", "all"):
        settled = (body[0] == (kind == "any")) & ~np.isinf(body[1]) & (True if mask is None else mask)
        lost = lost & ~settled.any(axis=axes, keepdims=True)
    return value, np.where(lost, np.inf, 0.0)


def over(a: Array, axes: tuple[int, ...]) -> Array:
    return a.sum(axis=axes, keepdims=True)


def count(value: Array, mask: Array | None, axes: tuple[int, ...]) -> Array:
    """How many points the reduction joins."""
    return np.broadcast_to(np.True_ if mask is None else mask, value.shape).sum(axis=axes, keepdims=True).astype(np.float64)
