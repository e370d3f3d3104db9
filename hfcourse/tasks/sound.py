"""What tasks on sound share: recordings of every split, cropping, padding, and the input that a backbone takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcourse.backbones.load import load_config
from hfcourse.backbones.presets import PRESETS
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.presets import SPEECH_PRESETS
from hfcourse.backbones.speech.rate import is_speech, shortest, state_counts
from hfcourse.data import extractors
from hfcourse.data.audio import normalised
from hfcourse.data.clips import Clips, Survey
from hfcourse.data.loading import column
from hfcourse.errors import ModelError
from hfcourse.tasks.base import Batch, SpeechContext

if TYPE_CHECKING:
    import datasets


def clips_of(table: datasets.Dataset, where: str, context: SpeechContext, *, longest: float = 0.0) -> Clips:
    """The sound recordings of a table; what is left out is counted and named in the notes.

    Args:
        table: with an ``audio`` column.
        where: data and split, for messages.
        context: rate, and whether faults are refused.
        longest: seconds; longer recordings count as so long. 0 for no bound.
    """
    column(table, "audio", where)
    survey = Survey(table, rate=context.rate, shortest=shortest(context.backbone))
    if note := survey.note(where, strict=context.strict):
        context.notes.append(note)
    return Clips(table, survey, rate=context.rate, longest=longest)


def crops(waveforms: Sequence[np.ndarray], longest: int, positions: np.ndarray | None = None) -> list[np.ndarray]:
    """Waveforms cut to `longest` samples (0: as they are), at `positions` (B,) in [0, 1) of where a cut may begin.

    Without positions the beginning stays.
    """
    begins = crop_begins(waveforms, longest, np.zeros(len(waveforms)) if positions is None else positions)
    pairs = zip(waveforms, begins, strict=True)
    return [waveform[begin : begin + longest] if longest else waveform for waveform, begin in pairs]


def crop_begins(waveforms: Sequence[np.ndarray], longest: int, positions: np.ndarray) -> np.ndarray:
    """The first sample of each crop, int64 (B,)."""
    lengths = np.fromiter((len(waveform) for waveform in waveforms), dtype=np.int64, count=len(waveforms))
    begins: np.ndarray = (positions * (np.maximum(lengths - longest, 0) + 1)).astype(np.int64)
    return begins if longest else np.zeros_like(begins)


def inputs_of(waveforms: Sequence[np.ndarray], context: SpeechContext) -> Batch:
    """What a backbone takes, and ``sample_counts`` (B,), by which heads tell states from padding.

    Waveforms that the extractor only pads and normalises become ``input_values`` (B, samples); ``attention_mask`` of
    the same shape where something is padded and the backbone reads one. Whisper and its kin get ``input_features``.
    """
    import torch

    extractor = context.extractor
    counts = np.fromiter((len(waveform) for waveform in waveforms), dtype=np.int64, count=len(waveforms))
    batch: Batch = {"sample_counts": torch.from_numpy(counts)}
    if extractor.model_input_names[0] != "input_values":
        made = extractor(list(waveforms), sampling_rate=context.rate, return_tensors="pt", return_attention_mask=False)
        name = extractor.model_input_names[0]
        return batch | {name: made[name]}
    values = np.zeros((len(waveforms), int(counts.max())), dtype=np.float32)
    for at, waveform in enumerate(waveforms):
        values[at, : len(waveform)] = normalised(waveform) if extractor.do_normalize else waveform
    batch["input_values"] = torch.from_numpy(values)
    # Published nets whose first norm is over time were not to be given a mask: it would not have kept padding out.
    reads_mask = extractor.return_attention_mask or getattr(context.backbone, "feat_extract_norm", "") == "group"
    if reads_mask and counts.min() < counts.max():
        batch["attention_mask"] = (torch.arange(values.shape[1]) < batch["sample_counts"][:, None]).long()
    return batch


def states_in(batch: Batch, context: SpeechContext) -> np.ndarray:
    """How many states each row of a batch has, int64 (B,).

    Raises:
        ModelError: the backbone's config does not tell.
    """
    try:
        counts: np.ndarray = state_counts(context.backbone, batch["sample_counts"].numpy())
    except ValueError as error:
        raise ModelError(str(error)) from error
    return counts


def context_of(name: str, backbone: BackboneConfig, **common: Any) -> SpeechContext:
    """What tasks on sound need to know of the model `name`; `common` is what all contexts hold.

    Raises:
        ModelError: the model reads text, or says nowhere how it hears.
    """
    if name in PRESETS and name not in SPEECH_PRESETS:
        raise ModelError(
            f"{name} is a preset that reads text: name a speech model, such as {', '.join(list(SPEECH_PRESETS)[:3])}"
        )
    config = load_config(name, backbone, None)
    inner = getattr(config, "backbone_config", config)
    if not is_speech(inner):
        raise ModelError(f"{name} is a {inner.model_type}, which hears nothing: name a speech model")
    return SpeechContext(extractor=extractors.load(name, backbone), backbone=inner, **common)
