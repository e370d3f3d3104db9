"""QUESST 2014 (MediaEval): in which recordings is a spoken query said? Six languages at 8 kHz.

``data_dir`` is ``quesst14Database/`` with ``Audio/``, ``dev_queries/``, ``eval_queries/``, the lists
``scoring/language_key_utterances.lst``, ``language_key_dev.lst``, ``language_key_eval.lst`` and what is right in
``scoring/groundtruth_quesst14_dev/quesst14_dev.rttm`` and ``groundtruth_quesst14_eval/quesst14_eval.rttm``.

Both splits hold all documents and their own queries; there is nothing to train on. The evaluation queries are test.
"""

from __future__ import annotations

import re
from pathlib import Path

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

CONFIGS = {"english": "Non-native English alone, as in SUPERB.", "all": "All languages."}
_ENGLISH = "nnenglish"
_SPLITS = {"dev": "dev", "test": "eval"}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class Quesst14(speech.SpeechBuilder):
    """Rows are documents and queries; ``matches`` names the documents in which a query is spoken."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "english"
    LAYOUT = "quesst14Database/ with Audio/, dev_queries/, eval_queries/ and scoring/"

    def _info(self) -> datasets.DatasetInfo:
        role = speech.classes(["document", "query"])
        return speech.columns(role=role, matches=speech.STRINGS, language=speech.STRING)

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder("Audio")
        scoring = files.needed(root, "scoring", "lists and ground truth")
        audio = files.needed(root, "Audio", "the documents")
        documents = [
            {"id": path.stem, "audio": path, "role": "document", "matches": [], "language": language}
            for path, language in self._listed(scoring, "utterances", audio)
        ]
        known = {str(row["id"]) for row in documents}
        splits = {}
        for split, name in _SPLITS.items():
            folder = files.child(root, f"{name}_queries")
            if folder is not None:
                queries = self._listed(scoring, name, folder)
                truth = _truth(scoring, name)
                splits[split] = documents + [_query(path, language, truth, known) for path, language in queries]
        return splits

    def _listed(self, scoring: Path, name: str, folder: Path) -> list[tuple[Path, str]]:
        """Files of one of the lists, with their languages."""
        path = files.needed(scoring, f"language_key_{name}.lst", "files and their languages")
        found = lists.fields(path, 2, f"quesst14Database/{folder.name}/quesst14_00001.wav nnenglish")
        listed = [(folder / Path(cells[0]).name, cells[1]) for _, cells in found]
        return [pair for pair in listed if self.config.name == "all" or pair[1] == _ENGLISH]


def _query(path: Path, language: str, truth: dict[str, list[str]], known: set[str]) -> speech.Row:
    matches = [name for name in truth.get(path.stem, []) if name in known]
    return {"id": path.stem, "audio": path, "role": "query", "matches": matches, "language": language}


def _truth(scoring: Path, name: str) -> dict[str, list[str]]:
    """The documents of each query."""
    folder = files.needed(scoring, f"groundtruth_quesst14_{name}", "which query is in which document")
    path = files.needed(folder, f"quesst14_{name}.rttm", "which query is in which document")
    found: dict[str, dict[str, None]] = {}
    for _, line in lists.lines(path):
        # LEXEME quesst14_00001 1 0.0 2.5 quesst14_dev_0001 lex 1 0.5
        if match := re.match(rf"LEXEME\s+(quesst14_\d+)\s.*?\b(quesst14_{name}_\d+)\b", line):
            found.setdefault(match[2], {})[match[1]] = None
    if not found:
        raise ValueError(f"{path}: no line 'LEXEME quesst14_00001 ... quesst14_{name}_0001 ...' in it")
    return {query: list(documents) for query, documents in found.items()}
