"""Reading weights: the backbone must be whole, the head may be new."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from hfcourse.backbones.load import locate
from hfcourse.backbones.parts import head_children
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.rate import is_speech
from hfcourse.errors import ModelError
from hfcourse.headed_model import HeadedConfig, HeadedModel

M = TypeVar("M", bound=PreTrainedModel)


def backbone_of(name: str) -> PreTrainedModel:
    """The backbone of a saved HeadedModel, without its heads."""
    with quiet():
        return HeadedModel.from_pretrained(locate(name)).backbone


def bare_backbone(name: str, saved: PreTrainedConfig, settings: BackboneConfig) -> PreTrainedModel:
    """The pretrained backbone that `name` stands for, without any head.

    Args:
        name: a folder or a Hub id.
        saved: its config.
        settings: revision and cache of a Hub id.
    """
    if isinstance(saved, HeadedConfig):
        return as_it_runs_here(backbone_of(name), saved.backbone_config)
    return as_it_runs_here(from_pretrained(AutoModel, name, saved, settings, need_trained_head=False), saved)


def as_it_runs_here(model: M, backbone: PreTrainedConfig) -> M:
    """The same model with the values of transformers' own, computed faster (WavLM) and deaf to padding (sound).

    Of SEW every layer is given at the rate of the last.
    """
    if backbone.model_type == "wavlm":
        from hfcourse.backbones.speech.wavlm import fuse_attention

        fuse_attention(model)
    if is_speech(backbone):
        from hfcourse.backbones.speech.row_norm import listen_by_row

        listen_by_row(model)
    if getattr(backbone, "squeeze_factor", 1) > 1:
        from hfcourse.backbones.speech.squeezed import repeat_layers

        repeat_layers(model)
    return model


def copy_backbone(source: PreTrainedModel, model: PreTrainedModel, name: str) -> None:
    """Give `model`'s backbone the weights of another instance of it, bare or with a head."""
    target: Any = getattr(model, model.base_model_prefix)
    inner: Any = source.base_model
    if type(target) is not type(inner) and type(target) is type(getattr(inner, "encoder", None)):
        inner = inner.encoder  # Whisper's, whose decoder no head reads
    result = target.load_state_dict(inner.state_dict(), strict=False)
    missing = [key for key in result.missing_keys if "pooler" not in key]
    if missing:
        raise ModelError(f"{name}: the checkpoint lacks {len(missing)} weights of the backbone, such as {missing[0]!r}")


def from_pretrained(
    model_class: Any,
    name: str,
    config: PreTrainedConfig,
    settings: BackboneConfig,
    need_trained_head: bool,
    **arguments: Any,
) -> PreTrainedModel:
    """Load weights; the head may be new, the backbone must be whole."""
    place = locate(name)
    if settings.revision != "main" or settings.cache_dir:
        arguments |= {"revision": settings.revision, "cache_dir": settings.cache_dir}
    try:
        with quiet():
            model, info = model_class.from_pretrained(
                place,
                config=config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **arguments,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name}: cannot load the weights: {str(error).strip().splitlines()[0]}") from error
    new = set(info["missing_keys"]) | {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    prefix = f"{model.base_model_prefix}."
    # A bare backbone (AutoModel) is all backbone; a pooler is new wherever pretraining had no pair task.
    heads = tuple(f"{child}." for child in head_children(model))
    inside = {key for key in new if key.startswith(prefix) or (model.base_model is model and not key.startswith(heads))}
    broken = sorted(key for key in inside if "pooler" not in key)
    if broken:
        raise ModelError(
            f"{name}: {len(broken)} backbone weights are missing or of another shape, such as {broken[0]!r}: "
            "this is a checkpoint of another architecture, or a damaged one"
        )
    if need_trained_head and new:
        raise ModelError(f"{name}: its head is not the task's ({sorted(new)[0]!r} is new): train it first")
    return model  # type: ignore[no-any-return]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' reports and bars on weights off the screen: what matters in them becomes an error here."""
    logger = logging.getLogger("transformers")
    level = logger.level
    bars = transformers.utils.logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
