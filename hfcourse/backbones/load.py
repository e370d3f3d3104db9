"""From a name to a transformers config and a backbone: a preset, a run folder, a local folder or a Hub id."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcourse.backbones.presets import PRESETS, preset_config
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.presets import SPEECH_PRESETS
from hfcourse.errors import ConfigError, ModelError, unknown

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Every name under which a transformers config keeps a dropout probability.
_DROPOUTS = (
    "hidden_dropout_prob",
    "hidden_dropout",
    "attention_probs_dropout_prob",
    "attention_dropout",
    "attn_pdrop",
    "resid_pdrop",
    "embd_pdrop",
    "dropout",
    "dropout_rate",
    "embedding_dropout",
    "mlp_dropout",
    "classifier_dropout",
    "classifier_dropout_prob",
    "seq_classif_dropout",
    "qa_dropout",
    "summary_first_dropout",
    "summary_last_dropout",
    "activation_dropout",
)
# Every name under which it keeps how likely a whole layer is left out in training (LayerDrop, arXiv 1909.11556).
_LAYER_DROPS = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "speech_encoder_layerdrop")


def locate(name: str) -> str:
    """What transformers can load for `name`: a run folder stands for its ``model/``; a Hub id is left as it is.

    Raises:
        ModelError: a path that is not there, or a folder that holds no model.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        for candidate in (folder, folder / "model"):
            if (candidate / "config.json").is_file():
                return str(candidate)
        raise ModelError(
            f"{name}: no config.json in this folder or in its model/: name a saved model or a finished run"
        )
    if folder.is_absolute() or name.startswith((".", "~", "runs/")) or name.count("/") > 1:
        raise ModelError(f"{name}: no such folder: name a preset, a saved model, a finished run or a Hub id")
    return name


def load_config(name: str, settings: BackboneConfig, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedConfig:
    """The architecture that `name` stands for, checked against the tokenizer.

    Raises:
        ModelError: unknown name, or a tokenizer with more entries than the model has embeddings.
    """
    from transformers import AutoConfig

    import hfcourse.backbones.speech.nets  # noqa: F401 - its configs become known by being imported

    if name in PRESETS:
        if tokenizer is None and name not in SPEECH_PRESETS:
            raise ModelError(f"preset {name!r} needs a tokenizer: it has no vocabulary of its own")
        config = preset_config(name, tokenizer)
        if settings.positions and name not in SPEECH_PRESETS:
            config.max_position_embeddings = settings.positions
    else:
        try:
            config = AutoConfig.from_pretrained(locate(name), revision=settings.revision, cache_dir=settings.cache_dir)
        except (OSError, ValueError) as error:
            hint = unknown("model", name, PRESETS)
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"{hint} (neither a folder nor a model the Hub gives: {reason})") from error
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    if tokenizer is not None and vocabulary is not None and len(tokenizer) > vocabulary:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} entries, but model {name!r} embeds only {vocabulary}: "
            "give the tokenizer that the model was trained with"
        )
    if settings.cmvn is not None:
        _set_cmvn(config, settings.cmvn, name)
    if settings.dropout is not None:
        for key in _DROPOUTS:
            if hasattr(config, key):
                setattr(config, key, settings.dropout)
    return config


def _set_cmvn(config: Any, cmvn: bool, name: str) -> None:
    """In the config of a net on filterbanks, or of its backbone.

    Raises:
        ConfigError: a net that reads none.
    """
    values = getattr(config, "backbone", None) or vars(config)
    if "cmvn" not in values:
        raise ConfigError(f"backbone.cmvn is for nets on filterbanks, and {name} reads none: leave it out")
    values["cmvn"] = cmvn


def leaves_out_layers(config: PreTrainedConfig) -> bool:
    """Whether a net leaves out whole layers in training."""
    return any(getattr(config, name, 0) for name in _LAYER_DROPS)


def keep_layers(config: PreTrainedConfig) -> None:
    """Have no layer left out: who reads them all needs them all."""
    for name in _LAYER_DROPS:
        if hasattr(config, name):
            setattr(config, name, 0.0)


def longest_input(config: PreTrainedConfig) -> int:
    """Most tokens the model has positions for; 0 if it knows no bound."""
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 0
    # RoBERTa and its kin start counting positions after the padding index.
    offset = config.pad_token_id + 1 if config.model_type in {"roberta", "xlm-roberta", "camembert"} else 0
    return int(positions) - offset if positions else 0


def attention_arguments(settings: BackboneConfig) -> dict[str, Any]:
    """Keyword arguments that choose the attention kernel; none leave it to transformers.

    Raises:
        ConfigError: FlashAttention 2 where it is not installed, or nothing can run it.
    """
    from transformers.utils.import_utils import is_flash_attn_2_available

    if settings.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise ConfigError(
            "backbone.attention is flash_attention_2, which needs the package flash-attn and a GPU: leave it out"
        )
    return {} if settings.attention == "auto" else {"attn_implementation": settings.attention}


def bare_arguments(model_class: Any) -> dict[str, Any]:
    """Leave out a pooler that no shared head reads (its weights would be trained by nothing)."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(model_class).parameters else {}


def from_scratch(config: PreTrainedConfig, settings: BackboneConfig) -> PreTrainedModel:
    """A bare backbone with fresh weights."""
    from transformers import AutoModel

    model_class: Any = AutoModel._model_mapping[type(config)]
    if isinstance(model_class, tuple):
        model_class = model_class[0]
    if config.model_type == "whisper":  # heads read what is heard, not what a decoder would say
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        model_class = WhisperEncoder
    arguments = attention_arguments(settings) | bare_arguments(model_class)
    return model_class._from_config(config, **arguments)  # type: ignore[no-any-return]
