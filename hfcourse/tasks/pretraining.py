"""Self-supervised text tasks: masked words, next sentence, sentence order, replaced tokens. Labels come from the text.

Examples are windows over the memory-mapped token stream of a corpus, all exactly full: nothing is padded, and row i is
found by arithmetic. Whatever is drawn (masks, swaps, other sentences) is keyed by seed, epoch and row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hfcourse.errors import ConfigError
from hfcourse.heads.spec import HeadSpec
from hfcourse.tasks.base import Batch, Row, Task, TaskContext
from hfcourse.tasks.corpus import CorpusConfig, windows_of

if TYPE_CHECKING:
    import numpy as np

    from hfcourse.data.windows import Windows
    from hfcourse.objectives.base import Objective

_MASKS, _ACTIONS, _REPLACEMENTS, _SPANS, _SWAPS, _OTHERS, _SAMPLES, _CUTS, _WRONGS = range(9)
"""Streams of independent draws for one row."""


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(CorpusConfig):
    """What is learned from plain text. Weights are factors in the sum of losses; 0 switches an objective off."""

    kind: ClassVar[str] = "pretraining"
    masked_lm: float = 1.0
    """Guess masked words (BERT)."""
    next_sentence: float = 0.0
    """Does the second segment follow the first, or come from elsewhere (BERT)?"""
    sentence_order: float = 1.0
    """Are two consecutive segments in order or swapped (ALBERT)? With next_sentence too, one question asks for both:
    half of the pairs are as in the text, the wrong ones of either kind in proportion to the weights."""
    replaced_tokens: float = 0.0
    """Find the tokens that a small generator replaced (ELECTRA); the paper's factor of 50 comes on top."""
    mask_rate: float = 0.15
    """Share of tokens to be guessed."""
    mask_kind: Literal["token", "whole_word", "span"] = "token"
    """Single tokens (BERT), whole words, or runs of words of geometric length (SpanBERT)."""
    random_share: float = 0.1
    """Of the tokens to be guessed, so many show a random one instead of the mask."""
    keep_share: float = 0.1
    """Of the tokens to be guessed, so many show themselves."""

    def __post_init__(self) -> None:
        if self.replaced_tokens and (self.masked_lm or self.next_sentence or self.sentence_order):
            raise ConfigError(
                "task.replaced_tokens brings its own masked_lm (the generator's) and sees whole blocks: "
                "set task.masked_lm, task.next_sentence and task.sentence_order to 0"
            )
        if not (self.masked_lm or self.next_sentence or self.sentence_order or self.replaced_tokens):
            raise ConfigError("every objective is off: set task.masked_lm or another one above 0")
        if not 0 < self.mask_rate < 1:
            raise ConfigError(f"task.mask_rate is {self.mask_rate}: it must lie between 0 and 1")
        if self.random_share + self.keep_share > 1:
            raise ConfigError("task.random_share and task.keep_share add up to more than 1")
        super().__post_init__()

    def build(self, context: TaskContext) -> Pretraining:
        """Tokenise the corpus (once, cached) and cut it into blocks."""
        return Pretraining(self, context)


