"""What the machine offers: allocator, precision, versions. Importing it costs nothing; torch loads where it is used."""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import subprocess
import sys
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_VERSIONED = ("torch", "transformers", "datasets", "peft", "accelerate", "evaluate", "tokenizers", "numpy")
_PATIENCE = timedelta(days=1)
"""So long processes wait for one that reads a corpus for all; NCCL's own ten minutes are too few for that."""

_tuned = False
_highest = 0
"""Peak memory before it was last reset, in bytes."""


def tune_allocator() -> bool:
    """Tell glibc to keep freed memory for the next step instead of giving it back to the system.

    Every large tensor is otherwise mapped and faulted in anew at each step, which on CPU costs more than half of
    the time of training a small model. Call it before large tensors are made. Returns whether it took effect;
    on other systems, or with HFCOURSE_KEEP_MALLOC set, nothing happens.
    """
    if not sys.platform.startswith("linux") or os.environ.get("HFCOURSE_KEEP_MALLOC"):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return False
    global _tuned
    _tuned = all((mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, 64 * 2**20)))
    return _tuned


def allocator() -> str:
    """One word for reports: how memory is handed out in this process."""
    return "tuned glibc" if _tuned else "system"


def has_bf16_units() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else ""
    if "AMX" in cpu.upper():
        return True
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and any(unit in cpuinfo.read_text() for unit in ("amx_bf16", "avx512_bf16"))


def mixed_precision(asked: str) -> Literal["no", "bf16", "fp16"]:
    """accelerate's word for a setting of `TrainConfig.precision`."""
    if asked == "auto":
        return "bf16" if has_bf16_units() else "no"
    return "no" if asked == "fp32" else asked  # type: ignore[return-value]


def accelerator(**settings: Any) -> Accelerator:
    """An Accelerator with these settings, whatever precision an earlier run of this process (of a notebook) had."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        processes()
    AcceleratorState._reset_state()
    return Accelerator(**settings)


def processes() -> PartialState:
    """The processes of a launch, which the first call joins to a group."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # accelerate joins processes on a machine without an accelerator only when it is told that they are on CPU.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=_PATIENCE)


def leave_processes_at_exit() -> None:
    """Have this process leave its group in order at its very end, so that several runs of one launch share the group.

    A process that still is in a gloo group when Python has gone now and then aborts ("terminate called without an
    active exception"). Asking twice does no harm.
    """
    atexit.register(_leave_processes)


def _leave_processes() -> None:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def describe() -> dict[str, Any]:
    """Hardware and versions, for metrics.json."""
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "hardware": {
            "cpu": model,
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
            "allocator": allocator(),
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _VERSIONED},
        "commit": _commit(),
    }


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    return max(_highest, _high_water())


class MemoryUse:
    """Memory that a run takes beyond what is there when this is made: data, libraries and the model's weights.

    On a GPU it is what tensors take there, on CPU resident memory of the process. Where the system does not let its
    high-water mark be set back, a higher peak before the run counts too.
    """

    def __init__(self, weights: int = 0) -> None:
        """`weights`: bytes of a model that is still to be moved to the GPU."""
        import torch

        self._on_gpu = torch.cuda.is_available()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated() + weights
        else:
            _give_back()
            _forget_peak()
            self._before = _resident()

    def peak(self) -> int:
        """Largest use so far, in bytes."""
        import torch

        high = torch.cuda.max_memory_allocated() if self._on_gpu else _high_water()
        return max(0, high - self._before)


def _give_back() -> None:
    """Give freed memory back to the system: what is kept would be used again without being seen."""
    if sys.platform.startswith("linux"):
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # musl has no malloc_trim
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _forget_peak() -> None:
    """Have the system's high-water mark begin anew at what is resident now, where it lets us."""
    global _highest
    _highest = peak_memory()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _high_water() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident() -> int:
    """Memory of this process that is resident now; its peak where the system has no /proc."""
    fields = " ".join(_lines("/proc/self/statm")).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else _high_water()


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the package's own checkout; None for an installed wheel."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    answer = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return answer.stdout.strip() or None
