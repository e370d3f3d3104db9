"""AdaLoRA (arXiv 2303.10512) in a training loop: its ranks are shared out anew while it trains.

The budget falls from the first ranks to the final ones between a tenth and seven tenths of all steps.
"""

from __future__ import annotations

from typing import Any

from peft.tuners.adalora import AdaLoraModel
from torch import nn


def set_steps(model: nn.Module, steps: int) -> None:
    """Tell an AdaLoRA model how many optimizer steps there will be; nothing for any other model."""
    tuner = _tuner(model)
    if tuner is not None:
        config = tuner.peft_config[tuner.trainable_adapter_name]
        config.total_step, config.tinit, config.tfinal = steps, steps // 10, steps * 3 // 10


def share_ranks(model: nn.Module, step: int) -> None:
    """After an optimizer step, before its gradients are cleared; `step` is counted from 0."""
    tuner = _tuner(model)
    if tuner is not None:
        tuner.update_and_allocate(step)


def settle(model: nn.Module) -> None:
    """Before saving: the ranks that the weights now hold are those that are kept.

    The weights may be those of an earlier step, or an average, than the library's own list of ranks is of.
    """
    tuner = _tuner(model)
    config = None if tuner is None else tuner.peft_config[tuner.trainable_adapter_name]
    if config is not None and config.rank_pattern:
        named = tuner.model.named_parameters()
        config.rank_pattern = {name: (e != 0).flatten().tolist() for name, e in named if ".lora_E." in name}


def resumes(model: nn.Module) -> bool:
    """Whether a checkpoint of weights and optimizer is all that training needs to go on.

    AdaLoRA's is not: how important each rank was so far lies in the library's own objects.
    """
    return _tuner(model) is None


def _tuner(model: Any) -> Any:
    tuner = getattr(model, "base_model", None)
    return tuner if isinstance(tuner, AdaLoraModel) else None
