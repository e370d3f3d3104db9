"""What a run stands on: the accelerator with its precision and trackers, the seed, the log."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from hfcourse.engine import machine
from hfcourse.engine.activations import fused_gelu_in
from hfcourse.engine.dropout import fast_dropout_in
from hfcourse.engine.embedding import row_gradients_in
from hfcourse.engine.frozen_weights import frozen_in_bf16
from hfcourse.engine.low_rank import lean_lora_in
from hfcourse.engine.settings import FitConfig
from hfcourse.engine.state import TrainState
from hfcourse.engine.whole_windows import whole_windows_in
from hfcourse.errors import ConfigError
from hfcourse.run_folder import RunFolder


@dataclass(frozen=True)
class Setup:
    """The surroundings of one run."""

    config: FitConfig
    run: RunFolder
    accelerator: Accelerator

    @classmethod
    @contextlib.contextmanager
    def open(cls, config: FitConfig, run: RunFolder) -> Iterator[Setup]:
        """An accelerator for the block; trackers are closed and process groups left in order at its end.

        Raises:
            ConfigError: fp16 on a machine without a GPU; a tracker that is not installed.
        """
        precision = machine.mixed_precision(config.train.precision)
        if precision == "fp16" and not torch.cuda.is_available():
            raise ConfigError("train.precision is fp16, which only trains on a GPU: use bf16 or fp32")
        trackers = list(config.train.trackers)
        for name in trackers:  # accelerate would leave it out without a word
            if importlib.util.find_spec(name) is None:
                raise ConfigError(f"train.trackers names {name}, which is not installed: pip install {name}")
        accelerator = machine.accelerator(
            mixed_precision=precision,
            log_with=trackers or None,
            project_dir=str(run.path),
            step_scheduler_with_optimizer=False,
        )
        if trackers:
            accelerator.init_trackers("hfcourse", config=_flat(dataclasses.asdict(config)))
        # The same seed everywhere: what differs between processes is drawn from keyed noise.
        set_seed(config.seed)
        deterministic = accelerator.device.type == "cpu"
        with _deterministic() if deterministic else contextlib.nullcontext():
            try:
                yield cls(config, run, accelerator)
            finally:
                for tracker in accelerator.trackers:
                    tracker.finish()
                machine.leave_processes_at_exit()

    def log(self, record: dict[str, Any], state: TrainState, *, epoch: float) -> None:
        """One line in log.jsonl (and in the trackers) with the position it belongs to."""
        position = state.position
        record = {"step": position.step, "epoch": epoch, **record}
        if self.accelerator.is_main_process:
            self.run.append_log(record)
        if self.accelerator.trackers:
            prefix = record.get("split", "train")
            numbers = {f"{prefix}/{key}": value for key, value in record.items() if isinstance(value, int | float)}
            self.accelerator.log(numbers, step=position.step)


@contextlib.contextmanager
def faster_on_cpu(model: nn.Module, extra: Sequence[nn.Module], setup: Setup) -> Iterator[None]:
    """On CPU: fast draws of dropout, GELU in one kernel, lean LoRA, frozen matrices in bf16, kept tables of gradients.

    A compiled model is left alone, but for its convolutions in bf16, which must be given whole windows.
    """
    with contextlib.ExitStack() as stack:
        if setup.accelerator.device.type == "cpu" and setup.accelerator.mixed_precision == "bf16":
            stack.enter_context(whole_windows_in([model, *extra]))
        if setup.accelerator.device.type == "cpu" and not setup.config.train.compile:
            stack.enter_context(fast_dropout_in(model))
            stack.enter_context(fused_gelu_in(model))
            stack.enter_context(lean_lora_in(model))
            if setup.accelerator.mixed_precision == "bf16":
                stack.enter_context(frozen_in_bf16(model))
            if setup.accelerator.num_processes == 1:  # else gradients are exchanged where torch makes them
                stack.enter_context(row_gradients_in([model, *extra]))
        yield


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic algorithms, without torch's filling of fresh memory (which costs time and guards nothing here)."""
    before, filling = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names, as trackers want them."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
