"""A BERT over the discrete units of sound (vq-wav2vec, arXiv 1910.05453): heads take it like any other backbone.

Shapes: rows B, samples T, states S, width H.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from hfcourse.backbones.speech.conv import ConvConfig, ConvModel
from hfcourse.backbones.speech.features import counts_of


class UnitsConfig(PreTrainedConfig):  # type: ignore[misc]
    """The net that makes units, and the BERT over them."""

    model_type = "hfcourse_units"
    has_no_defaults_at_init = True

    def __init__(
        self,
        front: dict[str, Any] | None = None,
        bert: dict[str, Any] | None = None,
        block: int = 126,
        special: tuple[int, int, int] = (0, 1, 2),
        **kwargs: Any,
    ):
        """Settings.

        Args:
            front: config of the convolutions and their codebook.
            bert: config of the BERT.
            block: units that it reads at once, as in its pretraining.
            special: its tokens for padding, for the beginning and for the end of a block.
            kwargs: what every config takes.
        """
        self.front, self.bert, self.block, self.special = front or {}, bert or {}, block, list(special)
        self.hidden_size = self.bert.get("hidden_size", 0)
        self.num_hidden_layers = self.bert.get("num_hidden_layers", 0)
        super().__init__(**kwargs)

    @property
    def conv_kernel(self) -> list[int]:
        """Of the convolutions: a unit is a state."""
        return list(self.front["conv_kernel"])

    @property
    def conv_stride(self) -> list[int]:
        """Of the convolutions."""
        return list(self.front["conv_stride"])


class UnitsModel(PreTrainedModel):  # type: ignore[misc]
    """Samples -> units -> the states of a BERT, one a unit; units that repeat are kept, so the rate is that of units.

    What makes the units does not learn. A long recording is read block by block, each as the BERT saw text: between a
    token for its beginning and one for its end, whose states are left out.
    """

    config_class = UnitsConfig
    base_model_prefix = ""
    main_input_name = "input_values"
    _supports_sdpa = True

    tokens: Tensor

    def __init__(self, config: UnitsConfig) -> None:
        super().__init__(config)
        front = ConvConfig(**{**config.front, "context": "none"})
        self.front = ConvModel(front).requires_grad_(False)
        self.bert: Any = AutoModel.from_config(AutoConfig.for_model(**config.bert))
        self.bert.pooler = None  # no shared head reads one
        # Which token of the BERT a unit is.
        self.register_buffer("tokens", torch.zeros(front.units, dtype=torch.long))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Both parts have their own start."""

    @classmethod
    def joined(cls, front: ConvModel, bert: PreTrainedModel, tokens: Tensor, **settings: Any) -> Self:
        """The model of a trained net and a BERT that was trained on its units.

        Args:
            front: convolutions with a codebook.
            bert: bare.
            tokens: of each unit, int64 (units,).
            settings: further ones of the config.
        """
        config = UnitsConfig(front=front.config.to_dict(), bert=bert.config.to_dict(), **settings)
        model = cls(config)
        front_weights = front.state_dict()
        model.front.load_state_dict({name: front_weights[name] for name in model.front.state_dict()})
        bert_weights = bert.state_dict()
        model.bert.load_state_dict({name: bert_weights[name] for name in model.bert.state_dict()})
        model.tokens.copy_(tokens)
        return model

    def get_input_embeddings(self) -> nn.Module:
        """The BERT's: a unit's token has a row there."""
        return self.bert.get_input_embeddings()  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> Self:
        """What makes the units stays as it is."""
        super().train(mode)
        self.front.eval().requires_grad_(False)  # loading makes new parameters, and ends here
        return self

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """States (B, S, H).

        Args:
            input_values: samples (B, T).
            attention_mask: (B, T), 1 at samples that are no padding.
            output_hidden_states: also the embedded units and every layer's states.
            kwargs: passed over.
        """
        # Units must not depend on the precision of a run: their neighbours among the entries mean something else.
        with torch.autocast(input_values.device.type, enabled=False):
            units = self.front.units(input_values.float(), attention_mask)
        rows, width = units.shape
        counts = counts_of(self.config, attention_mask)
        counts = torch.full((rows,), width, device=units.device) if counts is None else counts
        ids, mask = self._blocks(self.tokens[units], counts)
        output = self.bert(input_ids=ids, attention_mask=mask, output_hidden_states=bool(output_hidden_states))

        def joined(states: Any) -> Any:
            return states[:, 1:-1].unflatten(0, (rows, -1)).flatten(1, 2)[:, :width]

        layers = output.hidden_states
        return BaseModelOutput(
            last_hidden_state=joined(output.last_hidden_state),
            hidden_states=None if layers is None else tuple(joined(layer) for layer in layers),
        )

    def _blocks(self, tokens: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids with the special ones, and which of them are no padding, (B x blocks, block + 2) each."""
        padding, begin, end = self.config.special
        rows, width = tokens.shape
        size = min(self.config.block, width)
        blocks = -(-width // size)
        tokens = F.pad(tokens, (0, blocks * size - width)).view(rows * blocks, size)
        first = torch.arange(blocks, device=tokens.device) * size
        held = (counts[:, None] - first).clamp(min=0, max=size).flatten()
        at = torch.arange(size + 2, device=tokens.device)
        ids = F.pad(tokens, (1, 1)).masked_fill(at > held[:, None], padding)
        ids[:, 0] = begin
        # Right behind the last unit, however much is padded.
        ids.scatter_(1, held[:, None] + 1, end)
        return ids, (at < held[:, None] + 2).long()
