"""Backbones on log-mel frames: nothing above them (fbank), a Transformer over them, or GRU layers.

Mockingjay (arXiv 1910.12638) and TERA (2007.06028) are bidirectional Transformers over frames, APC (1904.03240,
2005.08392) recurrent or causal ones, BEST-RQ (2202.01855) a bidirectional one. The Transformer is any of
transformers' text stacks, fed with projected frames instead of embedded tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from hfcourse.backbones.speech.features import KaldiMel, LogMel, counts_of, mask_of, stacked
from hfcourse.backbones.speech.spec_augment import masked

_MIXES = {"transformer": "nomic_bert", "causal": "llama", "sinusoidal": "bert"}
"""The stack of each kind: rotary positions or sinusoids, so that no length is too long."""


class FramesConfig(PreTrainedConfig):  # type: ignore[misc]
    """Filterbanks and what stands above them."""

    model_type = "hfcourse_frames"
    has_no_defaults_at_init = False

    def __init__(
        self,
        sample_rate: int = 16_000,
        mels: int = 80,
        window: int = 400,
        hop: int = 160,
        deltas: int = 0,
        cmvn: bool = True,
        kaldi: str = "",
        stack: int = 1,
        layers: str = "none",
        hidden_size: int = 0,
        num_hidden_layers: int = 0,
        num_attention_heads: int = 4,
        intermediate_size: int = 0,
        hidden_dropout_prob: float = 0.1,
        neighbours: int = 0,
        **kwargs: Any,
    ):
        """Settings.

        Args:
            sample_rate: of the sound that it hears.
            mels: channels of the filterbank.
            window: samples of a frame.
            hop: samples from one frame to the next.
            deltas: orders of differences over time put behind the channels.
            cmvn: whether each channel of an utterance is normalised.
            kaldi: povey or hamming for filterbanks as Kaldi makes them, under this window.
            stack: neighbouring frames that make one state.
            layers: none, transformer (bidirectional), causal, gru, or sinusoidal (bidirectional, positions as
                sinusoids: the published Mockingjay and TERA).
            hidden_size: width of a state; of none that of the features.
            num_hidden_layers: layers above the projected features.
            num_attention_heads: of a Transformer.
            intermediate_size: of a Transformer; 0 for 8/3 of the width (its MLP is gated).
            hidden_dropout_prob: between layers.
            neighbours: projected frames that a convolution of each channel adds to the one in their middle; 0 for none.
            kwargs: what every config takes.
        """
        self.sample_rate, self.mels, self.window, self.hop = sample_rate, mels, window, hop
        self.deltas, self.cmvn, self.stack, self.layers = deltas, cmvn, stack, layers
        self.kaldi = kaldi
        self.hidden_size = hidden_size or mels * (1 + deltas) * stack
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.intermediate_size = intermediate_size or 8 * self.hidden_size // 3 // 16 * 16
        self.hidden_dropout_prob, self.neighbours = hidden_dropout_prob, neighbours
        super().__init__(**kwargs)

    @property
    def feature_size(self) -> int:
        """Channels of one stacked frame."""
        return int(self.mels * (1 + self.deltas) * self.stack)

    @property
    def conv_kernel(self) -> list[int]:
        """As convolutions have it: the window, then the stack."""
        return [self.window, self.stack]

    @property
    def conv_stride(self) -> list[int]:
        """As convolutions have it: the hop, then the stack."""
        return [self.hop, self.stack]

    def inner(self) -> PreTrainedConfig:
        """The config of the Transformer above the features."""
        # BERT's tables are of one row each: positions are added before.
        more = {"max_position_embeddings": 1, "type_vocab_size": 1} if self.layers == "sinusoidal" else {}
        return AutoConfig.for_model(
            _MIXES[self.layers],
            **more,
            vocab_size=1,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=0,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            hidden_dropout_prob=self.hidden_dropout_prob,
            attention_probs_dropout_prob=self.hidden_dropout_prob,
            attention_dropout=self.hidden_dropout_prob,
            use_cache=False,
        )


class FramesModel(PreTrainedModel):  # type: ignore[misc]
    """Samples -> filterbanks -> layers. States as `BaseModelOutput`; all layers where asked for."""

    config_class = FramesConfig
    base_model_prefix = ""
    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: FramesConfig) -> None:
        super().__init__(config)
        asked = {name: getattr(config, name) for name in ("sample_rate", "mels", "window", "hop", "deltas", "cmvn")}
        self.log_mel: nn.Module = KaldiMel(shape=config.kaldi, **asked) if config.kaldi else LogMel(**asked)
        self.project: nn.Module = nn.Identity()
        self.encoder: Any = None
        self.around: Neighbours | None = None
        if config.neighbours:
            self.around = Neighbours(config.hidden_size, config.neighbours)
        if config.layers != "none":
            self.project = nn.Linear(config.feature_size, config.hidden_size)
        if config.layers == "gru":
            self.encoder = GRULayers(config.hidden_size, config.num_hidden_layers, config.hidden_dropout_prob)
        elif config.layers != "none":
            self.encoder = AutoModel.from_config(config.inner())
            self.encoder.set_input_embeddings(None)  # frames are no tokens, and a table that learns nothing waits
        if config.layers == "sinusoidal":
            self.encoder.pooler = None  # no shared head reads one
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The Transformer has its own start, the GRU torch's."""
        if module is getattr(self, "project", None) and isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """What turns input into the lowest states."""
        return self.project

    def features(self, input_values: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Stacked frames (B, S, `feature_size`) without gradient, and each row's number of them (None: all).

        Args:
            input_values: samples (B, T).
            attention_mask: (B, T), 1 at samples that are no padding.
        """
        frame_counts = None
        if attention_mask is not None:
            frame_counts = (attention_mask.sum(dim=1).long() - self.config.window) // self.config.hop + 1
        frames = stacked(self.log_mel(input_values, frame_counts), self.config.stack)
        return frames, counts_of(self.config, attention_mask)

    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        features: Tensor | None = None,
        counts: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        mask_feature_indices: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """States (B, S, H).

        Args:
            input_values: samples (B, T).
            attention_mask: (B, T), 1 at samples that are no padding.
            features: instead of both, frames as `features` gives them, changed or not.
            counts: of given features, each row's number (B,); None for all.
            mask_time_indices: states that are masked (SpecAugment), bool (B, S); None for none.
            mask_feature_indices: channels of the filterbank that are masked, bool (B, mels); None for none.
            output_hidden_states: also the projected features and every layer's states.
            kwargs: passed over.
        """
        if features is None:
            assert input_values is not None
            features, counts = self.features(input_values, attention_mask)
        features = masked(features, counts, mask_time_indices, mask_feature_indices, mels=self.config.mels)
        states = self.project(features)
        if self.encoder is None:
            return BaseModelOutput(last_hidden_state=states, hidden_states=(states,) if output_hidden_states else None)
        mask = None if counts is None else mask_of(counts, states.shape[1])
        if self.around is not None:
            states = self.around(states, mask)
        more: dict[str, Tensor] = {}
        if self.config.layers == "sinusoidal":
            states = states + sinusoids(states)
            more["position_ids"] = torch.zeros(1, states.shape[1], dtype=torch.long, device=states.device)
        output = self.encoder(
            inputs_embeds=states,
            attention_mask=None if mask is None else mask.long(),
            output_hidden_states=bool(output_hidden_states),
            **more,
        )
        return BaseModelOutput(last_hidden_state=output.last_hidden_state, hidden_states=output.hidden_states)


class Neighbours(nn.Module):
    """States to which each channel's neighbours in time are added, weighted: what is near is heard from the first step.

    Attention alone has to learn what near means before anything masked can be guessed, and minutes are too short.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(hidden, hidden, width, padding=width // 2, groups=hidden)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """States (B, S, H) from (B, S, H); `mask` (B, S) is false where there is none, None where all are real."""
        heard = states if mask is None else states * mask[..., None]
        return states + nn.functional.gelu(self.conv(heard.transpose(1, 2)).transpose(1, 2))


def sinusoids(states: Tensor) -> Tensor:
    """Of the positions of states (B, S, H), (S, H): sine and cosine in turn, ever slower (arXiv 1706.03762)."""
    _, length, hidden = states.shape
    slow = torch.arange(0, hidden, 2, device=states.device, dtype=torch.float64) / hidden
    angles = torch.arange(length, device=states.device, dtype=torch.float64)[:, None] * 10000.0**-slow
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(states.dtype)


class GRULayers(nn.Module):
    """Unidirectional GRU layers with residual connections from the second on (APC); padding needs no mask."""

    def __init__(self, hidden: int, count: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.GRU(hidden, hidden, batch_first=True) for _ in range(count))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs_embeds: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = False
    ) -> BaseModelOutput:
        """States (B, S, H) from (B, S, H)."""
        states: Any = inputs_embeds
        every: list[Any] = [inputs_embeds]
        for number, layer in enumerate(self.layers):
            found = self._through(layer, self.dropout(states))
            states = found if number == 0 else states + found
            every.append(states)
        return BaseModelOutput(last_hidden_state=states, hidden_states=tuple(every) if output_hidden_states else None)

    @staticmethod
    def _through(layer: Any, states: Tensor) -> Tensor:
        """On a GPU in the layer's own precision: under autocast cuDNN would take fp16, whatever was asked for."""
        if states.device.type != "cuda":
            return layer(states)[0]  # type: ignore[no-any-return]
        with torch.autocast("cuda", enabled=False):
            return layer(states.to(layer.weight_ih_l0.dtype))[0]  # type: ignore[no-any-return]
