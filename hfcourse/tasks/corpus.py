"""Plain text as windows of one width: what every kind of pretraining on text reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfcourse.errors import ConfigError, DataError
from hfcourse.tasks.base import TaskContext

if TYPE_CHECKING:
    import numpy as np

    from hfcourse.data.windows import Windows

_TRAIN = 0.95
"""Share of the text that is trained on where the corpus has no dev split."""
_ANSWERED = 1000
"""Windows of a dev or test split that are answered: far more than enough for a stable score."""


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Which text, and how long its windows are."""

    data: str = "pydocs/text"
    """A builder, a folder or file of txt/csv/tsv/jsonl/parquet (also .gz), or a Hub id (streamed)."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    column: str = "text"
    """Which column holds the text."""
    block_length: int = 128
    """Tokens in one example, special ones included."""

    def __post_init__(self) -> None:
        if self.block_length < 8:
            raise ConfigError(f"task.block_length is {self.block_length}: it must be 8 or more")


def windows_of(
    config: CorpusConfig,
    context: TaskContext,
    width: int,
    *,
    starts: np.ndarray | None = None,
    ahead: bool = False,
    end: int | None = None,
    answered: int = _ANSWERED,
) -> dict[str, Windows]:
    """Every split of the corpus, tokenised once (cached) and cut into windows.

    A dev split is cut off where there is none; of a large dev or test split only a part is answered.

    Args:
        config: the corpus.
        context: tokenizer, limits, and where notes go.
        width, starts: as `Windows` takes them.
        ahead: each window holds one token more, which is the next one's first, and moves with the epoch.
        end: a token behind each document, as `tokenise` takes it.
        answered: most windows of a dev or test split.

    Raises:
        ConfigError: blocks that the model is too short for. DataError: a split with less than one window.
    """
    from hfcourse.data.documents import document_shards, document_splits
    from hfcourse.data.token_shards import tokenise
    from hfcourse.data.windows import MovingWindows, Windows

    if config.block_length > context.max_length:
        raise ConfigError(f"task.block_length {config.block_length} exceeds the model's {context.max_length} tokens")
    source: dict[str, Any] = {"data_dir": config.data_dir, "revision": context.revision}
    have = document_splits(config.data, **source)
    cut_off = "dev" not in have
    parts = {"train": (0.0, _TRAIN), "dev": (_TRAIN, 1.0)} if cut_off else {}
    splits: dict[str, Windows] = {}
    for split in ("train", "dev", "test"):
        if split not in have and split not in parts:
            continue
        kept = "train" if split in parts else split
        store = tokenise(
            document_shards(config.data, split=kept, column=config.column, **source), context.tokenizer, end=end
        )
        splits[split] = (MovingWindows if ahead else Windows)(
            store,
            width + ahead,
            limit=context.limit_of(split) or (0 if split == "train" else answered),
            starts=starts,
            part=parts.get(split, (0.0, 1.0)),
            overlap=int(ahead),
        )
        if not len(splits[split]):
            raise DataError(f"{config.data}: split {split!r} has less than one block of {config.block_length} tokens")
    if cut_off:
        context.notes.append(f"{config.data} has no dev split: the last {1 - _TRAIN:.0%} of its text is kept for one")
    return splits
