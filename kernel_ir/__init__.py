"""kir: an e-graph optimizer for compute kernels.

Parse kernels, optimize them, compile them, and check that two kernels mean the same:

>>> import kernel_ir as kir
>>> module = kir.parse("kernel scale(a: f32, x: f32[N]) -> (y: f32[N]) { y[i] = a * x[i] }")
>>> module["scale"].sizes
('N',)

Everything here is imported when it is first used, so that `import kernel_ir` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from backends.target import Target as Target
    from kernel_ir import testing as testing
    from kernel_ir.compiled import Compiled as Compiled
    from kernel_ir.errors import ArgumentError as ArgumentError
    from kernel_ir.errors import BoundsError as BoundsError
    from kernel_ir.errors import CoverageError as CoverageError
    from kernel_ir.errors import EquivalenceError as EquivalenceError
    from kernel_ir.errors import KernelError as KernelError
    from kernel_ir.errors import NameError_ as NameError_
    from kernel_ir.errors import ParseError as ParseError
    from kernel_ir.errors import RuleError as RuleError
    from kernel_ir.errors import ShapeError as ShapeError
    from kernel_ir.errors import TargetError as TargetError
    from kernel_ir.errors import TypeError_ as TypeError_
    from kernel_ir.errors import UsageError as UsageError
    from kernel_ir.explain import replay as replay
    from kernel_ir.fastmath import Flag as Flag
    from kernel_ir.module import Module as Module
    from kernel_ir.nodes import Kernel as Kernel
    from kernel_ir.optimizer import Result as Result
    from kernel_ir.optimizer import optimize as optimize
    from kernel_ir.parser import parse as parse
    from kernel_ir.parser import parse_file as parse_file
    from rewrites.admission import rules as rules
    from rewrites.chain import Chain as Chain
    from rewrites.chain import ChainError as ChainError
    from rewrites.saturate import Budget as Budget

__version__: Final = "0.1.0"

_HOME: Final[dict[str, str]] = {
    **dict.fromkeys(("parse", "parse_file"), "kernel_ir.parser"),
    **dict.fromkeys(("optimize", "Result"), "kernel_ir.optimizer"),
    **dict.fromkeys(
        (
            "KernelError",
            "ParseError",
            "NameError_",
            "TypeError_",
            "ShapeError",
            "BoundsError",
            "CoverageError",
            "RuleError",
            "TargetError",
            "ArgumentError",
            "EquivalenceError",
            "UsageError",
        ),
        "kernel_ir.errors",
    ),
    "Budget": "rewrites.saturate",
    "rules": "rewrites.admission",
    "Chain": "rewrites.chain",
    "ChainError": "rewrites.chain",
    "replay": "kernel_ir.explain",
    "Compiled": "kernel_ir.compiled",
    "Flag": "kernel_ir.fastmath",
    "Kernel": "kernel_ir.nodes",
    "Module": "kernel_ir.module",
    "Target": "backends.target",
}
"""Each public name and the module that it lives in."""

__all__ = [*_HOME, "testing"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "testing":
        return import_module("kernel_ir.testing")
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'kernel_ir' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
