"""A backbone with shared heads: for whatever transformers has no class of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from hfcourse.backbones.load import from_scratch, keep_layers
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.features import mask_of
from hfcourse.backbones.speech.rate import state_counts
from hfcourse.backbones.speech.spec_augment import channels_silent
from hfcourse.errors import ModelError
from hfcourse.heads.base import Head, LayerMix, States
from hfcourse.heads.exits import ExitsHead
from hfcourse.heads.frame import FrameHead, ReplacedTokensHead, SpanHead
from hfcourse.heads.masked_lm import MaskedLMHead
from hfcourse.heads.sequence import MultipleChoiceHead, PairHead, SequenceHead
from hfcourse.heads.spec import HeadSpec

_HEADS: dict[str, Callable[[HeadSpec, int, float], Head]] = {
    "sequence": SequenceHead,
    "multiple_choice": MultipleChoiceHead,
    "pair": PairHead,
    "frame": FrameHead,
    "span": SpanHead,
    "replaced_tokens": ReplacedTokensHead,
}


class HeadedConfig(PreTrainedConfig):  # type: ignore[misc]
    """The backbone's config and the heads' specs."""

    model_type = "hfcourse_headed"
    has_no_defaults_at_init = True

    def __init__(
        self, backbone: dict[str, Any] | None = None, heads: list[dict[str, Any]] | None = None, **kwargs: Any
    ):
        self.backbone = backbone or {}
        self.heads = heads or []
        super().__init__(**kwargs)

    @property
    def backbone_config(self) -> PreTrainedConfig:
        """The backbone's own config object."""
        return AutoConfig.for_model(**self.backbone)

    @property
    def specs(self) -> tuple[HeadSpec, ...]:
        """What each head was built from."""
        return tuple(HeadSpec(**{**head, "labels": tuple(head.get("labels", ()))}) for head in self.heads)


@dataclass
class HeadedOutput(ModelOutput):  # type: ignore[misc]
    """Like the native classes' outputs; with several heads `logits` and `losses` go by the heads' names."""

    loss: Tensor | None = None
    logits: Any = None
    losses: dict[str, Tensor] | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None


