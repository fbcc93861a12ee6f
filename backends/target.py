"""Turns a target's name (`cpu`, `cuda:sm_90`, …) into a Target: which backend emits, and which machine file costs."""

import ctypes.util
import importlib.util
from dataclasses import dataclass
from typing import Final, Literal

from extract.machine import machine_path
from kernel_ir.errors import TargetError

Backend = Literal["numpy", "cpu", "cuda", "cuda-on-cpu"]
ARCHITECTURES: Final = ("sm_75", "sm_80", "sm_90")
DEFAULT_ARCHITECTURE: Final = "sm_80"
CPU_MACHINES: Final = ("avx2", "avx512")
NAMES: Final = (
    "numpy",
    "cpu",
    *(f"cpu:{name}" for name in CPU_MACHINES),
    "cuda",
    *(f"cuda:{arch}" for arch in ARCHITECTURES),
    "cuda-on-cpu",
)


@dataclass(frozen=True, slots=True)
class Target:
    """What to compile for: its name, the backend that emits, the machine that costs (a file of `extract/targets`, or a path).

    The code of `cpu:avx2` or `cpu:FILE` is that of `cpu`, and so is the name: only what chooses among plans is another machine's.
    """

    name: str
    backend: Backend
    machine: str

    def __str__(self) -> str:
        return self.name


def target(name: "str | Target | None" = None) -> Target:
    """The target called `name`; None is CUDA where a device is present, else the CPU.

    >>> target("cuda:sm_90")
    Target(name='cuda:sm_90', backend='cuda', machine='sm_90')

    Raises TargetError for an unknown name.
    """
    match name:
        case Target():
            return name
        case None:
            return target("cuda" if cuda_device_present() else "cpu")
        case "numpy" | "cpu":
            return Target(name, name, "cpu")
        case str() if name.startswith("cpu:") and (name[4:] in CPU_MACHINES or name.endswith(".toml")):
            machine_path(name[4:])
            return Target("cpu", "cpu", name[4:])
        case "cuda":
            return Target(name, "cuda", _device_architecture() or DEFAULT_ARCHITECTURE)
        case "cuda-on-cpu":
            return Target(name, "cuda-on-cpu", DEFAULT_ARCHITECTURE)
        case str() if name.startswith("cuda:") and name[5:] in ARCHITECTURES:
            return Target(name, "cuda", name[5:])
        case _:
            raise TargetError(f"unknown target {name!r}", hint=f"the targets are {', '.join(NAMES)} and cpu:FILE.toml")


def cuda_device_present() -> bool:
    """Whether numba-cuda is installed and the driver sees a device (asked without importing numba)."""
    return importlib.util.find_spec("numba_cuda") is not None and _device_capability() is not None


def _device_architecture() -> str | None:
    """The newest architecture of ours that the first device runs."""
    capability = _device_capability()
    if capability is None:
        return None
    able = [arch for arch in ARCHITECTURES if int(arch[3:]) <= capability]
    return able[-1] if able else None


def _device_capability() -> int | None:
    """Compute capability of the first device (90 for 9.0) by the driver itself, or None without driver or device."""
    library = ctypes.util.find_library("cuda")
    if library is None:
        return None
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    if driver.cuInit(0) != 0:
        return None
    device, value = ctypes.c_int(), ctypes.c_int()
    if driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    major_attribute, minor_attribute = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR (cuda.h)
    digits: list[int] = []
    for attribute in (major_attribute, minor_attribute):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0:
            return None
        digits.append(value.value)
    return digits[0] * 10 + digits[1]
