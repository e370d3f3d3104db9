"""From a model and a task to the steps of a run: objective, optimizer, and both wrapped for the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelerate.utils import DistributedDataParallelKwargs

from hfcourse.backbones.load import leaves_out_layers
from hfcourse.backbones.speech.quantizer import KMeansQuantizer
from hfcourse.engine import optim
from hfcourse.engine.setup import Setup
from hfcourse.engine.state import MovingAverage, Position, TrainState
from hfcourse.engine.step import Steps
from hfcourse.errors import ConfigError
from hfcourse.model import parameter_counts
from hfcourse.peft.wrap import unwrapped
from hfcourse.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_SMALL_PASS = 4096
"""Tokens; on 2 cores passes of this size take no longer than whole batches, and hold a part of the activations."""


def prepare(setup: Setup, model: PreTrainedModel, task: Task) -> Steps:
    """Model, objective and optimizer, wrapped for the device and the processes."""
    config, accelerator = setup.config, setup.accelerator
    if config.peft.drop_layers and accelerator.num_processes > 1:  # each would leave out other layers
        raise ConfigError("peft.drop_layers needs a single process: leave it out, or use peft.skip_layers")
    if accelerator.mixed_precision == "no" and _attends_in_16_bits(model):
        raise ConfigError(
            "backbone.attention flash_attention_2 takes 16 bits alone, and train.precision gives 32: set bf16, or "
            "leave the attention out"
        )
    objective = task.objective
    objective.bind(model)
    extra = list(objective.modules_to_train())
    if config.train.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.train.compile:
        # In place and the backbone alone: names in the state stay, and what varies with every batch stays outside.
        inner: Any = unwrapped(model)
        inner.base_model.compile(dynamic=True if config.batch.bucket and _lengths_differ(task) else None)
    optimizer = optim.make_optimizer(optim.parameter_groups(model, extra, config.optim), config.optim)
    for module in extra:
        module.to(accelerator.device)
    if objective.leaves_out or _leaves_out(model):
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    if accelerator.device.type == "cpu":
        optim.allocate_moments(optimizer)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = TrainState(
        accelerator=accelerator,
        model=accelerator.unwrap_model(wrapped),
        extra=extra,
        optimizer=optimizer,
        average=MovingAverage(trained, config.train.ema) if config.train.ema else None,
        position=Position(micro_tokens=config.batch.micro_tokens or _small_passes(model, accelerator.device.type)),
    )
    return Steps(setup=setup, task=task, objective=objective, wrapped=wrapped, state=state)


def _attends_in_16_bits(model: PreTrainedModel) -> bool:
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    return any(getattr(config, "_attn_implementation", "") == "flash_attention_2" for config in configs)


def _lengths_differ(task: Task) -> bool:
    """Whether batches of the training split may be of several lengths: for one alone faster kernels are compiled."""
    if "train" not in task.splits:
        return False
    lengths = task.lengths("train")
    return len(lengths) > 0 and bool((lengths != lengths[0]).any())


def _leaves_out(model: Any) -> bool:
    """Whether a backbone may leave parameters without a gradient: layers, a codebook that only its own loss moves."""
    backbone: Any = unwrapped(model).base_model
    return leaves_out_layers(backbone.config) or isinstance(getattr(backbone, "quantizer", None), KMeansQuantizer)


def _small_passes(model: Any, device: str) -> int:
    """Tokens of one forward pass where none are asked for; 0 for the whole batch.

    On CPU a step in several passes costs only that gradients are added up: nothing where little is trained.
    """
    counts = parameter_counts(model)
    frozen = "forward" in unwrapped(model).base_model.__dict__  # its states are looked up: there is nothing to hold
    return _SMALL_PASS if device == "cpu" and 10 * counts["trained"] < counts["all"] and not frozen else 0
