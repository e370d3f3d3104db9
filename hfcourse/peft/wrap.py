"""A model with its head -> a `PeftModel` of it, and back from disk."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from hfcourse.backbones.parts import fingerprint, head_children
from hfcourse.errors import ModelError
from hfcourse.peft import adalora
from hfcourse.peft.methods import generates, method_config
from hfcourse.peft.saved import ADAPTER_CONFIG, adapter_config
from hfcourse.peft.tuner import unwrap_heads
from hfcourse.peft_settings import PeftSettings

WRAPPED = "base_model.model."
"""What a `PeftModel` puts before the names of the model's parameters."""
BACKBONE = "backbone"
"""Folder beside an adapter whose backbone lies nowhere else."""
TRAINED_ON = "trained_on.json"
"""File beside an adapter: the fingerprint of the backbone that it was trained on."""


def wrap(model: PreTrainedModel, settings: PeftSettings, revision: str = "main") -> Any:
    """`model` with the method's parameters and the head trained, and nothing else; `model` itself where all is.

    `revision` of a backbone from the Hub is kept with the adapter.

    Raises:
        ConfigError: targets that match no module. ModelError: a backbone that the method cannot take.
    """
    if settings.method == "full":
        return model
    head = head_modules(model)
    if generates(model) and settings.method != "linear":  # its output matrix is as pretrained as its backbone
        head = [name for name in head if model.get_submodule(name) is not model.get_output_embeddings()]
    model.__dict__["fingerprint"] = fingerprint(model)
    if not model.name_or_path:  # its weights lie nowhere: they are saved beside the adapter
        model.__dict__["unwrapped_copy"] = copy.deepcopy(model)
    with quiet_peft():
        if settings.method == "fusion":
            from hfcourse.peft.fusion import fuse

            wrapped: Any = fuse(model, settings.fuse, head)
        else:
            wrapped = get_peft_model(model, method_config(model, settings, head))
        if revision != "main":
            wrapped.peft_config["default"].revision = revision
        return wrapped


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a `PeftModel`; any other model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[no-any-return]


def head_modules(model: PreTrainedModel) -> list[str]:
    """Names of the modules that make up the task's head: trained and saved whole, whatever the method.

    That is all outside the backbone, and the pooler inside it, which pretraining may not have made. What is tied to
    the backbone (a decoder of words) stays tied and frozen: a trained copy of it would be one of the embedding too.
    """
    outside = head_children(model)
    shared = {id(p) for name, child in model.named_children() if name not in outside for p in child.parameters()}
    names = [name for child in outside for name in _own(child, model.get_submodule(child), shared)]
    if getattr(model.base_model, "pooler", None) is not None and model.base_model is not model:
        names.append(f"{model.base_model_prefix}.pooler")
    return names


def load_adapter(model: PreTrainedModel, folder: str | Path) -> Any:
    """`model`, made like the one that was trained, with the adapter and the head saved in `folder`.

    Raises:
        ModelError: it is an adapter for another backbone, or damaged.
    """
    model.__dict__["fingerprint"] = found = fingerprint(model)
    if found and _trained_on(Path(folder)) not in {"", found}:
        raise ModelError(
            f"{folder}: this adapter was trained on other weights than its backbone has now: put the old ones back, or "
            "train it again"
        )
    model.__dict__["constant"] = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    if (Path(folder) / BACKBONE).is_dir():
        model.__dict__["backbone_folder"] = Path(folder) / BACKBONE
    try:
        with quiet_peft():
            loaded = PeftModel.from_pretrained(model, str(folder))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()
        detail = next((line.strip() for line in reason if "size mismatch" in line), reason[0] if reason else "")
        kind = model.config.model_type
        raise ModelError(
            f"{folder}: this adapter does not fit the {kind} it names as its backbone: {detail}"
        ) from error
    return loaded


def _trained_on(folder: Path) -> str:
    """The fingerprint of the backbone that an adapter was trained on; empty where it tells none."""
    place = folder / TRAINED_ON
    if not place.is_file():
        return ""
    try:
        return str(json.loads(place.read_text())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{place}: damaged: delete it, and the adapter is taken without a look at it") from error


def is_adapter(folder: str) -> bool:
    """Whether a folder holds an adapter instead of a whole model."""
    return (Path(folder) / ADAPTER_CONFIG).is_file()


def adapted_backbone(folder: str) -> tuple[str, str]:
    """The model that a saved adapter belongs to, and its revision.

    Raises:
        ModelError: the adapter names none.
    """
    inside = Path(folder) / BACKBONE
    if inside.is_dir():
        return str(inside), "main"
    config = adapter_config(folder)
    if not config.base_model_name_or_path:
        raise ModelError(f"{folder}: {ADAPTER_CONFIG} names no backbone")
    place = Path(config.base_model_name_or_path)
    if place.is_absolute() and not place.is_dir():
        raise ModelError(
            f"{folder}: the backbone of this adapter is no longer at {place}: put it back, or write its new place into "
            f"base_model_name_or_path of {ADAPTER_CONFIG}"
        )
    return str(place), config.revision or "main"


def merged(model: Any, name: str) -> Any:
    """The adapter's changes inside the weights, which can be trained as before it came.

    Raises:
        ModelError: the method's changes are no change of weights.
    """
    try:
        with quiet_peft():
            unwrap_heads(model)
            whole = model.merge_and_unload()
    except (AttributeError, ModelError, NotImplementedError) as error:
        method = str(model.peft_config["default"].peft_type.value).lower()
        raise ModelError(
            f"{name}: {method} cannot be merged into the weights: name the backbone that it was trained on instead"
        ) from error
    for parameter_name, parameter in whole.named_parameters():
        parameter.requires_grad_(parameter_name not in whole.__dict__["constant"])
    return whole


def save(model: Any, folder: Path) -> None:
    """A model as it is saved: whole, or of a `PeftModel` the adapter, the head and the model's config.

    A backbone that lies nowhere else (fresh weights, or merged ones) is put beside its adapter.
    """
    inner: Any = unwrapped(model)
    if inner is model:
        model.save_pretrained(folder)
        return
    config = copy.deepcopy(inner.config)
    config.architectures = [type(inner).__name__]
    config.__dict__.pop("quantization_config", None)  # how it was trained; it also runs on the backbone as it is
    adalora.settle(model)
    with quiet_peft():
        model.save_pretrained(folder)
        config.save_pretrained(folder)
    if inner.__dict__.get("fingerprint"):
        (folder / TRAINED_ON).write_text(json.dumps({"fingerprint": inner.__dict__["fingerprint"]}))
    if "unwrapped_copy" in inner.__dict__:
        inner.__dict__["unwrapped_copy"].save_pretrained(folder / BACKBONE)
    elif "backbone_folder" in inner.__dict__ and inner.__dict__["backbone_folder"] != folder / BACKBONE:
        shutil.copytree(inner.__dict__["backbone_folder"], folder / BACKBONE, dirs_exist_ok=True)


def _own(name: str, module: nn.Module, shared: set[int]) -> list[str]:
    """`module`, or those of its parts that share no parameter with the backbone."""
    parameters = {id(parameter) for parameter in module.parameters()}
    if not parameters:
        return []
    if not parameters & shared and not isinstance(module, nn.ModuleDict | nn.ModuleList):
        return [name]
    return [part for child, inner in module.named_children() for part in _own(f"{name}.{child}", inner, shared)]


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without peft's advice on what is meant here: the biases of BitFit, a backbone with fresh weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="peft")
        yield
