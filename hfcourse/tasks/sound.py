"""What tasks on sound share: recordings of every split, cropping, padding, and the input that a backbone takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcourse.backbones.load import load_config
from hfcourse.backbones.presets import PRESETS
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.presets import SPEECH_PRESETS
from hfcourse.backbones.speech.rate import is_speech, shortest, state_counts, stride
from hfcourse.data import augment, extractors
from hfcourse.data.audio import normalised
from hfcourse.data.augment_settings import AugmentConfig
from hfcourse.data.clips import FRAMES_PER_SECOND, Clips, Survey
from hfcourse.data.loading import column
from hfcourse.errors import ConfigError, DataError, ModelError
from hfcourse.tasks.base import Batch, SpeechContext

if TYPE_CHECKING:
    import datasets


def clips_of(
    table: datasets.Dataset,
    where: str,
    context: SpeechContext,
    *,
    longest: float = 0.0,
    speeds: Sequence[float] = (),
) -> Clips:
    """The sound recordings of a table; what is left out is counted and named in the notes.

    Args:
        table: with an ``audio`` column.
        where: data and split, for messages.
        context: rate, and whether faults are refused.
        longest: seconds; longer recordings count as so long. 0 for no bound.
        speeds: at which they may be played: at each of them enough must be left to be heard.

    Raises:
        ConfigError: `longest` is too short for the backbone.
        DataError: no such column, or cuts that are no seconds.
    """
    column(table, "audio", where)
    needed = shortest(context.backbone)
    if longest and round(longest * context.rate) < needed:
        raise ConfigError(f"task.longest is {longest:g}: the model needs {needed / context.rate:.3f} s for one state")
    fastest = np.array([max(1.0, *speeds)] if speeds else [1.0])
    try:
        survey = Survey(table, rate=context.rate, shortest=int(augment.needed_lengths(needed, fastest)[0]))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if note := survey.note(where, strict=context.strict):
        context.notes.append(note)
    return Clips(table, survey, rate=context.rate, longest=longest)


def crops(clips: Any, rows: np.ndarray, *, speeds: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
    """The first sample and the number of samples of what is heard of each recording, int64 (B, 2).

    Args:
        clips: `Clips`, of whose recordings as much is heard as is played in `longest` samples (0: all of it).
        rows: their numbers, (B,).
        speeds: at which they are played, (B,).
        positions: in [0, 1) of where a crop may begin, (B,); None for the beginning.
    """
    whole = clips.whole[rows]
    counts = np.minimum(augment.needed_lengths(clips.longest, speeds), whole) if clips.longest else whole
    begins = np.zeros(len(rows)) if positions is None else positions * (whole - counts + 1)
    return np.stack([begins.astype(np.int64), counts], axis=1)


def heard(clips: Any, rows: np.ndarray, parts: np.ndarray, speeds: np.ndarray) -> list[np.ndarray]:
    """The waveforms of `crops` as they are played, each of `clips.longest` samples at most."""
    waveforms = zip(clips.waveforms(rows, parts), speeds, strict=True)
    return [augment.played(waveform, speed)[: clips.longest or None] for waveform, speed in waveforms]


def heard_lengths(clips: Any, settings: AugmentConfig, seed: int, epoch: int) -> np.ndarray:
    """Frames of 10 ms of each recording as it is played in an epoch, int64 (rows,): what batches are planned by.

    `clips` are `Clips`, or what stands for them where states are kept.
    """
    if epoch < 0 or not settings.speeds:
        return clips.lengths  # type: ignore[no-any-return]
    samples = augment.played_lengths(clips.whole, augment.speeds(settings, seed, epoch, np.arange(len(clips))))
    samples = np.minimum(samples, clips.longest) if clips.longest else samples
    lengths: np.ndarray = -(-samples * FRAMES_PER_SECOND // clips.rate)
    return lengths


def masks_of(
    settings: AugmentConfig, context: SpeechContext, rows: np.ndarray, states: np.ndarray, *, epoch: int
) -> Batch:
    """SpecAugment's masks of a batch, as a net takes them.

    Args:
        settings: how many masks, and how wide.
        context: seed, and the net's config.
        rows: numbers of the rows, (B,).
        states: of each row, int64 (B,).
        epoch: of the draws; nothing is masked in evaluation (-1).
    """
    import torch

    from hfcourse.backbones.speech.spec_augment import maskable_channels

    if epoch < 0 or not settings.masks:
        return {}
    channels = maskable_channels(context.backbone)
    per_second = context.rate / stride(context.backbone)
    found = augment.masks(settings, context.seed, epoch, rows, states, per_second=per_second, channels=channels)
    return {name: torch.from_numpy(mask) for name, mask in found.items()}


def inputs_of(waveforms: Sequence[np.ndarray], context: SpeechContext) -> Batch:
    """What a backbone takes, and ``sample_counts`` (B,), by which heads tell states from padding.

    Waveforms that the extractor only pads and normalises become ``input_values`` (B, samples); ``attention_mask`` of
    the same shape where something is padded and the backbone reads one. Whisper and its kin get ``input_features``,
    and an ``attention_mask`` over states where their extractor makes one (wav2vec2-bert).
    """
    import torch

    extractor = context.extractor
    counts = np.fromiter((len(waveform) for waveform in waveforms), dtype=np.int64, count=len(waveforms))
    batch: Batch = {"sample_counts": torch.from_numpy(counts)}
    if extractor.model_input_names[0] != "input_values":
        made = extractor(
            list(waveforms),
            sampling_rate=context.rate,
            return_tensors="pt",
            return_attention_mask="attention_mask" in extractor.model_input_names,
        )
        return batch | {name: made[name] for name in extractor.model_input_names}
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
        raise ModelError(
            f"{name} is a {inner.model_type}: it hears nothing, or in a way that is not known here: name a net with "
            "convolutions on samples (wav2vec2, hubert, wavlm, data2vec-audio, sew, ...), a wav2vec2-bert, a whisper "
            "or one of ours"
        )
    if getattr(inner, "add_adapter", False):
        raise ModelError(
            f"{name} has layers that take several states together (add_adapter in its config.json), which heads here "
            "do not know: name the net that it was made from"
        )
    return SpeechContext(extractor=extractors.load(name, backbone), backbone=inner, **common)
