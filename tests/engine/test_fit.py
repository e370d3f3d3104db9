"""The loop: it learns, weights micro-batches exactly, resumes bit for bit, stops cleanly, and refuses bad losses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfcourse.engine.fit import fit
from hfcourse.errors import ConfigError, DataError, Interrupted, ModelError, TrainingError
from hfcourse.objectives.base import Output, Supervised
from hfcourse.run_folder import RunFolder

from .toy import ToyTask, toy_config, toy_model

TIMING = {"seconds", "tokens_per_s"}


def new_run(path: Path, **kwargs: Any) -> RunFolder:
    return RunFolder.create(path, {"recipe": "toy"}, **kwargs)


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.model_dir / "model.safetensors")  # type: ignore[no-any-return]


def untimed(run: RunFolder) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in TIMING} for record in run.read_log()]


def test_it_learns_and_leaves_a_complete_folder(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    scores = fit(toy_model(), ToyTask(), toy_config(train={"epochs": 20}), run)
    assert scores["test"]["accuracy"] > 0.85  # a coin gives 0.5
    log = [r for r in run.read_log() if "split" not in r]
    assert log[-1]["loss"] < 0.3 * log[0]["loss"]
    assert scores.metrics["score"] == {"name": "accuracy", "split": "test", "value": scores.value}
    assert scores.metrics["counts"] == {"train": 96, "dev": 53, "test": 31}
    assert scores.metrics["steps"] == 20 * 6
    assert len(run.read_predictions("test")) == 31
    assert json.loads((run.path / "metrics.json").read_text()) == scores.metrics
    assert len(run.checkpoints()) <= 3


@pytest.mark.parametrize("micro_tokens", [20, 60, 111])
def test_micro_batches_make_the_step_of_one_large_batch(tmp_path: Path, micro_tokens: int) -> None:
    whole, cut = new_run(tmp_path / "whole"), new_run(tmp_path / "cut")
    fit(toy_model(), ToyTask(), toy_config(), whole)
    fit(toy_model(), ToyTask(), toy_config(batch={"micro_tokens": micro_tokens}), cut)
    for a, b in zip(whole.read_log(), cut.read_log(), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=2e-5)
        if "grad_norm" in a:
            assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_it_matches_a_plain_loop(tmp_path: Path, name: str) -> None:
    """The same steps written out with torch alone."""
    from hfcourse.data.batching import plan

    config = toy_config(optim={"name": name, "weight_decay": 0.1, "warmup": 2, "clip": 0.5})
    run = new_run(tmp_path / "run")
    fit(toy_model(), ToyTask(), config, run)
    model, task = toy_model(), ToyTask()
    inside = [p for p in model.bert.encoder.parameters() if p.ndim == 2 and name == "muon"]
    decayed = [p for p in model.parameters() if p.ndim > 1 and not any(p is one for one in inside)]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=3e-3)]
    if inside:
        assert len(inside) == 12  # query, key, value, output and two of the feed-forward, in two layers
        optimizers.append(torch.optim.Muon(inside, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"))
    losses = []
    for step in range(18):
        factor = (step + 1) / 3 if step < 2 else (18 - step) / 16
        for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
            group["lr"] = 3e-3 * factor
        rows = plan(task.splits["train"].lengths, examples=16, seed=0, epoch=step // 6)[step % 6]
        loss = model.train()(**task.collate(task.splits["train"].take(rows), epoch=0)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()
        losses.append(loss.item())
    ours = [r["loss"] for r in run.read_log() if "split" not in r]
    assert ours == pytest.approx(losses, rel=1e-4)


def test_every_dev_and_test_split_is_answered_and_no_other(tmp_path: Path) -> None:
    """MNLI has two of each; a corpus may hold rows without labels that nobody asked about."""
    task = ToyTask()
    more = dict.fromkeys(("dev_mismatched", "test_mismatched", "unsupervised"), task.splits["dev"])
    task.splits = {**task.splits, **more}
    run = new_run(tmp_path / "run")
    fit(toy_model(), task, toy_config(train={"steps": 2}), run)
    metrics = run.read_json("metrics.json")
    assert metrics["scores"].keys() == {"dev", "test", "dev_mismatched", "test_mismatched"}
    assert metrics["score"]["split"] == "test"


def test_select_best_patience_and_limits(tmp_path: Path) -> None:
    class Worsening(ToyTask):
        """Dev scores fall from the first evaluation on, whatever is learnt."""

        calls = 0

        def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
            if len(answers) == 53:
                Worsening.calls += 1
            return {"accuracy": 1.0 / Worsening.calls}

    run = new_run(tmp_path / "run")
    scores = fit(toy_model(), Worsening(), toy_config(train={"epochs": 20, "patience": 2}), run)
    assert scores.metrics["steps"] == 18  # one best, two bad evaluations
    assert scores.metrics["best_step"] == 6
    best = load_file(run.path / "checkpoint-6" / "model.safetensors")
    assert torch.equal(best["classifier.weight"], weights(run)["classifier.weight"])


def test_moving_average_is_what_is_saved(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    fit(toy_model(), ToyTask(), toy_config(train={"ema": 0.9, "select_best": False}), run)
    last = run.checkpoints()[0]
    assert not torch.equal(
        load_file(last / "model.safetensors")["classifier.weight"], weights(run)["classifier.weight"]
    )
    # By hand, from the weights of every step.
    every = new_run(tmp_path / "every")
    fit(toy_model(), ToyTask(), toy_config(train={"ema": 0.0, "save_every": 1, "keep_checkpoints": 99}), every)
    average = dict(toy_model().named_parameters())["classifier.weight"].detach().clone()
    for step, place in enumerate(reversed(every.checkpoints()), start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * load_file(place / "model.safetensors")["classifier.weight"]
    torch.testing.assert_close(average, weights(run)["classifier.weight"], rtol=1e-4, atol=1e-6)


def test_tensorboard_gets_the_numbers_of_the_log(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = new_run(tmp_path / "run")
    fit(toy_model(), ToyTask(), toy_config(train={"trackers": ("tensorboard",)}), run)
    folder = next((run.path / "hfcourse").rglob("events.out.*")).parent
    events = accumulator.EventAccumulator(str(folder)).Reload()
    for prefix, key, lines in (
        ("train", "loss", [line for line in run.read_log() if "split" not in line]),
        ("dev", "accuracy", [line for line in run.read_log() if line.get("split") == "dev"]),
    ):
        told = [(event.step, event.value) for event in events.Scalars(f"{prefix}/{key}")]
        assert told == [(line["step"], pytest.approx(line[key], rel=1e-5)) for line in lines]


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="wandb, which is not installed"):
        fit(toy_model(), ToyTask(), toy_config(train={"trackers": ("wandb",)}), new_run(tmp_path / "run"))


def test_nan_stops_with_step_examples_and_checkpoint(tmp_path: Path) -> None:
    class Breaks(Supervised):
        calls = 0

        def __call__(self, model: Any, batch: Any, *, need_logits: bool) -> Output:
            output = super().__call__(model, batch, need_logits=need_logits)
            if model.training:
                Breaks.calls += 1
            return Output(
                {k: v * (float("nan") if Breaks.calls == 9 else 1) for k, v in output.losses.items()}, output.logits
            )

    class Task(ToyTask):
        @property
        def objective(self) -> Supervised:
            return Breaks()

    run = new_run(tmp_path / "run")
    with pytest.raises(TrainingError, match=r"step 9: loss 'loss' is nan on examples toy-\d+.*checkpoint-6"):
        fit(toy_model(), Task(), toy_config(), run)
    good = run.newest_good_checkpoint()
    assert good is not None and all(torch.isfinite(t).all() for t in load_file(good / "model.safetensors").values())


def test_a_gradient_that_is_nan_never_reaches_the_weights(tmp_path: Path) -> None:
    """The loss of that step is a number: a step later the examples that are named would be others."""

    class Breaks(Supervised):
        calls = 0

        def __call__(self, model: Any, batch: Any, *, need_logits: bool) -> Output:
            output = super().__call__(model, batch, need_logits=need_logits)
            Breaks.calls += model.training
            if Breaks.calls != 9:
                return output
            return Output({k: v + 0 * (v - v).sqrt() for k, v in output.losses.items()}, output.logits)

    class Task(ToyTask):
        @property
        def objective(self) -> Supervised:
            return Breaks()

    model = toy_model()
    with pytest.raises(TrainingError, match=r"step 9: the gradient's norm is nan on examples toy-\d+.*checkpoint-6"):
        fit(model, Task(), toy_config(), new_run(tmp_path / "run"))
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_out_of_memory_halves_the_forward_pass(tmp_path: Path) -> None:
    class Small(Supervised):
        """A device with room for 100 tokens."""

        def __call__(self, model: Any, batch: Any, *, need_logits: bool) -> Output:
            if model.training and batch["input_ids"].numel() > 100:
                raise torch.OutOfMemoryError("no room")
            return super().__call__(model, batch, need_logits=need_logits)

    class Task(ToyTask):
        @property
        def objective(self) -> Supervised:
            return Small()

    roomy, tight = new_run(tmp_path / "roomy"), new_run(tmp_path / "tight")
    fit(toy_model(), ToyTask(), toy_config(), roomy)
    fit(toy_model(), Task(), toy_config(), tight)
    for a, b in zip(roomy.read_log(), tight.read_log(), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=2e-5)


def test_missing_training_split(tmp_path: Path) -> None:
    task = ToyTask()
    task.splits = {"dev": task.splits["dev"]}
    with pytest.raises(DataError, match="training split"):
        fit(toy_model(), task, toy_config(), new_run(tmp_path / "run"))
    # Judging needs none.
    assert "accuracy" in fit(toy_model(), task, toy_config(), new_run(tmp_path / "judge"), train=False)["dev"]


SCRIPT = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from tests.engine.toy import ToyTask, toy_config, toy_model
from hfcourse import cli
from hfcourse.engine import step as steps
from hfcourse.engine.fit import fit
from hfcourse.run_folder import RunFolder

folder, at, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
advance = steps.Steps.advance

def counted(self, received):
    stop = advance(self, received)
    if self.state.position.step == at:
        os.kill(os.getpid(), getattr(signal, how))
    return stop

steps.Steps.advance = counted
train = {"epochs": 4, "save_every": 5, "ema": 0.9, "precision": sys.argv[4]}
config = toy_config(train=train, optim={"name": sys.argv[5]})
run = lambda: RunFolder.create(folder, {"recipe": "toy"}, resume=os.path.isdir(folder))
sys.exit(cli._guarded(lambda: fit(toy_model(dropout=0.1), ToyTask(), config, run())))
"""


