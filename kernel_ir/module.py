"""A parsed file: its checked kernels by name, in file order, and the syntax of its rules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kernel_ir.nodes import Kernel
from kernel_ir.schedule import Schedule
from kernel_ir.syntax import RuleSyntax


@dataclass(frozen=True, slots=True, eq=False)
class Module(Mapping[str, Kernel]):
    """An immutable mapping from name to kernel, in file order.

    `consts` holds the file's constants, evaluated; `rules` the file's rules, constants and functions expanded; `schedules` what the
    file says of how its kernels run.
    """

    kernels: Mapping[str, Kernel]
    consts: Mapping[str, int | float]
    rules: tuple[RuleSyntax, ...]
    schedules: tuple[Schedule, ...] = ()

    def schedule(self, kernel: str, target: str) -> Schedule | None:
        """What the file says of a kernel on a target, if it does."""
        return next((s for s in self.schedules if (s.kernel, s.target) == (kernel, target)), None)

    def __getitem__(self, name: str) -> Kernel:
        try:
            return self.kernels[name]
        except KeyError:
            raise KeyError(f"no kernel {name!r}; there are {', '.join(self.kernels) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.kernels)

    def __len__(self) -> int:
        return len(self.kernels)

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only view of a dict cannot be pickled; the dict can.
        return _frozen, (dict(self.kernels), dict(self.consts), self.rules, self.schedules)

    def __str__(self) -> str:
        return "\n\n".join(map(str, (*self.kernels.values(), *self.schedules))) + "\n" * bool(self.kernels)


def _frozen(
    kernels: dict[str, Kernel], consts: dict[str, int | float], rules: tuple[RuleSyntax, ...], schedules: tuple[Schedule, ...]
) -> Module:
    return Module(MappingProxyType(kernels), MappingProxyType(consts), rules, schedules)
