"""wav2vec 2.0 pretraining: ours beside a plain loop over `transformers.Wav2Vec2ForPreTraining` with its own samplers.

The same config, the same waves and rows a step, AdamW, clipping, cooling codes. Sides: the loop as a user writes it
(fp32, the system's allocator), the loop at our precision and allocator, ours through `fit` in fp32 and bf16. Ours reads
its waves from files (16 kHz wav, 16 kHz flac and 8 kHz flac in turn) and tells which share of a step goes into reading
and batching; the loop finds its waves decoded and padded in memory.

    python benchmarks/wav2vec2.py [--preset wav2vec2-base --rows 4] [--precisions bf16] [--rounds 3] [--steps 8]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from side_by_side import compare, resident, table

RATE, LR, CLIP, COOL = 16_000, 1e-4, 1.0, 0.999995


def make_waves(count: int, seconds: float) -> list[Any]:
    """Noise that swells and fades, float32 at 16 kHz."""
    import numpy as np

    generator = np.random.default_rng(0)
    times = np.arange(round(seconds * RATE)) / RATE
    swell = 0.05 * (1.1 + np.sin(2 * np.pi * 3 * times))
    return [(swell * generator.standard_normal(len(times))).clip(-0.9, 0.9).astype(np.float32) for _ in range(count)]


def write_files(folder: Path, count: int, seconds: float) -> None:
    """The waves as wav and flac, a third of them at half the rate."""
    import soundfile

    for number, wave in enumerate(make_waves(count, seconds)):
        half = number % 3 == 2
        path = folder / f"{number}.{'wav' if number % 3 == 0 else 'flac'}"
        soundfile.write(path, wave[::2] if half else wave, RATE // 2 if half else RATE)


def ours(given: argparse.Namespace) -> dict[str, Any]:
    """Through `fit`, whose log line of each step has its time."""
    from hfcourse import model
    from hfcourse.backbones.load import load_config
    from hfcourse.backbones.settings import BackboneConfig
    from hfcourse.data import extractors
    from hfcourse.engine import machine
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
    from hfcourse.objectives.speech.settings import Wav2Vec2
    from hfcourse.run_folder import RunFolder
    from hfcourse.tasks.base import SpeechContext
    from hfcourse.tasks.speech_pretraining import SpeechPretrainingConfig

    machine.tune_allocator()
    with tempfile.TemporaryDirectory() as place:
        os.environ["HFCOURSE_CACHE"] = place
        corpus = Path(place) / "corpus"
        corpus.mkdir()
        # Enough for one epoch: at the start of each the first batch is not read ahead. A share becomes dev.
        write_files(corpus, round(1.1 * (given.steps + 1) * given.rows) + 1, given.seconds)
        settings = BackboneConfig(cache_dir=str(Path(place) / "cache"))
        backbone, extractor = load_config(given.preset, settings, None), extractors.load(given.preset)
        context = SpeechContext(extractor=extractor, backbone=backbone, cache_dir=settings.cache_dir)
        task = SpeechPretrainingConfig(data="audio_folder", data_dir=str(corpus), method=Wav2Vec2()).build(context)
        waits = timed_collate(task)
        config = FitConfig(
            batch=BatchConfig(examples=given.rows),
            optim=OptimConfig(lr=LR, clip=CLIP),
            train=TrainConfig(
                steps=given.steps, log_every=1, eval_every=10**6, progress=False, precision=given.precision
            ),
        )
        net = model.build(given.preset, task.head, backbone=settings)
        before = resident()
        run = RunFolder.create(Path(place) / "run", {"recipe": "benchmark"})
        fit(net, task, config, run)
        seconds = [record["seconds"] for record in run.read_log() if "lr" in record][2:]
    wait = statistics.median(w / s for w, s in zip(waits[2:], seconds, strict=False))
    return result(given, seconds, before, f", data wait {wait:.1%}")


def timed_collate(task: Any) -> list[float]:
    """Seconds that each batch of the task takes from being asked for to being there, as they are found."""
    found: list[float] = []
    collate = task.collate

    def timed(rows: Any, *, epoch: int) -> Any:
        began = time.perf_counter()
        batch = collate(rows, epoch=epoch)
        found.append(time.perf_counter() - began)
        return batch

    task.collate = timed
    return found


def loop(given: argparse.Namespace) -> dict[str, Any]:
    """A training loop as in transformers' example script, on waves that lie in memory."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

    from hfcourse.backbones.load import load_config
    from hfcourse.backbones.settings import BackboneConfig
    from hfcourse.engine import machine

    machine.tune_allocator()
    waves = make_waves(given.rows, given.seconds)
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True, return_attention_mask=True)
    values = extractor(waves, sampling_rate=RATE, return_tensors="pt")["input_values"]
    torch.manual_seed(0)
    model = Wav2Vec2ForPreTraining(load_config(given.preset, BackboneConfig(), None)).train()
    states = int(model._get_feat_extract_output_lengths(values.shape[1]))
    before = resident()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    seconds = []
    for step in range(given.steps):
        began = time.perf_counter()
        mask = _compute_mask_indices((given.rows, states), mask_prob=0.65, mask_length=10, min_masks=2)
        negatives = _sample_negative_indices((given.rows, states), model.config.num_negatives, mask_time_indices=mask)
        with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16"):
            output = model(
                values,
                mask_time_indices=torch.from_numpy(mask),
                sampled_negative_indices=torch.from_numpy(negatives),
            )
        (output.loss / mask.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        model.set_gumbel_temperature(max(2.0 * COOL ** (step + 1), 0.5))
        seconds.append(time.perf_counter() - began)
    return result(given, seconds[2:], before, "")


def result(given: argparse.Namespace, seconds: list[float], before: int, more: str) -> dict[str, Any]:
    """Seconds of audio a second of the median step, and the peak of memory above that after imports and data."""
    import torch

    from hfcourse.engine import machine

    size = f"{given.preset}, {given.rows} x {given.seconds:g} s"
    setup = f"{given.precision}, {size}, {torch.get_num_threads()} threads, {machine.allocator()} malloc{more}"
    rate = given.rows * given.seconds / statistics.median(seconds)
    return {"rate": rate, "peak": machine.peak_memory() - before, "setup": setup}


def main() -> None:
    """Print the table, or be one side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="wav2vec2-tiny")
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--side", choices=("ours", "loop"), help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="fp32", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps < 3:
        parser.error(f"--steps {given.steps}: the first two warm up; take 3 or more")
    if given.side:
        print(json.dumps({"ours": ours, "loop": loop}[given.side](given)))
        return
    numbers = ("preset", "rows", "seconds", "steps")
    same = [word for name in numbers for word in (f"--{name}", str(getattr(given, name)))]

    def side(name: str, precision: str, tuned: bool = True) -> tuple[list[str], bool]:
        return ["--side", name, "--precision", precision, *same], tuned

    sides = {"loop, as it comes": side("loop", "fp32", tuned=False)} if "fp32" in given.precisions else {}
    pairs = [(f"ours, {given.precisions[-1]}", name) for name in sides]
    for precision in given.precisions:
        sides[f"loop, {precision}, our malloc"] = side("loop", precision)
        sides[f"ours, {precision}"] = side("ours", precision)
        pairs.append((f"ours, {precision}", f"loop, {precision}, our malloc"))
    unit = "s of audio/s"
    print(table(compare(__file__, sides, given.rounds, unit), pairs, unit))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
