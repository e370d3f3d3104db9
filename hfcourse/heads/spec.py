"""What a task asks of a model: which head, with which labels. Holds no torch, so that tasks stay cheap to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HeadKind = Literal[
    "sequence",
    "frame",
    "span",
    "multiple_choice",
    "masked_lm",
    "causal_lm",
    "pair",
    "replaced_tokens",
    "none",
    "wav2vec2",
]
Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
Pooling = Literal["native", "cls", "mean", "max", "attentive"]
Layers = Literal["last", "mix", "exits"]


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """One head over a backbone's states."""

    kind: HeadKind
    """sequence: one answer for the whole input; frame: one for each state; span: a start and an end;
    multiple_choice: one score for each choice; masked_lm: a word for each masked position;
    causal_lm: the next token at each state; pair: do two
    segments belong together (next sentence, sentence order); replaced_tokens: real or replaced, for each state;
    none: the backbone alone, whose objective brings what it needs; wav2vec2: transformers' own codebook and
    projections of wav2vec 2.0."""
    labels: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers; for regression one name for each target."""
    problem: Problem = "single_label_classification"
    """For sequence heads: which loss."""
    pooling: Pooling = "native"
    """For sequence heads: how states become one vector; `native` leaves it to the model's own class."""
    layers: Layers = "last"
    """`mix` feeds the head a learned softmax-weighted sum of all layers (SUPERB's protocol) instead of the last;
    `exits` puts a head of its own on every layer (sequence heads alone)."""
    standardize: bool = False
    """Sequence and frame heads read numbers of mean 0 and variance 1 over training rows (by running moments before the
    projection), so that a linear probe learns as fast on any backbone (MAE has BatchNorm there, arXiv 2111.06377)."""
    name: str = ""
    """What the head is called among several of a model; its kind where empty."""

    @property
    def key(self) -> str:
        """The head's name in a model."""
        return self.name or self.kind

    @property
    def is_native(self) -> bool:
        """Whether a transformers class can stand for this head (its own pooling, its last layer)."""
        return self.pooling == "native" and self.layers == "last" and not self.standardize