def start(folder: Path, at: int, how: str = "SIGKILL", *settings: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder), str(at), how, *(settings or ("fp32", "adamw"))],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


@pytest.mark.parametrize("settings", [("fp32", "adamw"), ("bf16", "adamw"), ("bf16", "muon")])
def test_killed_and_resumed_is_bit_identical(tmp_path: Path, settings: tuple[str, str]) -> None:
    whole = start(tmp_path / "whole", 0, "SIGKILL", *settings)
    assert whole.returncode == 0, whole.stderr
    for at in (3, 13, 17):  # before the first checkpoint, between two, in another epoch
        assert start(tmp_path / "killed", at, "SIGKILL", *settings).returncode == -signal.SIGKILL
    resumed = start(tmp_path / "killed", 0, "SIGKILL", *settings)
    assert resumed.returncode == 0, resumed.stderr
    a, b = RunFolder.open(tmp_path / "whole"), RunFolder.open(tmp_path / "killed")
    for name, tensor in weights(a).items():
        assert torch.equal(tensor, weights(b)[name]), name
    assert untimed(a) == untimed(b)
    # Once finished there is nothing left to do.
    again = start(tmp_path / "killed", 0, "SIGKILL", *settings)
    assert again.returncode == 0 and "already finished" in again.stderr


