"""The processors of a machine, and the threads of BLAS, which uses all of them by default; processes share them."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_SETTERS = ("openblas_set_num_threads", "openblas_set_num_threads64_", "scipy_openblas_set_num_threads64_")


_FEW_INSTANCES, _INSTANCES_PER_PROCESSOR = 32, 8


def most_instances() -> int:
    """Return how many processes of a model this machine can run."""
    return max(_FEW_INSTANCES, _INSTANCES_PER_PROCESSOR * (os.cpu_count() or 1))


def limit_blas_threads(threads: int) -> None:
    """Limit every OpenBLAS that this process has loaded (NumPy's, FAISS's) to `threads` threads.

    `OPENBLAS_NUM_THREADS` would come too late: Triton's stub has imported NumPy before any model.
    """
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    libraries = {line.split(maxsplit=5)[5] for line in lines if "openblas" in line and len(line.split(maxsplit=5)) == 6}
    for library in sorted(libraries):
        handle = ctypes.CDLL(library)
        for name in _SETTERS:
            if hasattr(handle, name):
                getattr(handle, name)(threads)
