"""Long recordings cut into utterances: ``hfcourse align --model CTC_MODEL AUDIO TRANSCRIPT OUT``.

A CTC model's answers are aligned with what is known to be said (forced alignment). ``OUT/segments.tsv`` has a row an
utterance, as the builder `ml2021_asr_st` reads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from hfcourse import disk
from hfcourse.errors import ConfigError, DataError, RunFolderError

if TYPE_CHECKING:
    from hfcourse.data.transcripts import Transcript
    from hfcourse.data.utterances import Words
    from hfcourse.engine.emissions import Recognizer

_TABLE = "segments.tsv"
_ADVICE = "free some space, or give another folder"
_LAYOUT = 1
"""Changes when what an earlier version has aligned is no longer right."""
_SHOWN = 5
"""So many of a kind are named."""


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """With which model, and how utterances are cut."""

    model: str
    """A model with a CTC head and its tokenizer: a folder or a Hub id."""
    longest: float = 15.0
    """Seconds; a transcript of one line is cut at its longest pauses, into utterances of at most so many. 0: never."""
    margin: float = 0.2
    """Seconds that are kept before and behind an utterance, up to half of the pause to its neighbour."""
    doubt: float = -2.0
    """Utterances whose tokens have a lower mean log probability than this are counted and named."""
    strict: bool = False
    """Refuse recordings that cannot be aligned instead of leaving them out."""

    def __post_init__(self) -> None:
        for name in ("longest", "margin"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name} is {getattr(self, name)}: it must be 0 seconds or more")
        if self.longest and self.longest <= 2 * self.margin:
            raise ConfigError(
                f"--longest is {self.longest} and --margin {self.margin}: nothing is left between margins"
            )


@dataclass(frozen=True)
class Segment:
    """An utterance: a row of the table."""

    file: str
    transcription: str
    translation: str
    start: float
    """Seconds."""
    end: float
    confidence: float
    """Mean log probability over the frames of the tokens that the model knows; nan where it knows none."""


@dataclass(frozen=True)
class Aligned:
    """What was found in one recording."""

    segments: list[Segment]
    lacking: dict[str, int] = field(default_factory=dict)
    """What the vocabulary lacks, and how often."""
    notes: list[str] = field(default_factory=list)


class _Unfit(ValueError):
    """A recording whose transcript cannot be aligned; its text says why."""


def align(config: AlignConfig, audio: Path, transcript: Path, out: Path) -> list[Segment]:
    """Write where each utterance of recordings is; the table is written whole or not at all.

    What is done of each recording is kept until the table is there: a second call goes on with the next one.

    Args:
        config: the model, and how utterances are cut.
        audio: a recording, or a folder.
        transcript: a text file, a folder of them, or a table (`hfcourse.data.transcripts.read`).
        out: the folder that gets ``segments.tsv``.

    Raises:
        DataError: nothing to align, or nothing that can be; under `strict`, one recording that cannot.
        ModelError: no model with a CTC head. RunFolderError: a folder that has the table, or cannot be written.
    """
    from hfcourse.data import transcripts
    from hfcourse.engine.emissions import Recognizer
    from hfcourse.engine.progress import say

    if (out / _TABLE).exists():
        raise RunFolderError(f"{out / _TABLE} is there already: remove it, or give another folder")
    texts = transcripts.read(audio, transcript)
    recognizer = Recognizer(config.model)
    found: list[Aligned] = []
    faults: list[str] = []
    with disk.clear_errors(out, _ADVICE):
        kept = out / f".{_TABLE}.partial"
        kept.mkdir(parents=True, exist_ok=True)
        for text in texts:
            try:
                found.append(_kept_or_made(recognizer, text, config, kept))
            except _Unfit as fault:
                if config.strict:
                    raise DataError(f"{text.audio}: {fault}: mend it, or leave out --strict") from fault
                faults.append(f"{text.file}: {fault}")
        segments = [segment for one in found for segment in one.segments]
        if not segments:
            raise DataError(f"no recording could be aligned: {_shown(faults)}")
        _write(out / _TABLE, segments)
        shutil.rmtree(kept)
    for note in _notes(found, faults, config):
        say(note)
    return segments


def _kept_or_made(recognizer: Recognizer, text: Transcript, config: AlignConfig, kept: Path) -> Aligned:
    """What an earlier call has found in a recording, or what is found now.

    Raises:
        _Unfit: nothing can be.
    """
    key = _key(recognizer, text, config)
    place = kept / f"{key}.json"
    if place.is_file():
        known = json.loads(place.read_text())
        return Aligned([Segment(**row) for row in known["segments"]], known["lacking"], known["notes"])
    scratch = kept / f"{key}.emissions"
    try:
        made = _aligned(recognizer, text, config, scratch)
    finally:
        scratch.unlink(missing_ok=True)
    side = place.with_suffix(".side")
    side.write_text(json.dumps(dataclasses.asdict(made)))
    side.replace(place)
    return made


def _key(recognizer: Recognizer, text: Transcript, config: AlignConfig) -> str:
    """Changes with the model's files, the recording, its transcript, and the settings that count."""
    folder = Path(recognizer.place)
    paths = [text.audio, *(sorted(folder.iterdir()) if folder.is_dir() else ())]
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]
    settings = (_LAYOUT, recognizer.name, config.longest, config.margin)
    told = json.dumps([settings, stamps, text.file, text.lines, text.translations])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _aligned(recognizer: Recognizer, text: Transcript, config: AlignConfig, scratch: Path) -> Aligned:
    """Every utterance of one recording.

    Raises:
        _Unfit: sound or transcript cannot be used.
    """
    import numpy as np

    from hfcourse.data.audio import UnreadableAudio
    from hfcourse.data.forced_alignment import align, frames_needed
    from hfcourse.data.transcripts import STAR, words_of
    from hfcourse.data.utterances import Words

    lines = [words_of(line) for line in text.lines]
    numbers, counts, lacking = recognizer.spelling.words([word for words in lines for word in words])
    tokens = np.array(numbers, dtype=np.int64)
    known = np.unique(tokens[tokens != STAR])
    if not len(known):
        raise _Unfit("its transcript is empty" if not lines else "the model knows nothing of its transcript")
    try:
        answers = recognizer.emissions(text.audio, known.tolist(), scratch)
    except UnreadableAudio as error:
        raise _Unfit(str(error)) from error
    # Columns: a pause, the star, then what is known.
    columns = np.where(tokens == STAR, 1, 2 + np.searchsorted(known, tokens))
    if (needed := frames_needed(columns)) > len(answers.values):
        raise _Unfit(
            f"its transcript needs {needed} frames, and {len(answers.values) * answers.hop:.1f} s of sound have "
            f"{len(answers.values)}: is it that of another recording?"
        )
    spans = align(answers.values, columns)
    words = Words(
        texts=[word for words in lines for word in words],
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        begins=answers.middles[spans.begins] - answers.hop / 2,
        ends=answers.middles[spans.ends - 1] + answers.hop / 2,
        scores=np.where(tokens == STAR, 0.0, spans.scores),
        frames=np.where(tokens == STAR, 0, spans.ends - spans.begins),
    )
    segments, notes = _segments(words, text, [len(line) for line in lines], config, answers.seconds)
    return Aligned(segments, lacking, [*text.notes, *notes])


