"""AdapterFusion (arXiv 2005.00247) from finished runs: their adapters, frozen, and an attention over them."""

from __future__ import annotations

import dataclasses
import filecmp
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import get_peft_model, load_peft_weights, set_peft_model_state_dict
from transformers import PreTrainedModel

from hfcourse.backbones.load import locate
from hfcourse.errors import ModelError
from hfcourse.peft.bottleneck import BottleneckConfig
from hfcourse.peft.saved import ADAPTER_CONFIG, adapter_config


def fuse(model: PreTrainedModel, runs: Sequence[str], head: list[str]) -> Any:
    """`model` with the adapters of several runs and a fusion of them, which alone is trained, with the head.

    Args:
        model: on the backbone that the adapters were trained on.
        runs: run folders or saved adapters; their own heads stay behind.
        head: modules that are trained and saved whole.

    Raises:
        ModelError: no adapter there, or one of another method, form or backbone.
    """
    folders = {f"member{number}": Path(locate(run)) for number, run in enumerate(runs)}
    configs = {name: _config(folder) for name, folder in folders.items()}
    for name, folder in folders.items():
        theirs = configs[name].base_model_name_or_path or ""
        if _differ(theirs, model.name_or_path or ""):
            raise ModelError(f"{folder}: this adapter is of another backbone: {theirs}, not {model.name_or_path}")
    first, *others = folders
    wrapped = get_peft_model(model, dataclasses.replace(configs[first], modules_to_save=None), adapter_name=first)
    for name in others:
        wrapped.add_adapter(name, dataclasses.replace(configs[name], modules_to_save=None))
    for name, folder in folders.items():
        weights = {key: value for key, value in load_peft_weights(str(folder)).items() if ".bottleneck_" in key}
        try:
            answer: Any = set_peft_model_state_dict(wrapped, weights, adapter_name=name)
        except RuntimeError as error:
            line = next((one for one in str(error).splitlines() if "size mismatch" in one), str(error))
            raise ModelError(f"{folder}: this adapter is of another backbone: {line.strip()}") from error
        if answer.unexpected_keys:
            raise ModelError(
                f"{folder}: this adapter is of another backbone: no place for {answer.unexpected_keys[0]!r}"
            )
    same = ("placement", "reduction_factor", "activation", "scaling", "init", "rules", "norms", "skip_layers")
    fields = {key: getattr(configs[first], key) for key in same}
    fusion = BottleneckConfig(**fields, fuse=list(folders), modules_to_save=head)
    wrapped.add_adapter("default", fusion)
    wrapped.set_adapter("default")
    for name in folders:
        wrapped.delete_adapter(name)
    return wrapped


def _differ(one: str, other: str) -> bool:
    """Whether two models are known to have other weights: both lie here, or both have a name on the Hub."""
    if not one or not other or one == other:
        return False
    here, there = (Path(name) / "model.safetensors" for name in (one, other))
    if here.is_file() and there.is_file():
        return not filecmp.cmp(here, there, shallow=False)
    return not any(Path(name).is_dir() or Path(name).is_absolute() for name in (one, other))


def _config(folder: Path) -> BottleneckConfig:
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{folder}: no adapter here to fuse: name a run with --peft pfeiffer, houlsby or parallel")
    config = adapter_config(folder)
    if not isinstance(config, BottleneckConfig) or config.fuse:
        method = str(getattr(config.peft_type, "value", config.peft_type)).lower()
        raise ModelError(f"{folder}: fusion mixes bottleneck adapters, this is {method}: train pfeiffer on that task")
    config.inference_mode = False
    return config
