"""Few-shot multiple choice beside lm-evaluation-harness: the same likelihoods from the same model, and their time.

Which of four topics of Python's reference does a sentence belong to? The options are the topics' names, or the letters
A to D, of one token each, which the harness too reads off one forward pass. The same model folder, prompts and options
go through `hfcourse.prompting.scorer` and through the harness's `HFLM.loglikelihood`, at 16 shots of a fixed draw and
at none, fp32, with the same transformers and allocator. Tokenisation is part of the time, loading is not. The harness
gets the fastest of `--batches` (its own default is 1); ours has its defaults. Without `--model` the model is
GPT-2-shaped (4 layers x 256) with random weights, so its accuracy is chance and only has to be equal. The first run
makes the harness an environment of its own (`--env`), which borrows this one's packages. The processes stay and take
turns; `in_context_worker.py` is one of them.

    python benchmarks/in_context.py [--model FOLDER] [--rows 100] [--rounds 3] [--shots 16 0] [--batches 1 8 32]
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import statistics
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from workers import Worker, environment

LIBRARY = "lm-eval==0.4.13"
LETTERS = "ABCD"


def random_model(folder: Path) -> Path:
    """A small GPT-2 and a tokenizer of Python's reference, made once."""
    if not (folder / "config.json").is_file():
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        from hfcourse.data.tokenizers import TokenizerConfig, train

        tokenizer: Any = train(topics.values(), TokenizerConfig(kind="bpe", lowercase=False, max_length=2048))
        tokenizer.backend_tokenizer.post_processor = None
        tokenizer.eos_token = "[SEP]"
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
        config = GPT2Config(vocab_size=len(tokenizer), n_embd=256, n_layer=4, n_head=4, n_positions=2048, **ends)
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
        for parameter in model.parameters():  # far from uniform: a token at a wrong place shows
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.05)
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder


def questions(rows: int, shots: int, kind: str) -> list[dict[str, Any]]:
    """Sentences with their topic and three others; all have the same examples."""
    draw = random.Random(0)
    pairs = [
        (" ".join(sentence.split()), topic)
        for topic, text in topics.items()
        for sentence in re.split(r"(?<=\.)\s+", text)
        if 60 < len(sentence) < 200
    ]
    draw.shuffle(pairs)
    found = []
    for sentence, topic in [*pairs[:shots], *pairs[100 : 100 + rows]]:
        names = [topic, *draw.sample(sorted(topics.keys() - {topic}), len(LETTERS) - 1)]
        draw.shuffle(names)
        listed = "".join(f"{letter}. {name}\n" for letter, name in zip(LETTERS, names, strict=True))
        query = f"Text: {sentence}\n{listed if kind == 'letters' else ''}Topic:"
        options = [f" {name}" for name in (LETTERS if kind == "letters" else names)]
        found.append({"query": query, "options": options, "gold": names.index(topic)})
    shared = "".join(f"{shown['query']}{shown['options'][shown['gold']]}\n\n" for shown in found[:shots])
    return [{"shared": shared, **asked} for asked in found[shots:]]


def accuracy(scores: list[list[float]], asked: list[dict[str, Any]]) -> float:
    """Share of questions whose own topic is the likeliest."""
    right = [row.index(max(row)) == question["gold"] for row, question in zip(scores, asked, strict=True)]
    return statistics.mean(right)


def compare(ours: Worker, theirs: Worker, shots: int, kind: str, given: argparse.Namespace, folder: Path) -> str:
    """A row of the table; the harness's batch is chosen on a fifth of the questions."""
    asked = questions(given.rows, shots, kind)
    file, few = folder / "all.json", folder / "few.json"
    file.write_text(json.dumps(asked))
    few.write_text(json.dumps(asked[: max(len(asked) // 5, 1)]))
    tried = {batch: theirs.ask(file=str(few), batch=batch)["seconds"] for batch in given.batches}
    batch = min(tried, key=lambda one: tried[one])
    ours.ask(file=str(few), batch=0)
    jobs = [(ours, 0), (theirs, batch)]
    seconds: dict[str, list[float]] = {side.name: [] for side, _ in jobs}
    answers = {}
    for round_ in range(given.rounds):
        for side, size in jobs if round_ % 2 else reversed(jobs):
            answers[side.name] = side.ask(file=str(file), batch=size)
            seconds[side.name].append(answers[side.name]["seconds"])
    first, second = (answers[side.name]["scores"] for side, _ in jobs)
    apart = max(abs(a - b) for left, right in zip(first, second, strict=True) for a, b in zip(left, right, strict=True))
    times = [statistics.median(seconds[side.name]) for side, _ in jobs]
    right = [f"{accuracy(scores, asked):.3f}" for scores in (first, second)]
    cells = [
        kind,
        shots,
        len(asked),
        *(f"{time:.2f}" for time in times),
        batch,
        f"{times[1] / times[0]:.2f} x",
        f"{apart:.1e}",
    ]
    return f"| {' | '.join(map(str, [*cells, *right]))} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder with a causal model and its tokenizer")
    parser.add_argument("--rows", type=int, default=100, help="questions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shots", nargs="+", type=int, default=[16, 0])
    parser.add_argument("--options", nargs="+", choices=("names", "letters"), default=["names", "letters"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32], help="the harness takes the fastest")
    parser.add_argument("--env", type=Path, default=Path("build/lm-eval-env"), help="the harness's environment")
    given = parser.parse_args()
    model = str(given.model or random_model(Path("build/in_context_model")))
    pythons = {"ours": Path(sys.executable), "theirs": environment(given.env, LIBRARY, same_packages=True)}
    sides = [Worker(name, python, "in_context_worker.py", model) for name, python in pythons.items()]
    heads = ["options", "shots", "questions", "ours, s", "lm-eval, s", "its batch", "speed", "likelihoods apart"]
    heads += ["accuracy, ours", "lm-eval"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for kind, shots in itertools.product(given.options, given.shots):
            print(compare(*sides, shots, kind, given, Path(folder)), flush=True)
    for side in sides:
        print(f"{side.name}: {side.setup}")
        side.close()


if __name__ == "__main__":
    main()
