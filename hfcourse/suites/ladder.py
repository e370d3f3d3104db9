"""Models of several sizes that read the same text, asked the same questions: what size does for in-context learning."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from hfcourse.data import loading
from hfcourse.errors import ConfigError
from hfcourse.prompting.compose import Composer
from hfcourse.prompting.tables import read
from hfcourse.run_folder import RunFolder
from hfcourse.suites import prompted

_PAIRS_A_DOCUMENT = 24
_COPIES = 6
"""So often each pair of the training split stands in the text, every time among others."""


class _Unbounded:
    """A model that everything fits."""

    max_length = 10**9

    def count(self, text: str) -> int:
        """Nothing is too long."""
        return 0


def write_corpus(run: RunFolder, translations: str, *, seed: int, prose: int = 0) -> str:
    """Prose and lists of translations as ``corpus/train.jsonl``, once; returns its folder.

    Translations are those of a task's examples, written as the task writes them.

    Args:
        run: where it goes.
        translations: a row of `prompted`, such as ``cldr/phrases``.
        seed: decides which pairs stand together.
        prose: most documents of prose, drawn; 0: all.

    Raises:
        ConfigError: the task's examples are of the split that it asks about.
    """
    place = run.path / "corpus" / "train.jsonl"
    if run.is_main and not place.is_file():
        written = [str(text) for text in loading.load("pydocs/text")["train"]["text"]]
        random.Random(seed).shuffle(written)
        texts = [*written[: prose or None], *_lists(translations, random.Random(seed))]
        random.Random(seed).shuffle(texts)
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        run.write_text("corpus/train.jsonl", "".join(lines))
    return str(place.parent.resolve())


def _lists(task: str, rng: random.Random) -> Iterator[str]:
    """Documents of examples, each pair in several of them."""
    templates, _ = prompted.choose([task], {})
    if len(templates) != 1:
        raise ConfigError(f"translations is {task}, which is {len(templates)} tasks: name one, as in cldr/phrases")
    (template,) = templates
    if template.source.shots == template.source.split:
        raise ConfigError(f"translations is {task}, which has no training split: its questions would be in the text")
    found = read(template, limit=1)
    composer = Composer(found.template, _Unbounded())
    for _ in range(_COPIES):
        places = list(range(len(found.pool)))
        rng.shuffle(places)
        for start in range(0, len(places), _PAIRS_A_DOCUMENT):
            shown = [found.pool[place] for place in places[start : start + _PAIRS_A_DOCUMENT]]
            yield composer.question(shown[0], 0, shown).prompts[0].shared


def summary(trained: Mapping[str, RunFolder], asked: Mapping[str, RunFolder]) -> dict[str, Any]:
    """What ladder.json holds: of each model its size, its loss on text and its scores by number of examples."""
    models = {}
    for name, run in trained.items():
        metrics, scores = run.read_json("metrics.json"), asked[name].read_json("scores.json")
        models[name] = {
            "parameters": metrics["parameters"]["all"],
            "dev": metrics["scores"].get("dev", {}),
            "shots": scores["average"]["shots"],
            "tasks": scores["tasks"],
        }
    first = next(iter(asked.values())).read_json("scores.json")
    return {"models": models, "tasks": first["average"]["tasks"]}
