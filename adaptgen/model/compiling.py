"""How the loops of `kernels.py` are compiled, kept and found again, by Numba."""

from __future__ import annotations

import os
import pickle
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding
import numba
from numba.core import event

from adaptgen.errors import OutputFileError

__all__ = ["compiled", "has_half_conversion", "loading"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and keep the result beside the source, or where the user's caches are.

    A loop takes those that it calls into itself. Otherwise it adds in one order in the process that compiles, where it
    finds them as they were optimised alone, and in another in those that read what is kept and holds its own copies.
    """
    options = {"fastmath": True, "nogil": True, "error_model": "numpy", "forceinline": True}
    # Numba would make a folder named ~ where nobody knows what is meant by it.
    is_kept = bool(numba.config.CACHE_DIR) or os.path.isabs(os.path.expanduser("~"))
    try:
        return numba.njit(cache=is_kept, **options)(function)
    except RuntimeError:
        # There is no place that may be written.
        return numba.njit(**options)(function)


def has_half_conversion() -> bool:
    """Whether the processor that code is compiled for converts float16 by itself."""
    if numba.config.CPU_NAME or numba.config.CPU_FEATURES:
        return False
    is_arm = platform.machine().lower() in ("arm64", "aarch64")
    return is_arm or llvmlite.binding.get_host_cpu_features().get("f16c", False)


class CompilationListener(event.Listener):
    """Calls something each time that a loop must be compiled."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_start(self, event: event.Event) -> None:
        self.call()

    def on_end(self, event: event.Event) -> None:
        pass


@contextmanager
def loading(on_compiling: Callable[[], None], *, of: Any) -> Iterator[None]:
    """Within it, loops are called for the first time: they are compiled, or read from where they are kept.

    Args:
        on_compiling: called for each that must be compiled.
        of: one of them, which says where they are kept.

    Raises:
        OutputFileError: what is kept is damaged, or there is no room to keep it.
    """
    try:
        with event.install_listener("numba:compile", CompilationListener(on_compiling)):
            yield
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        folder = of.stats.cache_path
        reason = getattr(error, "strerror", None) or str(error) or "it ends too soon"
        raise OutputFileError(
            f"{folder}, where compiled loops are kept, cannot be used: {reason}",
            "Remove it, or name another folder in the environment variable NUMBA_CACHE_DIR",
        ) from None
