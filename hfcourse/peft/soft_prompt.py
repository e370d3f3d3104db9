"""Prompt tuning (Lester et al., arXiv 2104.08691) and P-tuning v1 (Liu et al., arXiv 2103.10385) for any backbone.

Learned states stand in front of the real tokens from the first layer on, where `inputs_embeds` is not needed: speech
too. They are taken off again behind every layer, so that heads find the same states at the same places. They have no
absolute position; under rotary embeddings they are not rotated (all at position 0), under T5's relative bias they stand
right before the first token. A cross-attention reads only real tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from peft import PeftConfig, PeftType
from torch import Tensor, nn

from hfcourse.errors import ConfigError, ModelError, unknown
from hfcourse.peft.around import SERVED, AroundModel, backbone_of, kind_of, random_words, reads_words, undisturbed
from hfcourse.peft.places import layers_of
from hfcourse.peft.prefixed_attention import check_implementation, goes_through_interface
from hfcourse.peft.register import register
from hfcourse.peft.soft_prompt_layer import SoftPromptLayer, Stack, inputs_of

_ENCODERS = ("none", "mlp", "lstm")
# What layers may be told; something else might depend on the length in a way not known here.
_KNOWN = {"hidden_states", "attention_mask", "position_embeddings", "position_ids", "position_bias", "use_cache"}
_KNOWN |= {"encoder_hidden_states", "encoder_attention_mask", "encoder_decoder_position_bias", "past_key_values"}
_KNOWN |= {"output_attentions", "return_dict", "cache_position"}


@dataclass
class SoftPromptConfig(PeftConfig):  # type: ignore[misc]
    """Settings of soft prompts."""

    num_virtual_tokens: int = field(default=20, metadata={"help": "Learned states in front of every example."})
    encoder: str = field(
        default="none", metadata={"help": "P-tuning's network behind the prompt's embeddings: none, mlp or lstm."}
    )
    encoder_hidden_size: int | None = field(default=None, metadata={"help": "Its width; None takes the backbone's."})
    target_modules: list[str] | str | None = field(
        default=None, metadata={"help": "Names of lists of layers; None takes all of the model."}
    )
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Names of those left out."})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules trained and saved whole beside the prompts: the task's head."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType("SOFT_PROMPT")
        if self.encoder not in _ENCODERS:
            raise ConfigError(unknown("encoder", self.encoder, _ENCODERS))


class SoftPrompt(nn.Module):
    """n embeddings, optionally behind P-tuning's network, -> (n, H).

    Args:
        start: the embeddings (n, H) to begin with.
        encoder: none, mlp or lstm.
        hidden: the network's width.
    """

    def __init__(self, start: Tensor, encoder: str, hidden: int) -> None:
        super().__init__()
        width = start.shape[1]
        self.embeddings = nn.Parameter(start.clone())
        self.lstm = nn.LSTM(width, hidden, 2, bidirectional=True) if encoder == "lstm" else None
        inner = 2 * hidden if encoder == "lstm" else width
        mlp = nn.Sequential(nn.Linear(inner, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.mlp = None if encoder == "none" else mlp

    def forward(self) -> Tensor:
        """The prompt as the first layer meets it."""
        states: Tensor = self.embeddings
        if self.lstm is not None:
            states, _ = self.lstm(states)
        return states if self.mlp is None else self.mlp(states)  # type: ignore[no-any-return]


class SoftPromptModel(AroundModel):
    """A model whose stacks of layers have soft prompts.

    Raises:
        ModelError: layers that are told of lengths in a way not known here (DeBERTa, WavLM), or attention not by sdpa
            or eager; nothing was changed.
    """

    prefix = "soft_prompt_"
    tuner_layer_cls = SoftPromptLayer

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        if peft_config.num_virtual_tokens < 1:
            raise ModelError(f"num_virtual_tokens is {peft_config.num_virtual_tokens}: soft prompts need at least 1")
        places = layers_of(self.model)
        stacks = list(dict.fromkeys(place.name.rpartition(".")[0] for place in places))
        if peft_config.target_modules is None:
            peft_config.target_modules = stacks
        names = [name for name, _ in self.model.named_modules() if name]
        for name in filter(lambda name: self._check_target_module_exists(peft_config, name), names):
            if name not in stacks:
                raise ModelError(f"target_modules: {name} is no list of layers, like {stacks[0]}")
            attentions = [place.key.rpartition(".")[0] for place in places if place.name.startswith(f"{name}.")]
            self._check(name, attentions)
        return peft_config

    def _check(self, stack: str, attentions: list[str]) -> None:
        layer: Any = _layers(self.model.get_submodule(stack))[0]
        told = inputs_of(layer.get_base_layer() if isinstance(layer, SoftPromptLayer) else layer)
        reached = all(goes_through_interface(self.model.get_submodule(name)) for name in attentions)
        if not reached or set(told) - _KNOWN or told[0] != "hidden_states":
            raise ModelError(
                f"soft prompts cannot stand in the layers of {kind_of(self.model)}: they work for {SERVED}"
            )
        check_implementation(backbone_of(self.model, stack).config)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        layers = cast(nn.ModuleList, target)
        backbone = backbone_of(self.model, current_key)
        start = _start(backbone, layers[0], peft_config)
        if not isinstance(layers[0], SoftPromptLayer):
            for place, layer in enumerate(layers):
                layers[place] = SoftPromptLayer(layer)
            stack = Stack(parent, backbone, cast(SoftPromptLayer, layers[0]))
            for layer in _layers(layers):
                cast(SoftPromptLayer, layer).stack = stack
        first = cast(SoftPromptLayer, layers[0])
        hidden = peft_config.encoder_hidden_size or start.shape[1]
        first.soft_prompt_encoder[adapter_name] = SoftPrompt(start, peft_config.encoder, hidden).to(start.device)


def _layers(stack: nn.Module) -> list[nn.Module]:
    return list(stack.children())


class _Caught(Exception):
    """Carries the first layer's input out of a forward that need not go on."""


def _start(backbone: Any, first: nn.Module, config: SoftPromptConfig) -> Tensor:
    """(n, H): random words as they enter the layers (the paper's better start); speech starts near zero."""
    count = config.num_virtual_tokens
    if not reads_words(backbone) or config.inference_mode:
        return torch.empty(count, backbone.config.hidden_size, device=backbone.device).normal_(std=0.02)

    def catch(module: nn.Module, args: tuple[Any, ...]) -> None:
        raise _Caught(args[0][0])

    hook = first.register_forward_pre_hook(catch)
    try:
        with undisturbed(backbone):
            backbone(input_ids=random_words(backbone, count))
    except _Caught as caught:
        return cast(Tensor, caught.args[0])
    finally:
        hook.remove()
    raise AssertionError("a backbone calls its first layer")


register("soft_prompt", SoftPromptConfig, SoftPromptModel)
