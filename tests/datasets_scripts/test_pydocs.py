from __future__ import annotations

import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hfcourse_datasets import _docstrings as docs
from hfcourse_datasets import _splits, pydocs
from hfcourse_datasets._prose import Entry, clean, first_sentence, is_english, parse, type_of

RESIZE = '''"""Tools for images."""

def resize(image, size: int = 64, *, mode="cubic"):
    """Change the width and height of an image.

    The larger side of `image` becomes `size` pixels, and the image keeps its shape.

    >>> resize(picture)
    picture

    Args:
        image (`Tensor`): The picture whose pixels are scaled.
        size (`int`, *optional*, defaults to 64): How many pixels the larger
            side has afterwards.
        mode (`str`): Name of the interpolation.

    Raises:
        ValueError: If the size is negative.
    """
    if size < 0:
        raise ValueError(size)
    text = """
  kept as it is
"""
    return image[:size]
'''
OPEN = '''def open_file(path, mode="r"):
    """Open a file and give back its stream.

    Parameters
    ----------
    path : str or Path
        Where the file lies on the disk.
    mode : str, optional
        Whether one reads or writes it.

    See Also
    --------
    close : the opposite of this
    """
    stream = find(path)
    return stream
'''
SEND = '''class Mail:
    """A message that travels between two people."""

    def send(self, receiver, copies=1):
        """Deliver the message to everybody who should read it.

        :param str receiver: Address of the person who gets it.
        :param copies: How often it is printed by them.
        """
        self.box.put(receiver)
        return copies
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three packages: alpha trains, beta is for dev, gamma for test."""
    for name, text in {
        "alpha/images": RESIZE,
        "beta/files": OPEN,
        "gamma/mail": SEND,
        "alpha/tests/test_it": OPEN,
    }.items():
        path = tmp_path / "sources" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "sources"


def build(config: str, data_dir: Path, cache: Path) -> dict[str, list[dict[str, Any]]]:
    fingerprint = pydocs.fingerprint(str(data_dir))
    builder = pydocs.Pydocs(config_name=config, data_dir=str(data_dir), hash=fingerprint, cache_dir=str(cache))
    builder.download_and_prepare()
    return {str(split): table.to_list() for split, table in builder.as_dataset().items()}


def test_a_docstring_in_googles_style(tree: Path) -> None:
    (doc,) = docs.read_file(("alpha", "images", tree / "alpha" / "images.py"))
    assert doc["paragraphs"] == [
        "Change the width and height of an image.",
        "The larger side of `image` becomes `size` pixels, and the image keeps its shape.",
    ]
    assert [tuple(entry.values()) for entry in doc["entries"]] == [
        ("parameters", "image", "`Tensor`", "The picture whose pixels are scaled."),
        ("parameters", "size", "`int`, *optional*, defaults to 64", "How many pixels the larger side has afterwards."),
        ("parameters", "mode", "`str`", "Name of the interpolation."),
        ("raises", "ValueError", "", "If the size is negative."),
    ]
    assert doc["parameters"] == [
        {"name": "image", "annotation": "", "default": ""},
        {"name": "size", "annotation": "int", "default": "64"},
        {"name": "mode", "annotation": "", "default": "'cubic'"},
    ]
    assert doc["raises"] == ["ValueError"]
    assert docs.signature(doc) == "resize(image, size=64, mode='cubic')"
    assert doc["source"].startswith("def resize(image") and '"""Change' not in doc["source"]
    assert '"""\n  kept as it is\n"""' in doc["source"]  # text inside the code is not shifted


@pytest.mark.parametrize(
    ("doc", "paragraphs", "entries"),
    [
        pytest.param(
            "Find it.\n\nParameters\n----------\nx, y : array_like of shape (n,)\n    Points on\n    the plane.\n"
            "\nReturns\n-------\nout : float\n\nReferences\n----------\n.. [1] Somebody.",
            ["Find it.", "out : float"],
            [
                Entry("parameters", "x", "array_like of shape (n,)", "Points on the plane."),
                Entry("parameters", "y", "array_like of shape (n,)", "Points on the plane."),
            ],
            id="numpy",
        ),
        pytest.param(
            "Find it.\n\n:param int depth: how deep\n    one goes.\n:raises KeyError: when it is lost.\n:return: it",
            ["Find it."],
            [
                Entry("parameters", "depth", "int", "how deep one goes."),
                Entry("raises", "KeyError", "", "when it is lost."),
            ],
            id="sphinx",
        ),
        pytest.param(
            "width (`int`, *optional*):\n    How wide it is.\nheight (`int`):\n    How high.",
            [],
            [
                Entry("parameters", "width", "`int`, *optional*", "How wide it is."),
                Entry("parameters", "height", "`int`", "How high."),
            ],
            id="no heading",
        ),
        pytest.param(
            "One line\nand its rest.\n\n- first\n- second\n  goes on\n\nLook::\n\n    code()\n\n    more()\n\n"
            "After.\n\n```python\na = 1\n\nb = 2\n```\n.. math:: x\n\n   y = z\n\nEnd.",
            ["One line and its rest.", "- first\n- second goes on", "Look:", "After.", "End."],
            [],
            id="blocks",
        ),
        pytest.param("A title\n=======\n\nText.\n\n===  ===\na    b\n===  ===\n1    2\n", ["Text."], [], id="tables"),
    ],
)
def test_styles(doc: str, paragraphs: list[str], entries: list[Entry]) -> None:
    assert parse(doc) == (paragraphs, entries)


def test_markup_goes_and_types_stay_whole() -> None:
    text = (
        "Gives :class:`~torch.nn.Module`, ``x`` or *y* of `list[str]` ([`Trainer`], see [here](https://a.b)) a_b * c."
    )
    assert clean(text) == "Gives torch.nn.Module, x or y of list[str] (Trainer, see here) a_b * c."
    assert clean("``x`` or *y*, `z` and w", mark="#") == "#x or #y, #z and w"
    assert type_of("`list[str]`, *optional*, defaults to `None`") == "list[str]"
    assert type_of("int, default=3") == "int"
    assert type_of("{'a', 'b'}, optional (default: 'a')") == "{'a', 'b'}"
    assert type_of("ndarray of shape (n, m)") == "ndarray"
    assert first_sentence("See e.g. The book, of 1.5 kg. It\nis thick.") == "See e.g. The book, of 1.5 kg."
    assert is_english("Return the number of nodes.")
    assert not is_english("x = f(y) + g(z) ** 2")
    assert not is_english("这 是 一 个 测试 句子")


def test_a_hand_worked_tree(tree: Path, tmp_path: Path) -> None:
    text = build("text", tree, tmp_path / "cache")
    assert {split: [row["module"] for row in rows] for split, rows in text.items()} == {
        "train": ["images"],
        "dev": ["files"],
        "test": ["mail"],
    }
    assert text["dev"][0]["text"] == (
        "open_file(path, mode='r')\nOpen a file and give back its stream.\n\n"
        "path (str or Path): Where the file lies on the disk.\nmode (str, optional): Whether one reads or writes it."
    )
    summary = build("summary", tree, tmp_path / "cache")
    assert summary["dev"] == [
        {
            "source": 'def open_file(path, mode="r"):\n    stream = find(path)\n    return stream',
            "summary": "Open a file and give back its stream.",
            "package": "beta",
            "module": "files",
        }
    ]
    terms = build("terms", tree, tmp_path / "cache")
    names = ["O", "B-PARAM", "B-TYPE", "I-TYPE", "B-EXC"]
    tagged = [
        " ".join(f"{w}/{names[t]}" if t else w for w, t in zip(row["tokens"], row["tags"], strict=True))
        for row in terms["train"] + terms["dev"]
    ]
    assert sorted(tagged) == [
        "The larger side of image/B-PARAM becomes size/B-PARAM pixels , and the image keeps its shape .",
        "image/B-PARAM Tensor/B-TYPE The picture whose pixels are scaled . size/B-PARAM int/B-TYPE How many pixels the "
        "larger side has afterwards . mode/B-PARAM str/B-TYPE Name of the interpolation . ValueError/B-EXC If the size "
        "is negative .",
        "path/B-PARAM str/B-TYPE or/I-TYPE Path/I-TYPE Where the file lies on the disk . mode/B-PARAM str/B-TYPE "
        "Whether one reads or writes it .",
    ]


def test_questions_of_a_hand_worked_tree(tree: Path, tmp_path: Path) -> None:
    context = (
        "resize(image, size=64, mode='cubic') Change the width and height of an image. "
        "image (Tensor): The picture whose pixels are scaled. "
        "size (int): How many pixels the larger side has afterwards. mode (str): Name of the interpolation. "
        "ValueError: If the size is negative."
    )
    rows = build("answer", tree, tmp_path / "cache")["train"]
    assert {row["context"] for row in rows} == {context}
    # Every answer that any wording may ask for, and where it stands.
    allowed = {
        "image": {"Tensor", "The picture whose pixels are scaled"},
        "size": {"int", "How many pixels the larger side has afterwards", "64"},
        "mode": {"str", "Name of the interpolation", "'cubic'"},
    }
    assert len(rows) == 2 * 3 + 1  # two for each parameter, one for the exception
    for row in rows:
        (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
        assert context[start : start + len(text)] == text
        asked = [name for name in allowed if re.search(rf"\b{name}\b(?!.*:)", row["question"].split(":")[0])]
        if "if the size is negative" in row["question"]:
            assert text == "ValueError"
        elif ":" in row["question"]:
            assert row["question"].split(": ")[1].rstrip("?") in allowed[text]
        else:
            assert text in allowed[asked[0]]
            assert context[:start].rfind(asked[0]) >= 0
        if text == "64":
            assert context[start - 5 : start] == "size="


CONFIGS = [name for name in pydocs.CONFIGS if name != "docstrings"]


@pytest.fixture(scope="module")
def built(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """All configs over a few packages of the standard library."""
    cache = tmp_path_factory.mktemp("cache")
    return {name: build(name, packages, cache) for name in CONFIGS}


@pytest.mark.parametrize("config", CONFIGS)
def test_no_split_sees_another(built: dict[str, dict[str, list[dict[str, Any]]]], config: str) -> None:
    splits = built[config]
    assert set(splits) == {"train", "dev", "test"}
    key = {"terms": "tokens", "answer": "context", "summary": "source"}.get(config, "text")
    place = {"topic": lambda row: (row["label"], row["module"]), "answer": lambda row: row["id"].split("/")[0]}.get(
        config, lambda row: row["package"]
    )
    for one, other in combinations(splits, 2):
        assert not {place(row) for row in splits[one]} & {place(row) for row in splits[other]}
        assert not {str(row[key]) for row in splits[one]} & {str(row[key]) for row in splits[other]}


def test_pretraining_sees_no_module_of_any_dev_or_test_split(
    built: dict[str, dict[str, list[dict[str, Any]]]], packages: Path
) -> None:
    names = _splits.plan_of(str(packages)).topics
    seen = {(row["package"], row["module"]) for row in built["text"]["train"]}
    assert seen
    for split in ("dev", "test"):
        assert not seen & {(names[row["label"]], row["module"]) for row in built["topic"][split]}
        for config in ("terms", "match", "summary"):
            assert not {package for package, _ in seen} & {row["package"] for row in built[config][split]}


def test_rows_are_what_they_say(built: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    for split in built["answer"].values():
        assert len({row["id"] for row in split}) == len(split)
        for row in split:
            (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
            assert row["context"][start : start + len(text)] == text
            assert len(row["context"].split()) <= 120
    for split in built["terms"].values():
        for row in split:
            assert 8 <= len(row["tokens"]) == len(row["tags"]) <= 60
            assert not any(sign in token for token in row["tokens"] for sign in '`*:"\x01')
            for before, tag in zip([0, *row["tags"]], row["tags"], strict=False):
                assert tag != 3 or before in {2, 3}  # I-TYPE only inside a type


def test_match_takes_the_wrong_signatures_from_elsewhere(
    built: dict[str, dict[str, list[dict[str, Any]]]], tree: Path, tmp_path: Path
) -> None:
    rows = [row for split in built["match"].values() for row in split]
    assert len(rows) > 100 and 0.35 < sum(row["label"] for row in rows) / len(rows) < 0.65
    made = [row for row in rows if re.match(r"Do the \w+ of all", row["text"])]
    for row in made:
        name, parameters = row["text_pair"].rstrip(")").split("(")
        word, package = re.findall(r"Do the (\w+) of all that (\w+)", row["text"])[0]
        assert (name == f"{package}_{word}") == bool(row["label"])
        assert (parameters == f"first_{word}, last_{word}=None") == bool(row["label"])
    train = [row for row in built["match"]["train"] if row["label"] == 0]
    own = [row for row in train if row["text_pair"].startswith(row["package"] + "_")]
    assert len(own) < 0.1 * len(train)  # there are two packages: a few draws may all meet the same one
    # A single function has no other one to be confused with.
    only = build("match", tree, tmp_path / "cache")["train"]
    assert [row["label"] for row in only] in ([1], [])


def test_topic_hides_the_name(tree: Path, tmp_path: Path) -> None:
    text = '"""{0} reads, as alpha.files does, what an alphabet of {0}Error says."""\n'
    for package in ("alpha", "beta", "gamma"):
        for number in range(20):
            (tree / package / f"m{number}.py").write_text(
                text.format(package)
                + f'class A{number}:\n    """Stands for the {package} word number {number} in all."""\n'
            )
    rows = [row for split in build("topic", tree, tmp_path / "cache").values() for row in split]
    names = ("alpha", "beta", "gamma")
    assert {row["label"] for row in rows} == {0, 1, 2}
    assert not [row for row in rows if names[row["label"]] in row["text"].lower()]


def test_the_same_words_under_two_packages_are_no_topic(tree: Path, tmp_path: Path) -> None:
    shared = '"""Helpers that everybody needs once in a while."""\n'
    for package in ("alpha", "beta"):
        (tree / package / "helpers.py").write_text(shared)
        (tree / package / "more.py").write_text(f'"""Some more things that help.\n\nMade for {package}."""\n')
        (tree / package / "own.py").write_text(
            f'"""Whatever {package} does with its {len(package)} letters{package[2:]}."""\n'
        )
    rows = [row["text"] for split in build("topic", tree, tmp_path / "cache").values() for row in split]
    assert not [text for text in rows if text.startswith(("Helpers", "Some more"))]
    assert len([text for text in rows if text.startswith("Whatever")]) == 2


def test_two_builds_are_equal_and_changes_are_seen(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(tree, other)
    for config in CONFIGS:
        if config != "topic":
            assert build(config, tree, tmp_path / "one") == build(config, other, tmp_path / "two")
    before = pydocs.fingerprint(str(tree))
    assert pydocs.fingerprint(str(tree)) == before
    (tree / "beta" / "files.py").write_text(OPEN.replace("Open a file", "Take some file"))
    assert pydocs.fingerprint(str(tree)) != before
    assert build("summary", tree, tmp_path / "one")["dev"][0]["summary"] == "Take some file and give back its stream."


def test_near_copies_are_thinned() -> None:
    def record(doc: str, package: str = "alpha") -> dict[str, Any]:
        return {"doc": doc, "package": package}

    copies = [
        record(f"Construct a {name} model with {size}_layers and its head.")
        for name, size in [("Bert", "a"), ("Albert", "b"), ("Roberta", "c"), ("Electra", "d")]
    ]
    same = [record("Return it."), record("Return it.")]
    shared = [record("Return them."), record("Return them.", "beta")]
    assert pydocs._distinct(copies + same + shared) == copies[:2] + same[:1]


def test_workers_give_what_one_process_gives(packages: Path) -> None:
    """In another process, whose main script has no guard: it must not be run again by the workers."""
    script = packages.parent / "no_guard.py"
    script.write_text(
        "import json, sys\nfrom hfcourse_datasets import _docstrings as docs\nprint('started')\n"
        "alone = [record for file in docs.source_files(sys.argv[1]) for record in docs.read_file(file)]\n"
        "docs._FEWEST_FOR_WORKERS = 2\ndocs._workers = lambda: 3\n"
        "print(json.dumps(docs.read_all(sys.argv[1])) == json.dumps(alone), len(alone) > 100)\n"
    )
    done = subprocess.run([sys.executable, str(script), str(packages)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["started", "True", "True"]


def test_broken_sources_are_passed_over(tree: Path) -> None:
    (tree / "alpha" / "old.py").write_text('print "no Python of today"\n"""text"""')
    (tree / "alpha" / "latin.py").write_bytes(b'"""caf\xe9 is the name of this module"""')
    assert {record["module"] for record in docs.read_all(str(tree))} == {"images", "files", "mail"}


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no folders of Python"):
        build("docstrings", tmp_path, tmp_path / "cache")


def test_docstrings_of_compiled_functions(tmp_path: Path) -> None:
    source = (
        'add_docstr(torch.abs, r"""abs(input)\n\nTakes the absolute value of each element. """'
        ' + r"""And {input} more.""".format(**a))\n'
    )
    path = tmp_path / "_torch_docs.py"
    path.write_text(source)
    (record,) = docs.read_file(("torch", "_torch_docs", path))
    assert (record["name"], record["kind"]) == ("torch.abs", "text")
    assert "Takes the absolute value of each element." in record["doc"]


def test_language_reference_and_the_installed_packages() -> None:
    found = {(package, module): path for package, module, path in docs.source_files(None)}
    packages = [package for package, _ in found]
    assert {"torch", "numpy", "transformers", docs.STANDARD} <= set(packages)
    assert not [module for _, module in found if {"tests", "test", "_vendor"} & set(module.split("."))]
    topics = docs.read_file((docs.STANDARD, "pydoc_data.topics", found[docs.STANDARD, "pydoc_data.topics"]))
    assert {topic["kind"] for topic in topics} == {"topic"}
    assert "lambda" in " ".join(topic["name"] for topic in topics)
    plan = _splits.plan_of(None)
    splits = {package: plan.split_of(package, "x") for package in set(packages) - {docs.STANDARD}}
    assert {"train", "dev", "test"} == set(splits.values())
    modules = {module.split(".")[0] for package, module in found if package == docs.STANDARD}
    shares = [plan.split_of(docs.STANDARD, module) for module in modules]
    assert 0.8 < shares.count("train") / len(shares) < 0.95
    assert {plan.split_of(docs.STANDARD, "email.message")} == {plan.split_of(docs.STANDARD, "email")}


def test_what_dev_or_test_has_is_taken_out_of_train(tree: Path, tmp_path: Path) -> None:
    for package in ("alpha", "gamma"):
        doc = f'"""Look for a thing in the box.\n\n    Made for {package}.\n    """'
        (tree / package / "find.py").write_text(f"def find(key):\n    {doc}\n    return box[key]\n")
    rows = build("summary", tree, tmp_path / "cache")
    assert [row["package"] for split in rows.values() for row in split if "Look for" in row["summary"]] == ["gamma"]