class Pretraining(Task):
    """Blocks of text whose labels are made from the text itself."""

    maximize = False
    augments = True
    metric = "loss"

    def __init__(self, config: PretrainingConfig, context: TaskContext) -> None:
        import numpy as np

        from hfcourse.data.tokenizers import word_starts

        self.config, self.seed = config, context.seed
        tokenizer = context.tokenizer
        if config.replaced_tokens == 0 and tokenizer.mask_token_id is None and config.masked_lm:
            raise ConfigError("task.masked_lm needs a tokenizer with a mask token: train one, or give another")
        self.name = config.data
        self.pairs = bool(config.next_sentence or config.sentence_order)
        self.head = self._heads()
        self.special = {"cls": tokenizer.cls_token_id, "sep": tokenizer.sep_token_id, "mask": tokenizer.mask_token_id}
        if None in self.special.values():
            raise ConfigError("pretraining needs a tokenizer with [CLS], [SEP] and [MASK] tokens (or their like)")
        self.typed = "token_type_ids" in tokenizer.model_input_names
        self.starts = word_starts(tokenizer)
        self.is_special = np.isin(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        self.ordinary = np.flatnonzero(~self.is_special)
        width = config.block_length - (3 if self.pairs else 2)
        self.splits = windows_of(config, context, width, starts=self.starts if self.pairs else None)

    @property
    def objective(self) -> Objective:
        if self.config.replaced_tokens:
            from hfcourse.objectives.replaced_tokens import DISCRIMINATOR_WEIGHT, ReplacedTokens

            return ReplacedTokens(DISCRIMINATOR_WEIGHT * self.config.replaced_tokens)
        from hfcourse.objectives.masked_lm import MaskedLM

        pair = self.config.next_sentence + self.config.sentence_order
        return MaskedLM({"masked_lm": self.config.masked_lm, "pair": pair})

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import numpy as np
        import torch

        numbers = np.array([row["row"] for row in rows])
        windows = np.stack([row["window"] for row in rows])
        batch: dict[str, np.ndarray] = {}
        if self.pairs:
            ids, types, batch["pair_labels"] = self._two_segments(windows, numbers, rows[0]["source"], epoch)
        else:
            ids, types = self._one_segment(windows), np.zeros((len(rows), self.config.block_length), dtype=np.int64)
        if self.typed:
            batch["token_type_ids"] = types
        if self.config.masked_lm or self.config.replaced_tokens:
            batch |= self._masked(ids, numbers, epoch)
        else:
            batch["input_ids"] = ids
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        """What one block adds to the scores: sums and counts."""
        import torch

        # Sums are in double precision, which not every accelerator has.
        logits, batch = ({name: values.cpu() for name, values in one.items()} for one in (logits, batch))
        rows = len(batch["input_ids"])
        sums: dict[str, Any] = {}
        if "positions" in batch and "nll" in logits:
            row_of = batch["positions"] // batch["input_ids"].shape[1]
            targets = batch["labels"].flatten()[batch["positions"]]
            zeros = torch.zeros(rows, dtype=torch.float64)
            sums["words"] = zeros.index_add(0, row_of, torch.ones_like(row_of, dtype=torch.float64))
            sums["nll"] = zeros.index_add(0, row_of, logits["nll"].double())
            sums["right_words"] = zeros.index_add(0, row_of, (logits["best"] == targets).double())
        if "pair" in logits:
            sums["right_pairs"] = (logits["pair"].argmax(dim=-1) == batch["pair_labels"]).double()
        if "labels" in logits:
            guessed = logits["logits"] > 0
            sums["tokens"] = torch.full((rows,), float(guessed.shape[1]))
            sums["right_tokens"] = (guessed == logits["labels"].bool()).double().sum(dim=1)
            sums["replaced"] = logits["labels"].double().sum(dim=1)
            sums["found"] = (guessed & logits["labels"].bool()).double().sum(dim=1)
        columns = {name: values.tolist() for name, values in sums.items()}
        return [{name: values[n] for name, values in columns.items()} for n in range(rows)]

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        return [{"id": number, "prediction": sums, "reference": True} for number, sums in enumerate(predictions)]

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        import math

        def total(name: str) -> float:
            return float(sum(answer["prediction"].get(name, 0.0) for answer in answers))

        scores: dict[str, float] = {}
        if words := total("words"):
            scores["masked_accuracy"] = total("right_words") / words
            scores["perplexity"] = math.exp(min(total("nll") / words, 700))
        if self.pairs:
            scores["pair_accuracy"] = total("right_pairs") / len(answers)
        if tokens := total("tokens"):
            scores["replaced_accuracy"] = total("right_tokens") / tokens
            scores["replaced_recall"] = total("found") / max(total("replaced"), 1)
        return scores

    def _heads(self) -> HeadSpec | tuple[HeadSpec, ...]:
        if self.config.replaced_tokens:
            return HeadSpec(kind="replaced_tokens")
        masked, pair = HeadSpec(kind="masked_lm"), HeadSpec(kind="pair")
        if not self.pairs:
            return masked
        return (masked, pair) if self.config.masked_lm else pair

    def _one_segment(self, windows: np.ndarray) -> np.ndarray:
        """[CLS] window [SEP], int64 (B, T)."""
        import numpy as np

        return np.pad(windows, ((0, 0), (1, 1)), constant_values=((0, 0), (self.special["cls"], self.special["sep"])))

    def _two_segments(
        self, windows: np.ndarray, rows: np.ndarray, source: Windows, epoch: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[CLS] A [SEP] B [SEP], token types and labels (0: as in the text, 1: swapped or from elsewhere)."""
        import numpy as np

        from hfcourse.data.noise import uniform

        count, width = windows.shape
        cut = self._cuts(windows, rows, epoch)
        wrong = uniform(self.seed, epoch, rows, 1, _SWAPS)[:, 0] < 0.5
        share = self.config.next_sentence / (self.config.next_sentence + self.config.sentence_order)
        foreign = wrong & (uniform(self.seed, epoch, rows, 1, _WRONGS)[:, 0] < share)
        at = np.arange(width)
        if foreign.any():
            # A part of another window, as long as the one it stands for.
            shift = 1 + uniform(self.seed, epoch, rows, 1, _OTHERS)[:, 0] * max(len(source) - 1, 1)
            others = source.windows((rows + shift.astype(np.int64)) % len(source))
            others = np.take_along_axis(
                others, (at + (self._between_words(others, cut) - cut)[:, None]) % width, axis=1
            )
            windows = np.where(foreign[:, None] & (at >= cut[:, None]), others, windows)
        # Swapping is a rotation of the window.
        turn = np.where(wrong & ~foreign, cut, 0)
        windows = np.take_along_axis(windows, (at + turn[:, None]) % width, axis=1)
        first = np.where(turn, width - cut, cut)
        # [SEP] stands after the first part: positions behind it read one to the left.
        t = np.arange(width + 3)
        behind = t > (first + 1)[:, None]
        ids = np.take_along_axis(windows, np.clip(t - 1 - behind, 0, width - 1), axis=1)
        ids[:, 0], ids[:, -1] = self.special["cls"], self.special["sep"]
        ids[np.arange(count), first + 1] = self.special["sep"]
        return ids, behind.astype(np.int64), wrong.astype(np.int64)

    def _cuts(self, windows: np.ndarray, rows: np.ndarray, epoch: int) -> np.ndarray:
        """Where each window is cut in two, (B,): at the start of a word, drawn from the middle half.

        Parts begin and end as windows do, or that would tell the order by itself: between words, but not at the end
        of a sentence.
        """
        import numpy as np

        from hfcourse.data.noise import uniform

        width = windows.shape[1]
        target = width * (0.25 + 0.5 * uniform(self.seed, epoch, rows, 1, _CUTS)[:, 0])
        at = np.arange(width)
        inside = (at >= width // 4) & (at <= width - width // 4)
        distance = np.abs(at - target[:, None]) + np.where(self.starts[windows] & inside, 0, 2 * width)
        nearest: np.ndarray = distance.argmin(axis=1)
        return nearest

    def _between_words(self, windows: np.ndarray, cut: np.ndarray) -> np.ndarray:
        """Where a part as long as each window's second begins, (B,), so that it begins and ends between words."""
        import numpy as np

        width = windows.shape[1]
        begin = np.arange(width // 4 + 1)  # no cut is further to the left
        end = begin + (width - cut)[:, None]
        starts = np.pad(self.starts[windows], ((0, 0), (0, 1)), constant_values=True)
        chosen: np.ndarray = (starts[:, begin] * (1 + np.take_along_axis(starts, end, axis=1))).argmax(axis=1)
        return chosen

    def _masked(self, ids: np.ndarray, rows: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        """Inputs with noise, labels, and where they are."""
        import numpy as np

        from hfcourse.data import noise

        def draws(stream: int) -> np.ndarray:
            return noise.uniform(self.seed, epoch, rows, ids.shape[1], stream)

        config = self.config
        maskable = ~self.is_special[ids]
        if config.mask_kind == "token":
            chosen = noise.choose_tokens(maskable, config.mask_rate, draws(_MASKS))
        elif config.mask_kind == "whole_word":
            chosen = noise.choose_words(maskable, self.starts[ids], config.mask_rate, draws(_MASKS))
        else:
            starts, lengths = self.starts[ids], draws(_SPANS)
            chosen = noise.choose_spans(maskable, starts, config.mask_rate, draws(_MASKS), lengths)
        random, keep = (0.0, 0.0) if config.replaced_tokens else (config.random_share, config.keep_share)
        action = noise.actions(chosen, draws(_ACTIONS), random, keep)
        noisy = noise.corrupt(ids, action, self.special["mask"], self.ordinary, draws(_REPLACEMENTS))
        positions = chosen.ravel().nonzero()[0]
        batch = {"input_ids": noisy, "labels": np.where(chosen, ids, -100), "positions": positions}
        if config.replaced_tokens:
            batch["draws"] = draws(_SAMPLES).ravel()[positions]
        return batch
