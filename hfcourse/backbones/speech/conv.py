"""Strided convolutions on samples, and what adds context to their states: CPC, wav2vec, vq-wav2vec.

CPC (arXiv 1807.03748) adds context with a GRU, wav2vec (1904.05862) with causal convolutions, vq-wav2vec (1910.05453)
puts a codebook between the two. No state hears a sample behind its own stretch. Shapes: rows B, samples T, states S,
width H.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from hfcourse.backbones.speech.features import counts_of, mask_of
from hfcourse.backbones.speech.frames import GRULayers
from hfcourse.backbones.speech.quantizer import GumbelQuantizer, KMeansQuantizer
from hfcourse.backbones.speech.rate import in_windows
from hfcourse.errors import ConfigError

_EPSILON = 1e-5
"""Added to variances."""
_QUANTIZERS = {"gumbel": GumbelQuantizer, "kmeans": KMeansQuantizer}


class ConvConfig(PreTrainedConfig):  # type: ignore[misc]
    """Convolutions on samples, a codebook or none, and layers of context."""

    model_type = "hfcourse_conv"
    has_no_defaults_at_init = False

    def __init__(
        self,
        sample_rate: int = 16_000,
        conv_kernel: Sequence[int] = (10, 8, 4, 4, 4),
        conv_stride: Sequence[int] = (5, 4, 2, 2, 2),
        conv_dim: Sequence[int] = (512, 512, 512, 512, 512),
        norm: str = "past",
        log_compression: bool = False,
        activation: str = "relu",
        quantizer: str = "none",
        groups: int = 2,
        codes: int = 320,
        quantizer_depth: int = 1,
        context: str = "gru",
        num_hidden_layers: int = 1,
        context_kernel: Sequence[int] = (),
        hidden_dropout_prob: float = 0.0,
        **kwargs: Any,
    ):
        """Settings.

        Args:
            sample_rate: of the sound that it hears.
            conv_kernel: width of each convolution.
            conv_stride: step of each convolution.
            conv_dim: channels of each convolution; the last ones' are the width of all states.
            norm: what a convolution's output is normalised over, all channels together: the past of each state, or the
                whole utterance (as in the published wav2vec, whose states thereby hear a little of what comes); last
                is past behind the last convolution alone, which takes half the time. A norm over each state alone
                would hide how loud it is, and that is what can be foretold first of all.
            log_compression: states are log(1 + |z|), as in the published wav2vec.
            activation: relu, or gelu as in the published vq-wav2vec.
            quantizer: none, gumbel or kmeans, between convolutions and context.
            groups: codebooks, each for its part of the channels.
            codes: entries of each codebook.
            quantizer_depth: linear layers that choose an entry (gumbel).
            context: gru, conv (causal convolutions) or none.
            num_hidden_layers: layers of a GRU.
            context_kernel: width of each causal convolution.
            hidden_dropout_prob: behind each convolution and between GRU layers.
            kwargs: what every config takes.
        """
        self.sample_rate, self.norm, self.log_compression = sample_rate, norm, log_compression
        self.activation, self.quantizer_depth = activation, quantizer_depth
        self.conv_kernel, self.conv_stride, self.conv_dim = list(conv_kernel), list(conv_stride), list(conv_dim)
        self.hidden_size = self.conv_dim[-1]
        self.quantizer, self.groups, self.codes = quantizer, groups, codes
        self.context, self.context_kernel = context, list(context_kernel)
        layers = {"none": 0, "conv": len(self.context_kernel)}
        self.num_hidden_layers = layers.get(context, num_hidden_layers)
        self.hidden_dropout_prob = hidden_dropout_prob
        super().__init__(**kwargs)

    @property
    def units(self) -> int:
        """How many different states the codebooks can make."""
        return 0 if self.quantizer == "none" else int(self.codes**self.groups)


@dataclass
class ConvOutput(BaseModelOutput):  # type: ignore[misc]
    """What context is made of, beside the states with context."""

    latents: Tensor | None = None
    """States without context, (B, S, H); entries of the codebook where there is one."""
    perplexity: Tensor | None = None
    """Of the use of the codebooks, summed over groups."""
    codes_loss: Tensor | None = None
    """What moves the entries of a k-means codebook."""


class ConvModel(PreTrainedModel):  # type: ignore[misc]
    """Samples -> states without context -> entries -> states with context.

    The layers are the states without context (before the codebook) and those of every layer of context.
    """

    config_class = ConvConfig
    base_model_prefix = ""
    main_input_name = "input_values"

    def __init__(self, config: ConvConfig) -> None:
        super().__init__(config)
        hidden, groups, codes = config.hidden_size, config.groups, config.codes
        if config.quantizer != "none" and hidden % groups:
            raise ConfigError(f"{groups} codebooks do not share a width of {hidden}: choose a divisor")
        self.front = nn.ModuleList(_front(config))
        self.quantizer: Any = None
        if config.quantizer != "none":
            depth = {"depth": config.quantizer_depth} if config.quantizer == "gumbel" else {}
            self.quantizer = _QUANTIZERS[config.quantizer](hidden, groups=groups, codes=codes, **depth)
        if config.quantizer == "gumbel":
            # Choices that differ from the first step on, as in the paper's own code, between entries far apart.
            if config.quantizer_depth == 1:
                nn.init.normal_(self.quantizer.logits.weight)
                nn.init.zeros_(self.quantizer.logits.bias)
            nn.init.uniform_(self.quantizer.codebook, -1, 1)
        self.context: Any = None
        if config.context == "gru":
            self.context = GRULayers(hidden, config.num_hidden_layers, config.hidden_dropout_prob)
        elif config.context == "conv":
            self.context = ConvLayers(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Every part has torch's start, or its own."""

    def get_input_embeddings(self) -> nn.Module:
        """What turns input into the lowest states."""
        return self.front[0]

    def latents(self, input_values: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """States without context (B, S, H), and which of them are no padding, (B, S) (None: all).

        Args:
            input_values: samples (B, T).
            attention_mask: (B, T), 1 at samples that are no padding.
        """
        states = input_values[..., None]
        counts = None if attention_mask is None else attention_mask.sum(dim=1).long()
        for block in self.front:
            states, counts = block(states, counts)
        if self.config.log_compression:
            states = states.abs().add(1).log()
        counts = counts_of(self.config, attention_mask)
        return states, None if counts is None else mask_of(counts, states.shape[1])

    @torch.no_grad()
    def units(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The entries of each state as one number below `config.units`, int64 (B, S)."""
        states, _ = self.latents(input_values, attention_mask)
        places = self.config.codes ** torch.arange(self.config.groups, device=states.device)
        numbers: Tensor = (self.quantizer.indices(states) * places).sum(dim=-1)
        return numbers

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> ConvOutput:
        """States (B, S, H).

        Args:
            input_values: samples (B, T).
            attention_mask: (B, T), 1 at samples that are no padding.
            output_hidden_states: also the states without context and every layer's.
            kwargs: passed over.
        """
        states, inside = self.latents(input_values, attention_mask)
        heard, perplexity, codes_loss = states, None, None
        last: Any
        layers: list[Any]
        if self.config.quantizer == "gumbel":
            heard, perplexity = self.quantizer(states, inside)
        elif self.config.quantizer == "kmeans":
            heard, perplexity, codes_loss = self.quantizer(states, inside)
        last, layers = heard, [states]
        if self.context is not None:
            output = self.context(heard, inside, output_hidden_states=bool(output_hidden_states))
            last, layers = output.last_hidden_state, [states, *(output.hidden_states or ())[1:]]
        return ConvOutput(
            last_hidden_state=last,
            hidden_states=tuple(layers) if output_hidden_states else None,
            latents=heard,
            perplexity=perplexity,
            codes_loss=codes_loss,
        )


class ConvBlock(nn.Module):
    """Convolution, dropout, norm, ReLU (or GELU) on (B, T, C): channels stay last, where the norm reads them."""

    def __init__(
        self, config: ConvConfig, inputs: int, outputs: int, kernel: int, stride: int, norm: str, bias: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, bias=bias)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.activation: nn.Module = nn.GELU() if config.activation == "gelu" else nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight)  # what has no norm must not fade either
        self.norm = None if norm == "none" else Norm(outputs, norm)

    def forward(self, states: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`counts` (B,), of the input and of the output, tell what of each row is no padding; None for all."""
        if counts is not None:
            (kernel,), (stride,) = self.conv.kernel_size, self.conv.stride
            counts = (counts - kernel).div(stride, rounding_mode="floor") + 1
        states = self.dropout(self._convolved(states))
        if self.norm is not None:
            states = self.norm(states, counts)
        return self.activation(states), counts

    def _convolved(self, states: Tensor) -> Tensor:
        """As `self.conv` does it, (B, T', outputs) from (B, T, inputs)."""
        (kernel,), (stride,) = self.conv.kernel_size, self.conv.stride
        # What lies behind the last window is not heard, and brings nan on CPU (engine/whole_windows.py).
        states = states[:, : in_windows(states.shape[1], kernel, stride)]
        image = states.transpose(1, 2)[:, :, None]  # an image of one line, its channels last
        found = F.conv2d(image, self.conv.weight[:, :, None], self.conv.bias, stride=(1, stride))
        return found[:, :, 0].transpose(1, 2)


class Norm(nn.Module):
    """All channels of a stretch of states (B, T, C) together get mean 0 and variance 1, then each its own scale."""

    def __init__(self, channels: int, over: str) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.over = over_utterance if over == "utterance" else over_past

    def forward(self, states: Tensor, counts: Tensor | None) -> Tensor:
        """`counts` (B,): what of each row is no padding; None for all."""
        return torch.addcmul(self.bias, self.over(states, counts), self.weight).to(states.dtype)


def over_past(states: Tensor, counts: Tensor | None) -> Tensor:
    """States (B, T, C) less the mean of all that came up to each, over their deviation: what comes changes nothing."""
    number = torch.arange(1, states.shape[1] + 1, device=states.device)
    mean = states.mean(dim=-1, dtype=torch.float32).cumsum(dim=1) / number
    square = states.float().square().mean(dim=-1).cumsum(dim=1) / number
    scale = ((square - mean.square()).clamp(min=0) + _EPSILON).rsqrt()
    return (states - mean[..., None]) * scale[..., None]


def over_utterance(states: Tensor, counts: Tensor | None) -> Tensor:
    """States (B, T, C) less their mean, over their deviation; what `counts` (B,) calls padding takes no part."""
    values = states.float()
    if counts is None:
        counts = torch.full((len(states),), states.shape[1], device=states.device)
    inside = mask_of(counts, states.shape[1])[..., None]
    number = (counts * states.shape[2]).clamp(min=1)[:, None, None]
    centred = values - (values * inside).sum(dim=(1, 2), keepdim=True) / number
    variance = (centred.square() * inside).sum(dim=(1, 2), keepdim=True) / number
    return centred * (variance + _EPSILON).rsqrt()


def _front(config: ConvConfig) -> list[ConvBlock]:
    inputs = [1, *config.conv_dim[:-1]]
    shapes = zip(inputs, config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    norms = [*["none"] * (len(inputs) - 1), "past"] if config.norm == "last" else [config.norm] * len(inputs)
    return [ConvBlock(config, *shape, norm=norm) for shape, norm in zip(shapes, norms, strict=True)]


class ConvLayers(nn.Module):
    """Convolutions that look back alone, each added to its input (wav2vec's aggregator)."""

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        hidden, self.kernels = config.hidden_size, config.context_kernel
        norm = "past" if config.norm == "last" else config.norm
        self.layers = nn.ModuleList(
            ConvBlock(config, hidden, hidden, kernel, 1, norm=norm, bias=True) for kernel in config.context_kernel
        )

    def forward(
        self, states: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = False
    ) -> BaseModelOutput:
        """States (B, S, H) from (B, S, H); `attention_mask` (B, S) tells those that are no padding."""
        counts = None if attention_mask is None else attention_mask.sum(dim=1)
        every: list[Any] = [states]
        found: Any = states
        for layer, kernel in zip(self.layers, self.kernels, strict=True):
            before = kernel - 1
            # What lies before the first state is taken for the same.
            padded = torch.cat([found[:, :1].expand(-1, before, -1), found], dim=1)
            added, _ = layer(padded, None if counts is None else counts + before)
            found = (found + added) * math.sqrt(0.5)
            every.append(found)
        return BaseModelOutput(last_hidden_state=found, hidden_states=tuple(every) if output_hidden_states else None)
