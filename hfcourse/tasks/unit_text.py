"""Recordings as text: a document a recording, a word a unit of a net with a codebook, and the tokenizer of such words.

A folder holds ``text/<split>.txt`` and ``tokenizer/``: what the pretraining of a BERT takes. It is written whole or
not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcourse.data.vocabularies import SPECIAL
from hfcourse.errors import DataError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from hfcourse.backbones.speech.units import UnitsModel
    from hfcourse.data.clips import Clips
    from hfcourse.tasks.base import SpeechContext

_FRAMES_AT_ONCE = 20_000
"""Padded frames of 10 ms in one pass of the net."""


@dataclass(frozen=True)
class UnitText:
    """A folder that `write` has made."""

    folder: Path

    @property
    def text(self) -> Path:
        """A file a split."""
        return self.folder / "text"

    @property
    def tokenizer(self) -> Path:
        """A word a unit that occurs."""
        return self.folder / "tokenizer"

    @property
    def is_whole(self) -> bool:
        """Whether the folder is there: it is renamed to its name last of all."""
        return (self.folder / "units.json").is_file()

    @property
    def facts(self) -> dict[str, Any]:
        """How many units there are, how many of them occur, and how many recordings and units each split has."""
        return json.loads((self.folder / "units.json").read_text())  # type: ignore[no-any-return]


def net_with_codebook(name: str) -> Any:
    """A trained vq-wav2vec.

    Raises:
        ModelError: no such model, or one without a codebook.
    """
    from hfcourse.backbones.load import load_config
    from hfcourse.backbones.settings import BackboneConfig
    from hfcourse.weights import bare_backbone

    settings = BackboneConfig()
    config = load_config(name, settings, None)
    if getattr(config, "quantizer", "none") == "none":
        raise ModelError(f"{name}: no codebook in this model: name a vq_wav2vec")
    return bare_backbone(name, config, settings).eval()


def write(net: Any, splits: Mapping[str, Clips], context: SpeechContext, folder: Path, *, most: int) -> UnitText:
    """Read every recording once and write its units.

    Args:
        net: convolutions with a codebook.
        splits: recordings.
        context: how the net hears.
        folder: where; what is there is replaced.
        most: entries of the tokenizer for units, the most frequent ones of the training split.

    Raises:
        DataError: the folder cannot be written.
    """
    from hfcourse import disk

    side = folder.with_name(f".{folder.name}.partial")
    found = UnitText(side)
    with disk.clear_errors(folder):
        shutil.rmtree(side, ignore_errors=True)
        found.text.mkdir(parents=True)
        counts = {
            split: _write_split(net, clips, context, found.text / f"{split}.txt") for split, clips in splits.items()
        }
        seen = counts["train"]
        # The most frequent first; of equals the lower number.
        kept = np.argsort(-seen, kind="stable")[: min(most, int(np.count_nonzero(seen)))]
        tokenizer(kept.tolist()).save_pretrained(found.tokenizer)
        facts = {"units": net.config.units, "occur": int(np.count_nonzero(seen)), "kept": len(kept)}
        read = {split: {"recordings": len(splits[split]), "units": int(counts[split].sum())} for split in splits}
        (side / "units.json").write_text(json.dumps(facts | read, indent=1))
        disk.swap(side, folder)
    return UnitText(folder)


def tokenizer(units: list[int]) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are the numbers of units; any other unit is unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if not units:
        raise DataError("no unit occurs in the recordings: there is nothing to learn from")
    words = [*SPECIAL, *map(str, units)]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    )


def joined(net: str, bert: str, units: UnitText, *, block: int) -> UnitsModel:
    """The model that hears: the net that made `units`, and the BERT that was trained on them.

    Args:
        net: as `net_with_codebook` takes it.
        bert: a run or a folder.
        units: what the BERT has read.
        block: units that it read at once.
    """
    import torch

    from hfcourse.backbones.load import load_config
    from hfcourse.backbones.settings import BackboneConfig
    from hfcourse.backbones.speech.units import UnitsModel
    from hfcourse.data import tokenizers
    from hfcourse.weights import bare_backbone

    settings = BackboneConfig()
    front = net_with_codebook(net)
    words = tokenizers.load(str(units.tokenizer))
    backbone = bare_backbone(bert, load_config(bert, settings, words), settings)
    tokens = torch.tensor(words.convert_tokens_to_ids([str(unit) for unit in range(front.config.units)]))
    special = (words.pad_token_id, words.cls_token_id, words.sep_token_id)
    return UnitsModel.joined(front, backbone, tokens, block=block, special=special)


def _write_split(net: Any, clips: Clips, context: SpeechContext, place: Path) -> np.ndarray:
    """Write a document a recording; how often each unit occurs, (units,)."""
    counts = np.zeros(net.config.units, dtype=np.int64)
    with place.open("w") as file:
        for units in _units_of(net, clips, context):
            counts += np.bincount(units, minlength=len(counts))
            file.write(" ".join(map(str, units)) + "\n\n")  # a blank line ends a document
    return counts


def _units_of(net: Any, clips: Clips, context: SpeechContext) -> Iterator[list[int]]:
    """The units of every recording, in order."""
    import torch

    from hfcourse.backbones.speech.features import counts_of
    from hfcourse.data.batching import plan
    from hfcourse.tasks.sound import crops, inputs_of

    device = next(net.parameters()).device
    for rows in plan(clips.lengths, examples=64, tokens=_FRAMES_AT_ONCE, shuffle=False, bucket=False):
        batch = inputs_of(clips.waveforms(rows, crops(clips, rows, speeds=np.ones(len(rows)))), context)
        inputs = {name: batch[name].to(device) for name in ("input_values", "attention_mask") if name in batch}
        with torch.no_grad():
            units = net.units(**inputs).cpu()
        counts = counts_of(net.config, inputs.get("attention_mask"))
        lengths = [units.shape[1]] * len(rows) if counts is None else counts.tolist()
        for found, length in zip(units.tolist(), lengths, strict=True):
            yield found[:length]
