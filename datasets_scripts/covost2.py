"""CoVoST 2 (arXiv 2007.10310): speech of Common Voice 4 with its translation.

``data_dir`` is the folder with Common Voice's ``clips/`` and ``covost_v2.SRC_TGT.train.tsv``, ``.dev.tsv``,
``.test.tsv`` (or the published ``covost_v2.SRC_TGT.tsv`` and Common Voice's ``validated.tsv``, from which these come);
or the one above it. A config is a pair that is there, such as ``en_de``; none has to be named where there is but one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

_SPLITS = ("train", "dev", "test")
# The published table holds splits of the first version too (dev_covost, test_covost), which the second leaves out.
_PUBLISHED = {"train": "train", "train_covost": "train", "dev": "dev", "test": "test"}
_NAME = r"covost_v2\.([\w-]+_[\w-]+?)(\.(train|dev|test))?\.tsv"


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


def configs(data_dir: str | None) -> list[str]:
    """The pairs of languages whose tables lie in a folder or right below it."""
    root = files.root(data_dir) if data_dir is not None else None
    if root is None or not root.is_dir():
        return []
    tables = [path for folder in (root, *files.subfolders(root)) for path in files.matching(folder, _NAME)]
    return sorted({pair[1] for path in tables if (pair := re.fullmatch(_NAME, path.name, re.IGNORECASE))})


class Covost2(speech.SpeechBuilder):
    """Rows are clips: ``text`` in the language that is spoken, ``translation`` in the other."""

    LAYOUT = "a folder with clips/ and covost_v2.en_de.train.tsv, ... (or covost_v2.en_de.tsv and validated.tsv)"

    def _info(self) -> datasets.DatasetInfo:
        return speech.columns(text=speech.STRING, translation=speech.STRING)

    def rows(self) -> dict[str, list[speech.Row]]:
        pair = self.config.name
        whole = rf"covost_v2\.{re.escape(pair)}\.tsv"
        parts = {split: rf"covost_v2\.{re.escape(pair)}\.{split}\.tsv" for split in _SPLITS}
        root = self.folder(whole, *parts.values())
        clips = _clips([root, files.root(str(self.config.data_dir))], pair.partition("_")[0])
        tables = {split: files.matching(root, pattern) for split, pattern in parts.items()}
        if not any(tables.values()):
            return _joined(files.matching(root, whole)[0], root, clips)
        names = ("path", "sentence", "translation", "client_id")
        return {
            split: [
                _row(clips, cells["path"], cells["client_id"], cells["sentence"], cells["translation"])
                for path in found
                for _, cells in lists.table(path, names, escaped=True)
            ]
            for split, found in tables.items()
        }


def _clips(folders: Iterable[Path], language: str) -> Path:
    """Where the clips are: in one of these folders, or in one of the language in them."""
    homes = [home for folder in folders for home in (folder, files.child(folder, language)) if home is not None]
    found = [clips for home in homes if (clips := files.child(home, "clips")) is not None]
    return found[0] if found else homes[0] / "clips"


def _joined(path: Path, root: Path, clips: Path) -> dict[str, list[speech.Row]]:
    """The splits that CoVoST's own script makes of its table and Common Voice's validated sentences."""
    validated = files.needed(root, "validated.tsv", f"Common Voice 4's sentences for {path.name}")
    wanted = {cells["path"]: cells for _, cells in lists.table(path, ("path", "translation", "split"), escaped=True)}
    rows: dict[str, list[speech.Row]] = {split: [] for split in _SPLITS}
    for _, cells in lists.table(validated, ("path", "sentence", "client_id"), escaped=True):
        found = wanted.get(cells["path"], {})
        if (split := _PUBLISHED.get(found.get("split", ""))) is not None:
            rows[split].append(_row(clips, cells["path"], cells["client_id"], cells["sentence"], found["translation"]))
    return rows


def _row(clips: Path, name: str, speaker: str, text: str, translation: str) -> speech.Row:
    name = name if Path(name).suffix else f"{name}.mp3"
    return {"id": Path(name).stem, "audio": clips / name, "speaker": speaker, "text": text, "translation": translation}