class HeadedModel(PreTrainedModel):  # type: ignore[misc]
    """A backbone, optionally a learned mix of its layers, and heads by name (their kind, where they have none).

    `forward` takes what the backbone takes and the heads' labels; it knows no task.
    """

    config_class = HeadedConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: HeadedConfig, settings: BackboneConfig | None = None) -> None:
        super().__init__(config)
        inner = config.backbone_config
        specs = config.specs
        self.reads_all_layers = any(spec.layers != "last" for spec in specs)
        if self.reads_all_layers:
            keep_layers(inner)
        self.backbone = from_scratch(inner, settings or BackboneConfig())
        self.layer_mix = LayerMix(inner.num_hidden_layers + 1) if any(s.layers == "mix" for s in specs) else None
        self.heads = nn.ModuleDict({spec.key: self._make_head(spec, inner) for spec in specs})
        self._inputs = set(inspect.signature(self.backbone.forward).parameters)
        self.post_init()

    def _make_head(self, spec: HeadSpec, inner: PreTrainedConfig) -> Head:
        if spec.kind == "masked_lm":
            table: Any = self.backbone.get_input_embeddings()
            vocabulary, embedding = table.weight.shape
            return MaskedLMHead(spec, inner.hidden_size, embedding, vocabulary)
        names = ("hidden_dropout_prob", "hidden_dropout", "classifier_dropout")
        dropout = next((found for name in names if (found := getattr(inner, name, None)) is not None), 0.1)
        if spec.layers == "exits":
            return ExitsHead(spec, inner.hidden_size, dropout, inner.num_hidden_layers)
        if spec.kind not in _HEADS:
            raise ModelError(f"a {inner.model_type} net has no {spec.kind} head in transformers: take one that has")
        return _HEADS[spec.kind](spec, inner.hidden_size, dropout)

    def _init_weights(self, module: nn.Module) -> None:
        """Heads are initialised like the backbone; a mix of layers starts with equal weights."""
        if isinstance(module, LayerMix):
            nn.init.zeros_(module.scalars)
        elif isinstance(module, MaskedLMHead):
            nn.init.zeros_(module.bias)
        elif hasattr(self, "backbone") and hasattr(self.backbone, "_init_weights"):
            try:
                self.backbone._init_weights(module)
            except AttributeError:  # an initialiser that reads attributes only its own modules have
                super()._init_weights(module)
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's token embedding."""
        return self.backbone.get_input_embeddings()  # type: ignore[no-any-return]

    def keep_only(self, head: HeadSpec) -> None:
        """Leave every other head behind."""
        for name in set(self.heads) - {head.key}:
            del self.heads[name]
        self.config.heads = [dataclasses.asdict(head)]

    def inputs_of(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What of a batch the backbone takes."""
        names = self._inputs | {"inputs_embeds"}  # states that are known already
        return {key: value for key, value in batch.items() if key in names and "label" not in key}

    def encode(self, batch: dict[str, Tensor]) -> States:
        """Run the backbone. Tokens may be (B, T) or (B, choices, T); sound is (B, samples); labels are passed over."""
        inputs = self.inputs_of(batch)
        if "input_ids" in inputs and inputs["input_ids"].dim() == 3:
            inputs = {key: value.flatten(0, 1) for key, value in inputs.items()}
        hears = "input_values" in inputs or "input_features" in inputs
        if self.training and hears and self._too_short_to_mask(inputs):
            inputs["mask_time_indices"] = torch.zeros(self._states_of(inputs), dtype=torch.bool, device=self.device)
        masks = batch.get("mask_feature_indices") if "mask_feature_indices" not in inputs else None
        with contextlib.nullcontext() if masks is None else channels_silent(self.backbone, masks):
            output = self.backbone(**inputs, output_hidden_states=self.reads_all_layers)
        means = getattr(output, "means", None) is True  # known states: one for each row, the mean of all
        states = output.last_hidden_state
        if self.layer_mix is not None:
            states = self.layer_mix(output.hidden_states, normalised=means)
        if means:
            return States(states=states)
        if "sample_counts" in batch:
            return self._heard(states, output, batch["sample_counts"])
        mask = inputs.get("attention_mask")
        projects = any(spec.kind == "masked_lm" for spec in self.config.specs)
        embedding: Any = self.get_input_embeddings().weight if projects else None
        return States(
            states=states,
            layers=output.hidden_states if self.reads_all_layers else None,
            mask=None if mask is None else mask.bool(),
            embedding=embedding,
        )

    def _states_of(self, inputs: dict[str, Tensor]) -> tuple[int, int]:
        """Rows and states of a batch of samples, or of features (B, S, channels)."""
        if "input_features" in inputs:
            return inputs["input_features"].shape[0], inputs["input_features"].shape[1]
        rows, samples = inputs["input_values"].shape
        return rows, int(state_counts(self.config.backbone_config, torch.tensor(samples)))

    def _too_short_to_mask(self, inputs: dict[str, Tensor]) -> bool:
        """Whether transformers would draw masks of its own, as the checkpoint's config says, that do not fit."""
        config = self.config.backbone_config
        draws = "mask_time_indices" in self._inputs and getattr(config, "mask_time_prob", 0) > 0
        if not draws or inputs.get("mask_time_indices") is not None or not hasattr(config, "mask_time_length"):
            return False
        return self._states_of(inputs)[1] <= int(config.mask_time_length)

    def _heard(self, states: Tensor, output: Any, sample_counts: Tensor) -> States:
        """States of sound, without those of padding alone (Whisper has 30 s), and which of the rest are real."""
        counts = state_counts(self.config.backbone_config, sample_counts)
        width = int(counts.max())
        layers = tuple(layer[:, :width] for layer in output.hidden_states) if self.reads_all_layers else None
        mask = mask_of(counts, width) if int(counts.min()) < width else None
        return States(states=states[:, :width], layers=layers, mask=mask)

    def forward(self, *, head: str = "", **batch: Tensor) -> HeadedOutput:
        """Answer with every head, or with the one named; `loss` is the sum over the heads that found labels."""
        states = self.encode(batch)
        heads: dict[str, Any] = {head: self.heads[head]} if head else dict(self.heads.items())
        outputs = {name: one(states, batch) for name, one in heads.items()}
        losses = {name: output.loss for name, output in outputs.items() if output.loss is not None}
        logits: Any = {name: output.logits for name, output in outputs.items()}
        loss = sum(losses.values()) if losses else None
        if len(outputs) > 1:
            return HeadedOutput(loss=loss, logits=logits, losses=losses)
        (name,) = outputs
        if heads[name].spec.kind == "span":
            start, end = logits[name].unbind(dim=-1)
            return HeadedOutput(loss=loss, start_logits=start, end_logits=end)
        return HeadedOutput(loss=loss, logits=logits[name], losses=losses)


def headed_config(inner: PreTrainedConfig, heads: tuple[HeadSpec, ...]) -> HeadedConfig:
    """The config of `heads` over a backbone.

    Raises:
        ModelError: two heads of one name, or a name that no module can have.
    """
    names = [head.key for head in heads]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"two heads are called {name!r}: give each a name of its own")
        if "." in name or hasattr(nn.ModuleDict, name):
            raise ModelError(f"a head cannot be called {name!r}: choose another name")
    return HeadedConfig(backbone=inner.to_dict(), heads=[dataclasses.asdict(head) for head in heads])


AutoConfig.register(HeadedConfig.model_type, HeadedConfig)
AutoModel.register(HeadedConfig, HeadedModel)