@pytest.mark.parametrize(("how", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_writes_a_checkpoint_and_has_its_own_code(tmp_path: Path, how: str, code: int) -> None:
    stopped = start(tmp_path / "run", 8, how)
    assert stopped.returncode == code
    assert stopped.stderr.strip().splitlines()[-1].startswith("error: stopped by signal")
    newest = RunFolder.open(tmp_path / "run").newest_good_checkpoint()
    assert newest is not None and int(newest.name.split("-")[1]) in {8, 9}
    assert start(tmp_path / "run", 0).returncode == 0
    assert start(tmp_path / "whole", 0).returncode == 0
    a, b = RunFolder.open(tmp_path / "whole"), RunFolder.open(tmp_path / "run")
    assert untimed(a) == untimed(b)
    assert all(torch.equal(t, weights(b)[n]) for n, t in weights(a).items())


def test_a_signal_during_an_evaluation(tmp_path: Path) -> None:
    """The due evaluation comes first when the run goes on, so that the log misses nothing."""

    class Interrupts(ToyTask):
        armed = True

        def predict(self, logits: Any, batch: Any) -> list[Any]:
            if Interrupts.armed:
                Interrupts.armed = False
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)
            return super().predict(logits, batch)

    config = toy_config(batch={"eval_tokens": 100})
    with pytest.raises(Interrupted) as caught:
        fit(toy_model(), Interrupts(), config, new_run(tmp_path / "run"))
    assert caught.value.exit_code == 143
    resumed = new_run(tmp_path / "run", resume=True)
    fit(toy_model(), Interrupts(), config, resumed)
    whole = new_run(tmp_path / "whole")
    fit(toy_model(), ToyTask(), config, whole)
    assert untimed(resumed) == untimed(whole)


def test_resume_without_a_checkpoint_starts_afresh(tmp_path: Path) -> None:
    new_run(tmp_path / "run")
    scores = fit(toy_model(), ToyTask(), toy_config(), new_run(tmp_path / "run", resume=True))
    assert scores.metrics["steps"] == 18


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    config = toy_config(train={"save_every": 4, "keep_checkpoints": 9})
    fit(toy_model(), ToyTask(), config, run)
    (run.path / "metrics.json").unlink()
    newest = run.checkpoints()[0]
    file = newest / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    resumed = new_run(tmp_path / "run", resume=True)
    with pytest.warns(UserWarning, match=rf"{newest.name} is damaged \(model.safetensors was altered\)"):
        scores = fit(toy_model(), ToyTask(), config, resumed)
    assert scores.metrics["steps"] == 18


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    fit(toy_model(), ToyTask(), toy_config(), run)
    (run.path / "metrics.json").unlink()
    other = toy_model()
    other.resize_token_embeddings(50)
    with pytest.raises(ModelError, match="not a checkpoint of this model"):
        fit(other, ToyTask(), toy_config(), new_run(tmp_path / "run", resume=True))


TWO = """
import sys
import torch
torch.set_num_threads(1)
from tests.engine.toy import ToyTask, toy_config, toy_model
from hfcourse.engine.fit import fit
from hfcourse.run_folder import RunFolder
import torch.distributed as dist, os

rank = int(os.environ.get("RANK", 0))
make = RunFolder.create if rank == 0 else lambda path, config: RunFolder.attach(path, resume=False)
run = make(sys.argv[1], {"recipe": "toy"})
scores = fit(toy_model(), ToyTask(train=97), toy_config(batch={"micro_tokens": 90}), run)
assert scores.metrics["processes"] == int(os.environ.get("WORLD_SIZE", 1))
"""


def test_two_processes_give_the_scores_of_one(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    script = tmp_path / "two.py"
    script.write_text(TWO)
    environment = {**os.environ, "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    one = [sys.executable, "-W", "ignore", str(script), str(tmp_path / "one")]
    two = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
        str(tmp_path / "two"),
    ]
    for command in (one, two):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
        assert done.returncode == 0, done.stderr[-3000:]
    a, b = RunFolder.open(tmp_path / "one"), RunFolder.open(tmp_path / "two")
    assert b.read_json("metrics.json")["processes"] == 2
    for x, y in zip(a.read_log(), b.read_log(), strict=True):
        assert x["loss"] == pytest.approx(y["loss"], abs=1e-4)
    for split in ("dev", "test"):
        ours, theirs = a.read_predictions(split), b.read_predictions(split)
        assert [p["id"] for p in ours] == [p["id"] for p in theirs]
        assert a.read_json("metrics.json")["scores"][split] == pytest.approx(
            b.read_json("metrics.json")["scores"][split], abs=1e-4
        )
