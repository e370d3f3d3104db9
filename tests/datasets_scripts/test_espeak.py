from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hfcourse_datasets import _espeak
from hfcourse_datasets import _spoken_texts as texts
from hfcourse_datasets._espeak import Espeak, Voice
from hfcourse_datasets._spoken_phones import ARPABET, PHONES
from hfcourse_datasets._spoken_voices import ACCENTS, DIALECTS, VARIANTS, accented, identities, speakers

from hfcourse.data.loading import load
from hfcourse.errors import DataError

pytest.importorskip("espeakng_loader")
FOX = "the quick brown fox jumps over the lazy dog"


def test_copies_know_nothing_of_each_other() -> None:
    with Espeak() as one, Espeak() as other:
        first = one.say(FOX, Voice("gmw/en-US+f3"))
        other.say("une autre phrase", Voice("roa/fr+croak", rate=250))
        second = one.say("nine", Voice("gmw/en-US"))
    with Espeak() as again:
        for before, text, voice in ((first, FOX, "gmw/en-US+f3"), (second, "nine", "gmw/en-US")):
            after = again.say(text, Voice(voice))
            assert np.array_equal(before.samples, after.samples) and before.phonemes == after.phonemes


def test_every_variant_is_always_the_same() -> None:
    """Two that the library has are not: their breath depends on what lay in the memory before."""
    variants = [variant for names in VARIANTS.values() for variant in names]

    def said(variant: str) -> bytes:
        with Espeak() as espeak:
            return espeak.say("five old ships", Voice(f"gmw/en-US+{variant}")).samples.tobytes()

    forwards = {variant: said(variant) for variant in variants}
    backwards = {variant: said(variant) for variant in reversed(variants)}
    assert forwards == backwards and len(set(forwards.values())) == len(variants)


def test_phonemes_of_a_word() -> None:
    with Espeak() as espeak:
        speech = espeak.say("nine", Voice("gmw/en-US"))
        assert [name for name, _ in speech.phonemes if not name.startswith("_")] == ["n", "aI", "n"]
        assert espeak.transcribed("nine dogs", Voice("gmw/en-US")) == "n'aIn d'0gz"
        again = espeak.say("n'aIn", Voice("gmw/en-US"), phonemes=True)
        assert [name for name, _ in again.phonemes] == [name for name, _ in speech.phonemes]
        assert espeak.rate == 22050 and speech.samples.dtype == np.int16


def test_rate_pitch_and_volume() -> None:
    with Espeak() as espeak:
        usual, fast, soft, high = (
            espeak.say(FOX, Voice("gmw/en-US", **change)).samples.astype(float)
            for change in ({}, {"rate": 300}, {"volume": 30}, {"pitch": 90})
        )
    assert len(fast) < 0.7 * len(usual)
    assert np.std(soft) < 0.5 * np.std(usual)
    assert fundamental(high) > 1.3 * fundamental(usual)


def fundamental(samples: np.ndarray, rate: int = 22050) -> float:
    """The median pitch of voiced pieces, by autocorrelation, in hertz."""
    pieces = [samples[at : at + 1024] * np.hanning(1024) for at in range(0, len(samples) - 1024, 512)]
    found = []
    for piece in pieces:
        alike = np.correlate(piece, piece, "full")[1023:]
        lag = 55 + int(np.argmax(alike[55:360]))
        if alike[lag] > 0.5 * alike[0] > 0:
            found.append(rate / lag)
    return float(np.median(found))


def test_every_word_is_made_of_known_phones() -> None:
    words = sorted({*texts.words(), *texts.DIGITS, *texts.COMMANDS})
    combinations = [*((dialect, "") for dialect in DIALECTS), *(("en", accent) for accent in ACCENTS)]
    heard = set()
    with Espeak() as espeak:
        for number, (dialect, accent) in enumerate(combinations):
            voice = Voice(f"gmw/{dialect}", rate=450)
            some = words[number % 5 :: 5]
            for start in range(0, len(some), 60):
                text = " ".join(some[start : start + 60])
                if accent:
                    text = accented(espeak.transcribed(text, voice), accent)
                heard |= {name for name, _ in espeak.say(text, voice, phonemes=bool(accent)).phonemes}
    unknown = {name for name in heard if not name.startswith("_")} - ARPABET.keys()
    assert not unknown
    assert {ARPABET[name] for name in heard if name in ARPABET} >= set(PHONES)


def test_accents() -> None:
    right = "DIs Iz D@2 r'aIt bV#b_:_: T'INz w'EloU g'Ud"
    assert accented(right, "") == right
    assert accented("DIs T'IN Iz r'aIt g'Ud w'i: h'ad", "german") == "zIs s'IN Is R'aIt g'Ut v'i: h'at"
    assert accented("DIs Iz h'aI", "french") == "zi:s i:z 'aI"
    assert accented("T'INz w'El g'oU d'eI", "indian") == "t['INz v'El g'o: d'e:"
    assert accented("v'Eri b'Iz", "spanish") == "b'E*i b'is"
    assert accented("w'IDaU b'ag_:", "slavic") == "v'IdaU b'ak_:"


def test_no_variant_is_in_two_splits() -> None:
    names = [variant for variants in VARIANTS.values() for variant in variants]
    assert len(names) == len(set(names))
    everybody = [speaker for split in VARIANTS for speaker in speakers(split)]
    assert len({speaker.name for speaker in everybody}) == len(everybody) > 150
    assert {speaker.variant for speaker in identities()} == set(names)
    assert {speaker.accent for speaker in everybody} == set(ACCENTS)
    assert {speaker.dialect for speaker in everybody} == set(DIALECTS)


# What may be missing


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError) as error:
        load("spoken/digits", cache_dir=str(tmp_path))
    assert str(error.value).endswith("pip install 'hfcourse[speech]'") and "\n" not in str(error.value)


def test_a_library_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import espeakng_loader

    broken = tmp_path / "libespeak-ng.so"
    broken.write_text("no library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(broken))
    with pytest.raises(FileNotFoundError, match=r"cannot load espeak-ng .* pip install 'hfcourse\[speech\]'$"):
        Espeak()


def test_without_its_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot read its data there: install espeakng-loader again$"):
        Espeak()


def test_the_path_to_the_data_is_kept_short(tmp_path: Path) -> None:
    long = "x" * 200
    assert len(_espeak._short(f"/{long}", str(tmp_path))) < 130
    folder = tmp_path / long[:100] / long[:100]
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="set TMPDIR to a short one"):
        _espeak._short("/data", str(folder))


def test_no_such_voice() -> None:
    with Espeak() as espeak, pytest.raises(ValueError, match=r"no voice 'gmw/xx'$"):
        espeak.say("one", Voice("gmw/xx"))
