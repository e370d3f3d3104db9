"""Words with tags: CoNLL-2003 and its relatives, and CoNLL-U."""

from __future__ import annotations

from pathlib import Path

import pytest
from hfcourse_datasets.conll2003 import iob2
from seqeval.scheme import IOB1, IOB2, Entities

from hfcourse.data.loading import load

from .build import Rows, built, failure, write

FOUR_COLUMNS = """-DOCSTART- -X- -X- O

U.N. NNP I-NP I-ORG
official NN I-NP O
Ekeus NNP I-NP I-PER
Rolf NNP I-NP B-PER

-DOCSTART- -X- O O

Baghdad NNP I-NP I-LOC
. . O O
"""
UD = """# newdoc id = a
# text = I don't.
1\tI\tI\tPRON\tPRP\t_\t2\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_
3.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_
4\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_

# text = 1 000
1\t1\u00a0000\t1000\tNUM\tCD\t_\t0\troot\t_\t_
"""


def test_four_columns(tmp_path: Path) -> None:
    """The names of the original files: eng.train, eng.testa, eng.testb."""
    for name in ("eng.train", "eng.testa", "eng.testb"):
        write(tmp_path / "c" / name, FOUR_COLUMNS)
    write(tmp_path / "c" / "README.txt", "What this is.\n")
    rows = [
        {"tokens": ["U.N.", "official", "Ekeus", "Rolf"], "tags": ["B-ORG", "O", "B-PER", "B-PER"]},
        {"tokens": ["Baghdad", "."], "tags": ["B-LOC", "O"]},
    ]
    assert built("conll2003", tmp_path / "c") == {"train": rows, "dev": rows, "test": rows}


def test_two_columns_and_odd_blanks(tmp_path: Path) -> None:
    text = "a\tB-x\nb c\tI-x\n \t \n\n\u00e9\u00a0f\tO\r\n"
    path = write(tmp_path / "c" / "mine.conll.gz", text)
    rows = [{"tokens": ["a", "b c"], "tags": ["B-x", "I-x"]}, {"tokens": ["\u00e9\u00a0f"], "tags": ["O"]}]
    assert built("conll2003", path) == built("conll2003", path.parent) == {"train": rows}
    path = write(tmp_path / "d" / "mine.conll", "1\u00a0000 B-n\n  x   O \n")
    assert built("conll2003", path)["train"][0]["tokens"] == ["1\u00a0000", "x"]


def test_iob1_becomes_iob2() -> None:
    """The same entities, read by an independent reader of each scheme."""
    cases = [
        "I-A I-A O I-A B-A I-A",
        "I-A I-B B-B I-B O",
        "O O",
        "I-A O I-A",
    ]
    for case in cases:
        tags = case.split()
        fixed = iob2(tags)
        assert Entities([tags], IOB1).entities == Entities([fixed], IOB2).entities
        assert iob2(fixed) == fixed
    assert iob2(["B-A", "I-A", "I-B", "I-B", "O", "B-B"]) == ["B-A", "I-A", "B-B", "I-B", "O", "B-B"]
    assert iob2(["I-A", "I-A", "B-A", "I-B", "O", "I-B"]) == ["B-A", "I-A", "B-A", "B-B", "O", "B-B"]
    assert iob2(["NOUN", "VERB"]) == ["NOUN", "VERB"]


def test_ranges_and_empty_nodes(tmp_path: Path) -> None:
    for name in ("en-ud-train.conllu", "en-ud-dev.conllu.gz"):
        write(tmp_path / "u" / name, UD)
    words = [["I", "do", "n't", "."], ["1\u00a0000"]]

    def rows(*tags: str) -> Rows:
        found = [{"tokens": t, "tags": g.split()} for t, g in zip(words, tags, strict=True)]
        return {"train": found, "dev": found}

    assert built("conllu", tmp_path / "u") == rows("PRON AUX PART PUNCT", "NUM")
    assert built("conllu/xpos", tmp_path / "u") == rows("PRP VBP RB .", "CD")


@pytest.mark.parametrize(
    ("builder", "name", "text", "message"),
    [
        ("conll2003", "train.txt", "a O\n\nb\n", "train.txt, line 3: a word without a tag: 'b'"),
        ("conll2003", "train.md", "a O\n", "expected a file, or files named train, dev and test"),
        ("conllu", "train.conllu", "1\tI\tI\tPRON\n", "train.conllu, line 1: 4 columns, CoNLL-U has 10"),
        ("conllu", "train.txt", "1\tI\n", "expected a file, or files named train, dev and test"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, builder: str, name: str, text: str, message: str) -> None:
    write(tmp_path / "c" / name, text)
    assert message in failure(builder, tmp_path / "c")


def test_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "c" / "train.txt", "")
    path.write_bytes(b"a O\nb\xe9 O\n")
    assert f"{path}, line 2: not UTF-8 (byte 0xe9)" in failure("conll2003", path.parent)


def test_files_that_tell_no_split_are_refused(tmp_path: Path) -> None:
    for name in ("a.conll", "b.conll"):
        write(tmp_path / "c" / name, "a O\n")
    assert "expected a file, or files named train, dev and test" in failure("conll2003", tmp_path / "c")


@pytest.mark.parametrize(
    ("builder", "folder", "sentences", "words"),
    [
        ("conll2003", "wnut17_ner", (3394, 1009, 1287), (62730, 15733, 23394)),
        ("conllu", "ud_english_ewt", (12544, 2001, 2077), (204577, None, None)),
    ],
)
def test_public_files(
    shared_data: Path,
    tmp_path: Path,
    builder: str,
    folder: str,
    sentences: tuple[int, ...],
    words: tuple[int | None, ...],
) -> None:
    found = load(builder, data_dir=str(shared_data / folder), cache_dir=str(tmp_path / "cache"))
    for split, rows, tokens in zip(("train", "dev", "test"), sentences, words, strict=True):
        assert len(found[split]) == rows
        assert tokens is None or sum(map(len, found[split]["tokens"])) == tokens
    tags = {tag for row in found["train"]["tags"] for tag in row}
    assert len(tags) == (13 if builder == "conll2003" else 17)
