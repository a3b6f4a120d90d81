"""Run CUDA kernels on the CPU, in tests: `Module(code, options)` for the text of a `.cu` file."""

from .runner import KernelError, Module, cached_module, thread_order, unavailable

__all__ = ["KernelError", "Module", "cached_module", "thread_order", "unavailable"]