def _segments(
    words: Words, text: Transcript, counts: Sequence[int], config: AlignConfig, last: float
) -> tuple[list[Segment], list[str]]:
    """Utterances of a recording that ends at `last`, whose lines have so many words; and what was left out."""
    notes = []
    cut = words.cut(config.longest - 2 * config.margin) if len(counts) == 1 and config.longest else []
    if len(cut) > 1:
        told = [(low, high, " ".join(words.texts[low:high]), "") for low, high in cut]
        if any(text.translations):
            notes.append("its translation is left out, as nothing tells where its parts begin")
    else:
        edges = pairwise(accumulate(counts, initial=0))
        told = [(*edge, line, other) for edge, line, other in zip(edges, text.lines, text.translations, strict=True)]
    said = [one for one in told if words.offsets[one[1]] > words.offsets[one[0]]]
    if len(said) < len(told):
        notes.append(f"{len(told) - len(said)} lines without a word left out")
    starts, ends = words.times([(low, high) for low, high, *_ in said], margin=config.margin, last=last)
    segments = [
        Segment(text.file, line, translation, round(start, 3), round(end, 3), words.confidence(low, high))
        for (low, high, line, translation), start, end in zip(said, starts, ends, strict=True)
    ]
    return segments, notes


def _write(place: Path, segments: Sequence[Segment]) -> None:
    """The table, whole or not at all."""
    names = [one.name for one in dataclasses.fields(Segment)]
    lines = ["\t".join(names), *("\t".join(str(getattr(one, name)) for name in names) for one in segments)]
    side = place.with_name(f".{place.name}.side.partial")
    side.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    side.replace(place)


def _notes(found: Sequence[Aligned], faults: Sequence[str], config: AlignConfig) -> list[str]:
    """What a person should know of the table."""
    segments = [segment for one in found for segment in one.segments]
    notes = [f"{one.segments[0].file}: {note}" for one in found for note in one.notes if one.segments]
    if faults:
        notes.append(f"{len(faults)} of {len(faults) + len(found)} recordings left out: {_shown(faults)}")
    lacking: Counter[str] = Counter()
    for one in found:
        lacking.update(one.lacking)
    if lacking:
        named = _shown([f"{sign!r} {count}" for sign, count in lacking.most_common()])
        notes.append(f"{lacking.total()} characters that the model lacks were taken for anything: {named}")
    doubtful = [one for one in segments if not one.confidence >= config.doubt]
    if doubtful:
        named = _shown([f"{one.file} at {one.start:.1f} s" for one in doubtful])
        notes.append(
            f"{len(doubtful)} of {len(segments)} utterances are suspicious (confidence below {config.doubt:g}): {named}"
        )
    return notes


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
