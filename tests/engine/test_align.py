"""Utterances found where they are known to be, read by the builder, resumed by recording, and what cannot be named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import BertConfig, Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Model

from hfcourse import cli
from hfcourse.data.transcripts import STAR, Spelling
from hfcourse.engine import emissions
from hfcourse.engine.align import AlignConfig, align
from hfcourse.errors import ConfigError, DataError, ModelError, RunFolderError
from hfcourse.model import quiet
from tests.engine import talk
from tests.sounds import RATE

LINES = ["abc de", "aab a", "Bad 'dad.", "\u8ab2 ace \u6211 \u6211", "eee"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for a CTC model which hears tones."""
    net = talk.ToneModel(4 + len(talk.LETTERS))
    monkeypatch.setattr(emissions, "from_pretrained", lambda *_, **__: net)
    yield talk.save(tmp_path / "model")


def config(model: Path, **settings: Any) -> AlignConfig:
    return AlignConfig(model=str(model), **settings)


def rows(place: Path) -> list[dict[str, str]]:
    header, *lines = (line.split("\t") for line in place.read_text().splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def near(found: Any, times: list[tuple[float, float]], by: float = 0.025) -> None:
    assert len(found) == len(times)
    for segment, (begin, end) in zip(found, times, strict=True):
        assert (segment.start, segment.end) == (pytest.approx(begin, abs=by), pytest.approx(end, abs=by))


def test_lines_are_where_they_were_said(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = talk.record(tmp_path / "talk.wav", LINES)
    (tmp_path / "talk.txt").write_text("\n".join(LINES) + "\n")
    found = align(config(model, margin=0.0), tmp_path / "talk.wav", tmp_path / "talk.txt", tmp_path / "out")
    near(found, times)
    assert [segment.transcription for segment in found] == LINES
    assert all(-0.5 < segment.confidence < 0 for segment in found)
    table = rows(tmp_path / "out" / "segments.tsv")
    assert list(table[0]) == ["file", "transcription", "translation", "start", "end", "confidence"]
    assert [float(row["start"]) for row in table] == [segment.start for segment in found]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name != "segments.tsv"]
    # The same where it is heard in chunks of two seconds.
    monkeypatch.setattr(emissions, "CHUNK", 2)
    monkeypatch.setattr(emissions, "CONTEXT", 1)
    cut = align(config(model, margin=0.0), tmp_path / "talk.wav", tmp_path / "talk.txt", tmp_path / "cut")
    near(cut, [(segment.start, segment.end) for segment in found], by=0.0015)
    wide = align(config(model, margin=0.3), tmp_path / "talk.wav", tmp_path / "talk.txt", tmp_path / "wide")
    near(wide, [(begin - 0.3, end + 0.3) for begin, end in times])
    widest = align(config(model, margin=9, longest=20), tmp_path / "talk.wav", tmp_path / "talk.txt", tmp_path / "all")
    assert widest[0].start == 0.0 and [one.end for one in widest[:-1]] == [one.start for one in widest[1:]]


def test_what_the_model_lacks_may_be_anything(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = talk.record(tmp_path / "talk.wav", ["ab", "cazzd", "zz", "de"])
    (tmp_path / "talk.txt").write_text("ab\n\ncazzd\nzz\n...\nde\n")
    found = align(config(model, margin=0.0), tmp_path / "talk.wav", tmp_path / "talk.txt", tmp_path / "out")
    near([found[0], found[3]], [times[0], times[3]])
    near([found[1]], [times[1]], by=talk.LETTER)  # a star beside a letter may take frames of it, but for one
    assert times[1][1] <= found[2].start + talk.LETTER and found[2].end <= times[3][0] + 0.025
    assert [np.isnan(segment.confidence) for segment in found] == [False, False, True, False]
    told = capsys.readouterr().err
    assert "talk.wav: 1 empty lines left out" in told and "talk.wav: 1 lines without a word left out" in told
    assert "4 characters that the model lacks were taken for anything: 'z' 4" in told
    assert "1 of 4 utterances are suspicious (confidence below -2): talk.wav at" in told


def test_another_text_is_suspicious(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk.record(tmp_path / "talk.wav", ["ab", "cad", "de"])
    (tmp_path / "talk.txt").write_text("ab\nebe\nde\n")
    found = align(config(model), tmp_path / "talk.wav", tmp_path / "talk.txt", tmp_path / "out")
    assert found[1].confidence < -2 < min(found[0].confidence, found[2].confidence)
    assert f"1 of 3 utterances are suspicious (confidence below -2): talk.wav at {found[1].start:.1f} s" in (
        capsys.readouterr().err
    )


def test_lectures_are_cut_at_pauses_and_read_by_their_builder(model: Path, tmp_path: Path) -> None:
    from hfcourse.data.loading import load

    root = tmp_path / "lectures"
    said = {f"week{number}.wav": [*LINES, *LINES[: number + 1]] for number in (1, 2, 3)}
    times = {name: talk.record(root / "wavs" / name, lines) for name, lines in said.items()}
    lectures = [f"{name}\t{' '.join(lines)}\tAll of it\n" for name, lines in said.items()]
    (root / "table.tsv").write_text("file\ttranscription\ttranslation\n" + "".join(lectures))
    found = align(config(model, longest=2.2, margin=0.1), root, root / "table.tsv", root)
    for name, lines in said.items():
        own = [segment for segment in found if segment.file == name]
        # By hand: pauses of 0.8 s between lines are longer than those between words, and no line is longer than 2.2 s.
        near(own, [(begin - 0.1, end + 0.1) for begin, end in times[name]])
        assert [one.transcription for one in own] == lines and {one.translation for one in own} == {""}
    tables = load("ml2021_asr_st/segments", data_dir=str(root), cache_dir=str(tmp_path / "cache"))
    assert {split: len(table) for split, table in tables.items()} == {"train": 7, "dev": 8, "test": 9}
    first = tables["train"][0]
    assert (first["text"], first["id"]) == ("abc de", "week1-00000") and first["audio"]["path"].endswith("week1.wav")
    assert first["start"] == pytest.approx(times["week1.wav"][0][0] - 0.1, abs=0.03)


def test_translations_go_with_their_lines(model: Path, tmp_path: Path) -> None:
    talk.record(tmp_path / "talk.wav", ["ab", "de"])
    (tmp_path / "table.csv").write_text('file,transcription,translation\ntalk.wav,"ab\nde","AB\nDE"\n')
    found = align(config(model), tmp_path, tmp_path / "table.csv", tmp_path / "out")
    assert [(one.transcription, one.translation) for one in found] == [("ab", "AB"), ("de", "DE")]
    (tmp_path / "table.csv").write_text("file,transcription,translation\ntalk.wav,ab de,AB DE\n")
    (one,) = align(config(model), tmp_path, tmp_path / "table.csv", tmp_path / "one")
    assert (one.transcription, one.translation) == ("ab de", "AB DE")


def test_it_goes_on_with_the_next_recording(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        talk.record(tmp_path / "talks" / f"{name}.wav", [name, "de"])
        (tmp_path / "talks" / f"{name}.txt").write_text(f"{name}\nde\n")
    talks, out, calls = tmp_path / "talks", tmp_path / "out", []
    true = emissions.Recognizer.emissions

    def failing(self: Any, recording: Path, *rest: Any) -> Any:
        if recording.name == "c.wav" and not calls.count("c.wav"):
            calls.append(recording.name)
            raise KeyboardInterrupt
        calls.append(recording.name)
        return true(self, recording, *rest)

    monkeypatch.setattr(emissions.Recognizer, "emissions", failing)
    with pytest.raises(KeyboardInterrupt):
        align(config(model), talks, talks, out)
    assert not (out / "segments.tsv").exists()
    (talks / "b.txt").write_text("b\n\nde\n")  # the same lines; what is spoken stays
    (talks / "a.txt").write_text("a de\n")
    found = align(config(model), talks, talks, out)
    assert calls == ["a.wav", "b.wav", "c.wav", "a.wav", "c.wav"]
    monkeypatch.setattr(emissions.Recognizer, "emissions", true)
    assert align(config(model), talks, talks, tmp_path / "whole") == found
    assert [path.name for path in out.iterdir()] == ["segments.tsv"]
    with pytest.raises(RunFolderError, match=r"segments.tsv is there already: remove it"):
        align(config(model), talks, talks, out)


def test_recordings_that_cannot_be_aligned_are_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talks = tmp_path / "talks"
    talk.record(talks / "good.wav", ["ab", "de"])
    talk.record(talks / "long.wav", ["ab"])
    (talks / "noise.wav").write_bytes(b"no sound")
    soundfile.write(talks / "empty.wav", np.zeros(0), RATE)
    soundfile.write(talks / "short.wav", np.zeros(300), RATE)
    soundfile.write(talks / "nan.wav", np.full(8000, np.nan), RATE, subtype="FLOAT")
    talk.record(talks / "mute.wav", ["ab"])
    talk.record(talks / "strange.wav", ["ab"])
    texts = {"good": "ab\nde", "long": "abcde " * 40, "mute": "\n\n", "strange": "xyz"}
    for name in ("good", "long", "noise", "empty", "short", "nan", "mute", "strange", "lost"):
        (talks / f"{name}.txt").write_text(texts.get(name, "ab"))
    found = align(config(model), talks, talks, tmp_path / "out")
    assert {segment.file for segment in found} == {"good.wav"}
    told = " ".join(capsys.readouterr().err.split())
    assert "8 of 9 recordings left out: empty.wav: empty, long.wav: its transcript needs 200 frames, and" in told
    for name, message in (
        ("long", r"its transcript needs 200 frames, and 2\.\d s of sound have 1\d\d: is it that of another recording"),
        ("noise", "not audio"),
        ("empty", "empty"),
        ("short", r"too short: 0.02 s"),
        ("nan", "holds nan or inf"),
        ("mute", "its transcript is empty"),
        ("strange", "the model knows nothing of its transcript"),
    ):
        with pytest.raises(DataError, match=rf"{name}.wav: {message}.*leave out --strict"):
            align(config(model, strict=True), talks / f"{name}.wav", talks / f"{name}.txt", tmp_path / name)
        with pytest.raises(DataError, match=rf"no recording could be aligned: {name}.wav: {message}"):
            align(config(model), talks / f"{name}.wav", talks / f"{name}.txt", tmp_path / name)
    with pytest.raises(DataError, match=r"no such file"):
        align(config(model), talks / "lost.wav", talks / "lost.txt", tmp_path / "lost")


def test_wrong_input_is_named(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk.record(tmp_path / "a.wav", ["ab"])
    (tmp_path / "a.txt").write_text("ab")
    (tmp_path / "t.tsv").write_text("name\ttext\na.wav\tab\n")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for audio, transcript, message in (
        ("none.wav", "a.txt", "none.wav: no such file or folder"),
        ("empty", "a.txt", "one text for a folder of recordings"),
        ("a.wav", "empty", "no text files in here"),
        ("a.wav", "t.tsv", "no column 'file': it has name, text"),
    ):
        with pytest.raises(DataError, match=message):
            align(config(model), tmp_path / audio, tmp_path / transcript, out)
    (tmp_path / "t.tsv").write_text("file\ttranscription\na.wav\tab\na.wav\tab\n")
    with pytest.raises(DataError, match=r"row 2: a.wav is there twice"):
        align(config(model), tmp_path, tmp_path / "t.tsv", out)
    with pytest.raises(ConfigError, match="--margin is -1"):
        config(model, margin=-1)
    with pytest.raises(ConfigError, match=r"--longest is 0.3 and --margin 0.2"):
        config(model, longest=0.3)
    words = ["align", "--model", str(model), str(tmp_path / "a.wav"), str(tmp_path / "a.txt"), str(out)]
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 0 and capsys.readouterr().out == f"{out}/segments.tsv: 1 utterances of 1 recordings\n"
    with pytest.raises(SystemExit) as ended:
        cli.main(words[:4])
    assert ended.value.code == 2 and "usage: hfcourse align --model M" in capsys.readouterr().err


# The model


def tiny(**settings: Any) -> Wav2Vec2Config:
    return Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, vocab_size=11, pad_token_id=0, **settings,
    )  # fmt: skip


def test_answers_are_the_models_own(tmp_path: Path) -> None:
    folder = talk.save(tmp_path / "model")
    torch.manual_seed(0)
    with quiet():
        net: Any = Wav2Vec2ForCTC(tiny()).eval()
        net.save_pretrained(folder)
    samples, _ = talk.spoken(["abc"])
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    recognizer = emissions.Recognizer(str(folder))
    found = recognizer.emissions(tmp_path / "a.wav", [5, 4], tmp_path / "scratch")
    with torch.no_grad():
        known = net(torch.from_numpy(samples)[None]).logits[0].softmax(dim=-1).numpy()
    # Blank and the sign between words are a pause; anything else may be said at the star.
    expected = np.log(np.stack([known[:, 0] + known[:, 2], np.ones(len(known)), known[:, 5], known[:, 4]], axis=1))
    assert found.values == pytest.approx(expected, abs=1e-4)
    assert found.middles[:2] == pytest.approx([200 / RATE, 520 / RATE]) and found.hop == pytest.approx(0.02)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    folder = talk.save(tmp_path / "model")
    with quiet():
        net: Any = Wav2Vec2ForCTC(tiny())
        net.lm_head.bias.data[3] = torch.nan
        net.save_pretrained(folder)
    talk.record(tmp_path / "a.wav", ["ab"])
    with pytest.raises(ModelError, match="its answers are nan: its weights are damaged"):
        emissions.Recognizer(str(folder)).emissions(tmp_path / "a.wav", [5], tmp_path / "scratch")


def test_models_without_a_ctc_head_are_named(tmp_path: Path) -> None:
    folder = talk.save(tmp_path / "model")
    with quiet():
        Wav2Vec2Model(tiny()).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"saved without a CTC head: name a model that learned.*HubertForCTC"):
        emissions.Recognizer(str(folder))
    BertConfig(architectures=["BertModel"]).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"a bert has no CTC head: name one of .*Wav2Vec2ForCTC"):
        emissions.Recognizer(str(folder))
    with quiet():
        Wav2Vec2ForCTC(tiny()).save_pretrained(folder)
    for name in ("vocab.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match=r"no tokenizer \(vocab.json\)"):
        emissions.Recognizer(str(folder))


def test_words_are_spelt_by_the_vocabulary(model: Path) -> None:
    spelling = emissions.Recognizer(str(model)).spelling
    tokens, counts, lacking = spelling.words(["Abc", "\u8ab2", "d'e,", "?!", "xayyb", "\uff41"])
    number = {letter: 4 + n for n, letter in enumerate(talk.LETTERS)}
    a, b, c, d, e = (number[letter] for letter in "abcde")
    assert tokens == [a, b, c, number["\u8ab2"], d, 3, e, STAR, a, STAR, b, a]
    assert counts == [3, 1, 3, 0, 4, 1] and lacking == {"x": 1, "y": 2}


def test_words_of_other_tokenizers() -> None:
    """One that cuts words into pieces: what it does not know is a star, several in turn are one."""

    class Pieces:
        all_special_tokens, unk_token_id = ("<unk>",), 0

        def get_vocab(self) -> dict[str, int]:
            return {"<unk>": 0, "ab": 1, "c": 2}

        def __call__(self, word: str, *, add_special_tokens: bool) -> Any:
            assert not add_special_tokens
            return SimpleNamespace(input_ids={"abc": [1, 2], "xy": [0, 0], "cx": [2, 0]}[word])

    assert Spelling(Pieces()).words(["abc", "xy", "cx"]) == ([1, 2, STAR, 2, STAR], [2, 1, 2], {"xy": 1, "cx": 1})
