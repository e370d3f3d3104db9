"""Guess the next token: plain text as blocks that are all exactly full, with a token where a document ends.

Every token is asked for once an epoch, but for less than a block of each shard. In each epoch the text is cut at other
places, which are keyed by seed and epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hfcourse.errors import ConfigError
from hfcourse.heads.spec import HeadSpec
from hfcourse.tasks.base import Batch, Row, Task, TaskContext
from hfcourse.tasks.corpus import CorpusConfig, windows_of

if TYPE_CHECKING:
    from hfcourse.data.windows import Windows
    from hfcourse.objectives.base import Objective

_SHIFTS = 0
"""Stream of draws."""
_ANSWERED = 131_072
"""Tokens of a dev or test split that are answered: far more than enough for a stable score."""


@dataclass(frozen=True, kw_only=True)
class CausalPretrainingConfig(CorpusConfig):
    """Which text the next token is guessed in; `charlm` reads a file's characters as they are."""

    kind: ClassVar[str] = "causal_pretraining"

    def build(self, context: TaskContext) -> CausalPretraining:
        """Tokenise the corpus (once, cached) and cut it into blocks."""
        return CausalPretraining(self, context)


class CausalPretraining(Task):
    """Blocks of text; what comes next is the label."""

    head = HeadSpec(kind="causal_lm")
    maximize = False
    augments = True
    metric = "loss"

    def __init__(self, config: CausalPretrainingConfig, context: TaskContext) -> None:
        from hfcourse.data.token_text import is_lossless, text_sizes

        tokenizer: Any = context.tokenizer
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "guessing the next token needs a tokenizer with an end-of-text token: train one with "
                "--train_tokenizer.style gpt, or give another"
            )
        self.name, self.seed = config.data, context.seed
        self.splits = windows_of(
            config,
            context,
            config.block_length,
            ahead=True,
            end=tokenizer.eos_token_id,
            answered=max(200, _ANSWERED // config.block_length),
        )
        self.sizes = text_sizes(tokenizer)
        for split, windows in self.splits.items():
            if windows.store.unknown and not (split == "dev" and windows.store == self.splits["train"].store):
                share = f"{windows.store.unknown:,} of {windows.store.tokens:,} tokens"
                context.notes.append(f"{config.data}, {split}: {share} stand for what the tokenizer does not know")
        if not is_lossless(tokenizer):
            context.notes.append("the tokenizer does not keep all of the text: bits are of what it keeps")

    @property
    def objective(self) -> Objective:
        from hfcourse.objectives.causal_lm import CausalLM

        return CausalLM()

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import numpy as np
        import torch

        windows = self._windows(rows, epoch)
        found = {"input_ids": windows[:, :-1], "labels": windows[:, 1:]}
        return {name: torch.from_numpy(np.ascontiguousarray(ids)) for name, ids in found.items()}

    def _windows(self, rows: list[Row], epoch: int) -> Any:
        """Token ids, int64 (B, T + 1): as they stand when judged, moved by the epoch's shift in training."""
        import numpy as np

        from hfcourse.data.noise import uniform

        source: Windows = rows[0]["source"]
        numbers = np.array([row["row"] for row in rows])
        if epoch < 0:
            return source.windows(numbers)
        draw = uniform(self.seed, epoch, np.zeros(1, dtype=np.int64), 1, _SHIFTS)[0, 0]
        return source.windows(numbers, shift=int(draw * source.stride))

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        """What one block adds to the scores: sums and counts."""
        labels = batch["labels"].cpu().numpy()
        nll = logits.cpu().double().sum(dim=1).tolist()  # not every accelerator has double precision
        sizes = {name: table[labels].sum(axis=1).tolist() for name, table in self.sizes.items()}
        return [
            {"nll": nll[n], "words": labels.shape[1], **{name: sums[n] for name, sums in sizes.items()}}
            for n in range(len(labels))
        ]

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        return [{"id": number, "prediction": sums, "reference": True} for number, sums in enumerate(predictions)]

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        """Perplexity of a token; bits of a byte and of a character of the text, the ends of documents paid for."""
        total = {name: sum(answer["prediction"][name] for answer in answers) for name in answers[0]["prediction"]}
        scores = {"perplexity": math.exp(min(total["nll"] / total["words"], 700))}
        for score, unit in (("bits_per_byte", "bytes"), ("bits_per_character", "characters")):
            scores[score] = total["nll"] / math.log(2) / max(total[unit], 1)
        return scores
