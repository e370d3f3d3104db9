"""A language model with its tokenizer, from whatever a user calls it by."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from hfcourse import model as models
from hfcourse.backbones.load import load_config, locate
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.data import tokenizers
from hfcourse.errors import ModelError
from hfcourse.headed_model import HeadedConfig
from hfcourse.peft.wrap import is_adapter
from hfcourse.weights import from_pretrained

PRESETS = models.PRESETS
_MASKED = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING
_CAUSAL = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
_SEQ2SEQ = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING


def load(
    name: str, *, tokenizer: str = "", revision: str = "main", seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal, seq2seq or masked language model, on the accelerator where there is one.

    Args:
        name: a run folder (also of an adapter), a saved model, a Hub id, or a preset (fresh weights: what chance is).
        tokenizer: another than the model's own; a preset needs one.
        revision: of a Hub model.
        seed: decides fresh weights.
        dtype: of the weights.

    Raises:
        ModelError: no such model or tokenizer; a model that predicts no words.
    """
    settings = BackboneConfig(revision=revision)
    words = tokenizers.load(tokenizer or name, settings)
    is_whole = name in PRESETS or not is_adapter(locate(name))
    model: Any = _whole(name, settings, words, seed) if is_whole else models.load(name)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return _in_precision(model.to(device), dtype).eval(), words


def _in_precision(model: Any, dtype: torch.dtype) -> Any:
    """The same model with weights of another type, as if it had been loaded so.

    The angles of rotary positions stay as they are: in 16 bits the 1,000th token's are wrong by more than a radian.
    """
    angles = [(name, one) for name, one in model.named_buffers(remove_duplicate=False) if name.endswith("inv_freq")]
    model.to(dtype)
    for name, exact in angles:
        module, _, own = name.rpartition(".")
        setattr(model.get_submodule(module), own, exact)
    return model


def _whole(name: str, settings: BackboneConfig, words: PreTrainedTokenizerBase, seed: int) -> Any:
    """A model that is no adapter."""
    config = load_config(name, settings, words)
    if isinstance(config, HeadedConfig) and any(head.kind == "masked_lm" for head in config.specs):
        return models.load(name)  # it was pretrained with other heads besides
    model_class = language_model_class(config, name)
    if name in PRESETS:
        torch.manual_seed(seed)
        return model_class._from_config(config)
    return from_pretrained(model_class, name, config, settings, need_trained_head=True)


def language_model_class(config: PreTrainedConfig, name: str) -> type[PreTrainedModel]:
    """The transformers class that predicts words with this architecture.

    Of one that exists both ways (BERT can be run from left to right) it is the one that was saved, else masked.
    """
    if isinstance(config, HeadedConfig):
        raise ModelError(f"{name}: its heads predict no words: take the model that was pretrained")
    saved = (config.architectures or [""])[0]
    if saved.endswith(("LMHeadModel", "ForCausalLM")) and type(config) in _CAUSAL:
        return getattr(transformers, saved, None) or _CAUSAL[type(config)]  # type: ignore[no-any-return,return-value]
    order = (_SEQ2SEQ,) if config.is_encoder_decoder else (_MASKED, _CAUSAL)
    found = next((mapping[type(config)] for mapping in order if type(config) in mapping), None)
    if found is None:
        raise ModelError(f"{name}: a {config.model_type} predicts no words: take a language model")
    return found  # type: ignore[return-value]
