"""spoken: speech made on the user's machine by espeak-ng (extra ``speech``), for every kind of speech task.

Always the same for a version of espeak-ng: what is said, by whom and in which room and noise is drawn by config, split
and row. Voices of dev and test are not heard in train, except in ``speakers``, which is about knowing them again. No
two splits of a config share a text, except the single words of ``commands`` and ``digits``. ``data_dir`` is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets

from . import _espeak
from . import _spoken_rows as rows
from . import _spoken_scenes as scenes
from . import _spoken_texts as texts
from ._augment import NOISES
from ._espeak import Espeak
from ._speech import audio
from ._spoken_languages import SOURCES
from ._spoken_phones import PHONES
from ._spoken_voices import identities
from ._studio import Row, Studio
from .base import fingerprint_of

CONFIGS = {
    "unlabelled": "English and thirty other languages, some two hours and a half. For pretraining.",
    "commands": "A second -> one of ten words, another word or silence (as Speech Commands).",
    "digits": "A second -> a digit.",
    "speakers": "A sentence -> which of the voices says it; dev and test have the voices of train.",
    "phones": "A sentence -> which of 39 phones is said when.",
    "sentences": "A sentence -> its transcript.",
    "intents": "An order for a home -> action, object and location (as Fluent Speech Commands).",
    "slots": "A request -> its transcript and the words that fill its slots (as SNIPS).",
    "prosody": "A sentence -> pace, pitch and volume, each as usual for the voice or not.",
    "mixtures": "Two people in one recording -> who speaks when, and each of them alone.",
    "verification": "Two recordings -> the same voice or not; train has single ones with their speaker.",
    "queries": "A spoken word -> the sentences in which it is said.",
    "noisy": "A voice in noise -> the voice.",
    "translation": "A German, French or Mandarin phrase -> its transcript, and in English.",
    "lecture": "A lecture in Mandarin with English terms -> its transcript, and in English.",
}
_MAKERS: dict[str, Callable[[Studio, int], Iterator[Row]]] = {
    "unlabelled": rows.unlabelled,
    "commands": rows.commands,
    "digits": rows.digits,
    "speakers": rows.voices,
    "phones": rows.phones,
    "sentences": rows.sentences,
    "intents": rows.intents,
    "slots": rows.slots,
    "prosody": rows.prosody,
    "mixtures": scenes.mixtures,
    "verification": scenes.verification,
    "queries": scenes.queries,
    "noisy": scenes.noisy,
    "translation": rows.translation,
    "lecture": rows.lectures,
}
_USUAL_SIZE = {"train": 2000, "dev": 400, "test": 600}
SIZES = dict.fromkeys(CONFIGS, _USUAL_SIZE) | {
    "unlabelled": {"train": 3600, "dev": 150, "test": 150},
    "mixtures": {"train": 400, "dev": 80, "test": 120},
    "lecture": {"train": 1500, "dev": 300, "test": 400},
    "verification": {"train": 1500, "dev": 300, "test": 400},
    "queries": {"train": 800, "dev": 300, "test": 400},
    "noisy": {"train": 1000, "dev": 150, "test": 200},
}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder, the modules that it is made of and the version of espeak-ng."""
    private = sorted(Path(__file__).parent.glob("_*.py"))
    names = {"_espeak", "_augment", "_speech", "_studio", "_templates", "_splits"}
    used = [path for path in private if path.stem in names or path.stem.startswith("_spoken_")]
    return fingerprint_of(__file__, extra="".join([*map(_source, used), _espeak.version(), str(SIZES)]))


def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


class Spoken(datasets.GeneratorBasedBuilder):
    """See `CONFIGS`."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012

    def _info(self) -> datasets.DatasetInfo:
        name = self.config.name
        return datasets.DatasetInfo(CONFIGS[name], features=datasets.Features(_shared() | _features()[name]))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        sizes = SIZES[self.config.name]
        return [datasets.SplitGenerator(split, {"split": split, "count": count}) for split, count in sizes.items()]

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, Row]]:
        yield from enumerate(made(self.config.name, split, count))


def made(config: str, split: str, count: int) -> Iterator[Row]:
    """The first rows of a split.

    Raises:
        FileNotFoundError: espeak-ng is not installed.
    """
    with Espeak() as espeak:
        yield from _MAKERS[config](Studio(espeak, config, split), count)


def _shared() -> Row:
    text = datasets.Value("string")
    return {"id": text, "audio": audio(), "speaker": text, "seconds": datasets.Value("float32")}


def _features() -> dict[str, Row]:
    """What the configs have beside `_shared`."""
    text, real, names = datasets.Value("string"), datasets.Value("float32"), datasets.ClassLabel
    strings, reals = datasets.List(text), datasets.List(real)
    phones = datasets.List(names(names=list(PHONES)))
    turns = datasets.List({"speaker": datasets.Value("int32"), "start": real, "end": real})
    prosody = {"rate": rows.RATES, "pitch": rows.PITCHES, "volume": rows.VOLUMES}
    combined = ["-".join((a, b, c)) for a in rows.RATES for b in rows.PITCHES for c in rows.VOLUMES]
    orders = {"action": texts.ACTIONS, "object": texts.OBJECTS, "location": texts.LOCATIONS}
    return {
        "unlabelled": {"language": text},
        "commands": {"label": names(names=list(rows.COMMANDS))},
        "digits": {"label": names(names=list(texts.DIGITS))},
        "speakers": {"label": names(names=[speaker.name for speaker in identities()])},
        "phones": {"text": text, "phones": phones, "starts": reals, "ends": reals},
        "sentences": {"text": text},
        "intents": {"text": text} | {name: names(names=list(found)) for name, found in orders.items()},
        "slots": {"text": text, "tokens": strings, "tags": datasets.List(names(names=list(texts.TAGS)))},
        "prosody": {"text": text, "label": names(names=combined)}
        | {name: names(names=list(found)) for name, found in prosody.items()},
        "mixtures": {"segments": turns, "sources": datasets.List(audio())},
        "verification": {"audio_pair": audio(), "label": names(names=["different", "same"])},
        "queries": {"role": names(names=["document", "query"]), "text": text, "matches": strings},
        "noisy": {"clean": audio(), "text": text, "noise": names(names=list(NOISES)), "snr": real},
        "translation": {"text": text, "translation": text, "language": names(names=list(SOURCES))},
        "lecture": {"text": text, "translation": text},
    }
