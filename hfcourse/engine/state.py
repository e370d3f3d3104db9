"""All that a run must remember between two steps, in files that no unpickler reads.

Weights, objective, optimizer and moving average are safetensors; the position is JSON. Random numbers need no file:
each step seeds its own from the run's seed and its number. Sharded set-ups (FSDP, DeepSpeed) go through accelerate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hfcourse.errors import ModelError


@dataclass
class Position:
    """Where a run stands: all of it that is not a tensor."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    offset: int = 0
    """Steps done in this epoch."""
    best_step: int = 0
    best_score: float | None = None
    bad_evaluations: int = 0
    """Evaluations since the best one."""
    pending: bool = False
    """The evaluation due at this step was interrupted: it comes first when the run goes on."""
    micro_tokens: int = 0
    """Bound on a forward pass that memory has forced so far; 0 for the setting's own."""
    step_seconds: float = 0.0
    """Wall time of the optimizer steps alone, without evaluations and checkpoints."""
    seconds: float = 0.0
    """Wall time of training so far, over all its interruptions."""


class MovingAverage:
    """Exponential moving average of the trained weights (Polyak & Juditsky 1992), used for evaluation and saving."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.shadow = [parameter.detach().clone() for parameter in self.parameters]

    def update(self, step: int) -> None:
        """After an optimizer step; early steps average over fewer (as in Adam's bias correction)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.parameters], 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model holds the average within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.shadow, strict=True):
            held = parameter.detach().clone()
            parameter.data.copy_(average)
            average.copy_(held)


@dataclass
class TrainState:
    """The live objects of a run, and how they are written and read."""

    accelerator: Accelerator
    model: nn.Module
    """Unwrapped."""
    extra: Sequence[nn.Module]
    """Modules that the objective trains beside the model."""
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    position: Position

    @property
    def sharded(self) -> bool:
        """Whether no process holds the whole model."""
        return self.accelerator.distributed_type in {DistributedType.FSDP, DistributedType.DEEPSPEED}

    def save(self, folder: Path) -> None:
        """Write everything into an empty folder (every process calls it; one writes unless sharded)."""
        if self.sharded:
            self.accelerator.save_state(str(folder / "sharded"))
        elif self.accelerator.is_main_process:
            save_file(tensors_of(self.model), folder / "model.safetensors")
            for number, module in enumerate(self.extra):
                save_file(tensors_of(module), folder / f"objective-{number}.safetensors")
            save_file(self._optimizer_tensors(), folder / "optimizer.safetensors")
            if self.average is not None:
                shadow = {str(number): tensor for number, tensor in enumerate(self.average.shadow)}
                save_file(shadow, folder / "average.safetensors")
        if self.accelerator.is_main_process:
            (folder / "position.json").write_text(json.dumps(asdict(self.position), indent=1))

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises:
            ModelError: the checkpoint belongs to another model or optimizer.
        """
        try:
            if self.sharded:
                self.accelerator.load_state(str(folder / "sharded"))
            else:
                fill(self.model, load_file(folder / "model.safetensors"))
                for number, module in enumerate(self.extra):
                    fill(module, load_file(folder / f"objective-{number}.safetensors"))
                self._load_optimizer(load_file(folder / "optimizer.safetensors"))
                if self.average is not None:
                    shadow = load_file(folder / "average.safetensors")
                    for number, tensor in enumerate(self.average.shadow):
                        tensor.copy_(shadow[str(number)])
        except (KeyError, OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"{folder}: not a checkpoint of this model and these settings: {reason}") from error
        for key, value in json.loads((folder / "position.json").read_text()).items():
            setattr(self.position, key, value)

    def load_weights(self, folder: Path) -> None:
        """Only what is evaluated and saved: the (averaged) weights of a checkpoint."""
        if self.sharded:
            self.accelerator.load_state(str(folder / "sharded"))
            return
        fill(self.model, load_file(folder / "model.safetensors"))
        if self.average is not None:
            shadow = load_file(folder / "average.safetensors")
            for number, tensor in enumerate(self.average.shadow):
                tensor.copy_(shadow[str(number)])

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        state = self.optimizer.state_dict()["state"]
        return {
            f"{number}.{key}": torch.as_tensor(value).detach().cpu().contiguous()
            for number, entry in state.items()
            for key, value in entry.items()
        }

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            number, key = name.split(".", 1)
            state.setdefault(int(number), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        parameters = sum(len(group["params"]) for group in groups)
        if state and len(state) > parameters:
            raise KeyError(f"{len(state)} optimizer entries for {parameters} parameters")
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """What training changes, on CPU: trained parameters and kept buffers by name, tied ones once.

    A frozen backbone is made anew when a run goes on; its checkpoints hold what was trained on it.
    """
    kept = module.state_dict(keep_vars=True)
    frozen = {id(parameter) for parameter in module.parameters() if not parameter.requires_grad}
    found: dict[int, str] = {}
    for name, tensor in kept.items():
        if id(tensor) not in frozen:
            found.setdefault(id(tensor), name)
    return {name: kept[name].detach().cpu().contiguous() for name in found.values()}


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into a module in place; every tensor must find its place.

    Raises:
        KeyError: names differ. RuntimeError: shapes differ.
    """
    expected = tensors_of(module).keys()
    if expected != tensors.keys():
        odd = sorted(expected ^ tensors.keys())
        raise KeyError(f"{len(odd)} tensors do not match by name, such as {odd[0]!r}")
    here: dict[str, Any] = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if here[name].shape != tensor.shape:
                raise RuntimeError(f"{name} is {tuple(tensor.shape)}, the model's is {tuple(here[name].shape)}")
            here[name].copy_(tensor)
