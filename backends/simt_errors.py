"""What is wrong with a CUDA kernel that runs on the CPU."""

from kernel_ir.errors import TargetError


class SimtError(TargetError):
    """Threads of a CUDA kernel wait for each other, or touch memory, in a way that real hardware forbids: the kernel is wrong."""
