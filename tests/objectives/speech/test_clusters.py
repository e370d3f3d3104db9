"""HuBERT and WavLM: loss against a plain reference, units under the states that hear them, health and collapse."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, HubertModel, WavLMModel

from hfcourse.backbones.presets import preset_config
from hfcourse.backbones.speech.rate import state_counts
from hfcourse.backbones.speech.row_norm import listen_by_row
from hfcourse.backbones.speech.wavlm import fuse_attention
from hfcourse.engine.fit import fit
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.errors import ConfigError, DataError
from hfcourse.objectives.speech.base import Draws
from hfcourse.objectives.speech.clusters import ClusterCodes, MaskedClusters
from hfcourse.objectives.speech.settings import HuBERT, WavLM
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.base import Batch
from hfcourse.tasks.speech_pretraining import SpeechPretraining, SpeechPretrainingConfig

from . import waves_clusters as waves

SECONDS = [1.0, 0.7, 1.3, 0.55, 0.9, 1.15, 0.8, 0.95, 1.25, 0.65]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    waves.table(SECONDS).to_parquet(folder / "train.parquet")
    waves.table(SECONDS[:4], first=50).to_parquet(folder / "dev.parquet")
    return folder


@pytest.fixture(scope="module")
def units(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with eight clusters."""
    folder = tmp_path_factory.mktemp("run")
    task_of(data, HuBERT(clusters=8), folder=folder)
    return folder


def task_of(
    data: Path, method: HuBERT, *, longest: float = 8.0, folder: Path | None = None, config: Any = None
) -> SpeechPretraining:
    context = waves.context(config or waves.net().config, folder=folder)
    return SpeechPretrainingConfig(data=str(data), longest=longest, method=method).build(context)


def bound(task: SpeechPretraining, model: Any) -> MaskedClusters:
    torch.manual_seed(1)
    objective = task.objective
    assert isinstance(objective, MaskedClusters)
    objective.bind(model)
    return objective


def batch_of(task: SpeechPretraining, rows: list[int], epoch: int = 0) -> Batch:
    return task.collate(task.splits["train"].take(rows), epoch=epoch)


def plain_losses(objective: MaskedClusters, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of masked and of other states, one state after another, each row alone and without padding."""
    head = objective.codes
    errors: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for row, samples in enumerate(batch["sample_counts"].tolist()):
        count = int(batch["states"][row])
        mask = batch["state_mask"][row : row + 1, :count]
        states = model(batch["input_values"][row : row + 1, :samples], mask_time_indices=mask).last_hidden_state[0]
        for state, is_masked, unit in zip(states, mask[0].tolist(), batch["units"][row, :count].tolist(), strict=True):
            projected = head.project.weight @ state + head.project.bias
            cosines = [
                (projected @ code) / (projected.square().sum().sqrt() * code.square().sum().sqrt())
                for code in head.codes
            ]
            powers = torch.stack([torch.exp(cosine / 0.1) for cosine in cosines])
            errors[is_masked].append(-torch.log(powers[unit] / powers.sum()))
    return torch.stack(errors[True]).mean(), torch.stack(errors[False]).mean()


def places(part: np.ndarray, whole: np.ndarray) -> list[int]:
    """Where a part (the first 300 samples of it) is found in a recording, however loud."""
    part = part[:300]
    windows = np.lib.stride_tricks.sliding_window_view(whole, len(part)).astype(np.float64)
    windows = windows - windows.mean(axis=1, keepdims=True)
    part = part.astype(np.float64) - part.mean(dtype=np.float64)
    likeness = windows @ part / np.sqrt(np.square(windows).sum(axis=1) * np.square(part).sum())
    return np.flatnonzero(likeness > 0.9999).tolist()


# The loss


@pytest.mark.parametrize(
    ("kind", "norm", "unmasked"),
    [("hubert", "layer", 0.0), ("hubert", "layer", 0.5), ("hubert", "group", 0.0), ("wavlm", "group", 0.0)],
)
def test_the_loss_is_that_of_a_plain_reference(kind: str, norm: str, unmasked: float, data: Path, units: Path) -> None:
    """Padding, the narrower last layer and the batch change neither values nor gradients."""
    method = (HuBERT if kind == "hubert" else WavLM)(units=str(units), unmasked=unmasked)
    model, theirs = (waves.net(kind, feat_extract_norm=norm).train() for _ in range(2))
    fuse_attention(model)
    listen_by_row(model)
    task = task_of(data, method)
    objective = bound(task, model)
    batch = batch_of(task, [3, 0, 6])
    learned: list[bool] = []
    model.feature_extractor.conv_layers[0].register_forward_pre_hook(
        lambda _, given: learned.append(given[0].requires_grad)
    )
    output = objective(model, batch, need_logits=False)
    assert learned == [False]  # nobody reads a gradient of samples
    assert output.losses.keys() == ({"masked", "unmasked"} if unmasked else {"masked"})
    trained, as_plain = ([*net.parameters(), *objective.codes.parameters()] for net in (model, theirs))
    total = sum(objective.weights.get(term, 1.0) * loss for term, loss in output.losses.items())
    found = torch.autograd.grad(total, trained, allow_unused=True)
    masked, others = plain_losses(objective, theirs, batch)
    assert output.losses["masked"].item() == pytest.approx(masked.item(), abs=1e-5)
    if unmasked:
        assert output.losses["unmasked"].item() == pytest.approx(others.item(), abs=1e-5)
    expected = torch.autograd.grad(masked + unmasked * others, as_plain, allow_unused=True)
    for mine, reference in zip(found, expected, strict=True):
        assert (mine is None) == (reference is None)
        if reference is not None:
            torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-3)


def test_a_batch_weighs_as_its_parts_do(data: Path, units: Path) -> None:
    model = waves.net(feat_extract_norm="group").train()
    listen_by_row(model)
    task = task_of(data, HuBERT(units=str(units), unmasked=0.3))
    objective = bound(task, model)
    batch = batch_of(task, [0, 1, 2, 3, 4])
    parts = [batch_of(task, rows) for rows in ([0], [1, 2], [3, 4])]
    whole, counts = objective(model, batch, need_logits=False), objective.counts(batch)
    assert counts == {
        "masked": int(batch["state_mask"].sum()),
        "unmasked": int((batch["units"] >= 0).sum() - batch["state_mask"].sum()),
    }
    for term in counts:
        shares = [objective.counts(part)[term] / counts[term] for part in parts]
        losses = [objective(model, part, need_logits=False).losses[term].item() for part in parts]
        mean = sum(share * loss for share, loss in zip(shares, losses, strict=True))
        assert sum(shares) == pytest.approx(1) and mean == pytest.approx(whole.losses[term].item(), abs=1e-5)


def test_the_loss_falls(data: Path, units: Path) -> None:
    model = waves.net().train()
    task = task_of(data, HuBERT(units=str(units)))
    objective = bound(task, model)
    batch = batch_of(task, [0, 1, 3, 6])
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.codes.parameters()], lr=5e-3)
    found, right = [], []
    for _ in range(30):
        output = objective(model, batch, need_logits=False)
        output.losses["masked"].backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(output.losses["masked"].detach()))
        right.append(float(output.logs["masked/accuracy"]) / objective.counts(batch)["masked"])
    assert found[-1] < 0.75 * found[0] and right[-1] > right[0] + 0.15
    assert objective.collapse({}) == ""


# Units


@pytest.mark.parametrize("longest", [8.0, 0.5])
def test_states_are_asked_for_the_units_of_what_they_hear(data: Path, units: Path, longest: float) -> None:
    """Where a crop begins is found again in the recording; the unit asked for lies in the middle of the state."""
    task = task_of(data, HuBERT(units=str(units)), longest=longest)
    objective, clips = bound(task, waves.net()), task.splits["train"]
    split = objective._units[clips]  # type: ignore[index]
    numbered = np.concatenate([np.arange(count) for count in np.diff(split.offsets)]).astype(np.uint16)
    objective._units[clips] = type(split)(numbered, split.offsets, split.hop, split.window)  # type: ignore[index]
    begins = set()
    for epoch in range(2):
        batch = batch_of(task, [*range(len(SECONDS))], epoch)
        for row in range(len(SECONDS)):
            count, whole = int(batch["sample_counts"][row]), waves.tones(row, SECONDS[row])
            heard = batch["input_values"][row, :count].numpy()
            (begin,) = places(heard, whole)
            begins.add(begin)
            states = int(batch["states"][row])
            middles = begin + 160 * np.arange(states) + 110
            asked = batch["units"][row, :states].numpy() * 80 + 100
            assert np.abs(middles - asked).max() <= 40
            assert (batch["units"][row, states:] == -1).all()
    assert (begins == {0}) == (longest == 8.0)


def test_units_are_made_in_the_runs_folder_once(
    data: Path, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = task_of(data, HuBERT(clusters=8), folder=tmp_path)
    assert "units: 8 clusters of mfcc" in first.context.notes[-1]
    made = (tmp_path / "units" / "train.units").read_bytes()
    assert made == (units / "units" / "train.units").read_bytes()
    monkeypatch.setattr("hfcourse.data.kmeans.fit", lambda *a, **k: pytest.fail("clustered again"))
    task_of(data, HuBERT(clusters=8), folder=tmp_path)
    with pytest.raises(DataError, match="8 clusters, not 9"):
        task_of(data, HuBERT(clusters=9), folder=tmp_path)


def test_a_teachers_layer_is_clustered(data: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    waves.net().save_pretrained(teacher)
    waves.extractor().save_pretrained(teacher)
    task = task_of(data, HuBERT(clusters=5, teacher=str(teacher), layer=2), folder=tmp_path / "run")
    assert f"5 clusters of layer 2 of {teacher}" in task.context.notes[-1]
    batch = batch_of(task, [0, 2])
    assert int(batch["units"].max()) <= 4 and (batch["units"][1] >= 0).all()
    waves.net(seed=3).save_pretrained(teacher)  # another model where it was
    with pytest.raises(DataError, match="not of layer 2 of"):
        task_of(data, HuBERT(clusters=5, teacher=str(teacher), layer=2), folder=tmp_path / "run")


def test_what_does_not_fit_is_refused(data: Path, units: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="foretells clusters, and none are there"):
        task_of(data, HuBERT())
    with pytest.raises(DataError, match="no folder of units"):
        task_of(data, HuBERT(units=str(tmp_path)))
    with pytest.raises(DataError, match=r"5000 clusters of \d+ frames"):
        task_of(data, HuBERT(clusters=5000), folder=tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    waves.table(SECONDS[:5], first=20).to_parquet(other / "train.parquet")
    with pytest.raises(DataError, match="other recordings than train has"):
        task_of(other, HuBERT(units=str(units)))
    with pytest.raises(ConfigError, match="masks states"):
        frames = AutoConfig.for_model("hfcourse_frames", layers="none")
        task_of(data, HuBERT(units=str(units))).objective.bind(AutoModel.from_config(frames))
    for wrong in ({"units": "a", "teacher": "b"}, {"layer": 3}, {"clusters": 1}, {"temperature": 0.0}, {"span": 0}):
        with pytest.raises(ConfigError):
            HuBERT(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        WavLM(mixed=1.5)


# Health


def test_logs_are_what_they_say(data: Path, units: Path) -> None:
    model = waves.net().eval()
    task = task_of(data, HuBERT(units=str(units)))
    objective = bound(task, model)
    batch = batch_of(task, [0, 1, 2])
    with torch.no_grad():
        logs = objective(model, batch, need_logits=True).logs
        states = model(
            batch["input_values"], attention_mask=batch["attention_mask"], mask_time_indices=batch["state_mask"]
        ).last_hidden_state
        logits = objective.codes(states)
    masked, real = batch["state_mask"], batch["units"] >= 0
    guess, likely, count = logits.argmax(dim=-1), logits.softmax(dim=-1), int(masked.sum())
    assert int(logs["masked/accuracy"]) == int((guess == batch["units"])[masked].sum())
    assert int(logs["unmasked/accuracy"]) == int((guess == batch["units"])[real & ~masked].sum())
    assert float(logs["masked/rate"]) / count == pytest.approx(count / int(real.sum()))
    entropy = -(likely * likely.log()).sum(dim=-1)[masked].sum()
    assert float(logs["masked/entropy"]) == pytest.approx(float(entropy), rel=1e-4)
    for name, clusters in (("perplexity", guess), ("target_perplexity", batch["units"])):
        shares = np.bincount(clusters[masked].numpy()) / count
        expected = np.exp(-sum(share * np.log(share) for share in shares if share))
        assert float(logs[f"masked/{name}"]) / count == pytest.approx(expected, rel=1e-4)


def test_collapse_is_named(data: Path, units: Path) -> None:
    model = waves.net().train()
    task = task_of(data, HuBERT(units=str(units)))
    objective = bound(task, model)
    batch = batch_of(task, [0, 1, 2, 3])

    def means() -> dict[str, float]:
        logs, counts = objective(model, batch, need_logits=False).logs, objective.counts(batch)
        return {name: float(total) / counts[name.split("/")[0]] for name, total in logs.items()}

    with torch.no_grad():  # each state is projected onto one code
        objective.codes.project.weight.zero_()
        objective.codes.project.bias.copy_(objective.codes.codes[5])
    assert objective.collapse(means()).startswith("one_cluster: the perplexity of what is foretold is 1.00")
    batch["units"].clamp_(max=0)
    assert objective.collapse(means()).startswith("one_unit")


# WavLM


def test_what_is_mixed_in_depends_on_the_row_alone(data: Path, units: Path) -> None:
    clean = task_of(data, HuBERT(units=str(units)))
    mixed = task_of(data, WavLM(units=str(units), mixed=0.5, noise=0.3))
    rows = [*range(len(SECONDS))]
    one, two = batch_of(clean, rows), batch_of(mixed, rows)
    for name in ("units", "state_mask", "sample_counts"):
        assert (one[name] == two[name]).all(), name
    changed = (one["input_values"] != two["input_values"]).any(dim=1)
    assert 1 < int(changed.sum()) < len(rows)
    alone = batch_of(mixed, [4])
    assert (alone["input_values"][0] == two["input_values"][4, : alone["input_values"].shape[1]]).all()
    again = [batch_of(mixed, rows, epoch)["input_values"] for epoch in (0, 1)]
    assert (again[0] == two["input_values"]).all() and (again[1] != two["input_values"]).any()


def test_every_other_recording_may_be_heard() -> None:
    class Source:
        asked: list[int]

        def __len__(self) -> int:
            return 5

        def waveforms(self, rows: np.ndarray) -> list[np.ndarray]:
            self.asked = rows.tolist()
            return [waves.tones(row, 0.05) for row in self.asked]

    source, rows = Source(), np.arange(5)
    objective = WavLM(mixed=1.0, noise=0.0).build()
    pairs = set()
    for epoch in range(60):
        draws = Draws(0, epoch, rows, source, 0 * rows)  # type: ignore[arg-type]
        objective.alter([waves.tones(row, 0.05) for row in range(5)], draws)
        pairs |= set(zip(range(5), source.asked, strict=True))
    assert pairs == {(row, other) for row in range(5) for other in range(5) if row != other}


def test_voices_are_those_of_other_recordings(data: Path, units: Path) -> None:
    """What was added, divided by its loudness, is found in another recording."""
    task = task_of(data, WavLM(units=str(units), mixed=1.0, noise=0.0))
    clips, objective = task.splits["train"], task.objective
    whole = [waves.tones(row, length) for row, length in enumerate(SECONDS)]
    rows = np.arange(len(SECONDS))
    heard = objective.alter(whole, Draws(0, 0, rows, clips, 0 * rows))  # type: ignore[attr-defined, arg-type]
    looked_at = 0
    for row, wave in enumerate(heard):
        added = (wave - whole[row])[np.flatnonzero(wave != whole[row])]
        if len(added) < 300:
            continue
        looked_at += 1
        found = [other for other in rows if other != row and places(added, whole[other])]
        assert len(found) == 1
    assert looked_at >= 3


# In the engine


def test_a_run_that_goes_on_ends_where_a_whole_one_does(data: Path, tmp_path: Path) -> None:
    config = FitConfig(
        batch=BatchConfig(examples=4),
        optim=OptimConfig(lr=1e-3),
        train=TrainConfig(steps=4, eval_every=2, log_every=1, precision="fp32", progress=False, select_best=False),
    )

    def run(folder: Path, resume: bool = False) -> RunFolder:
        done = RunFolder.create(folder, {"recipe": "test"}, resume=resume)
        task = task_of(data, WavLM(clusters=8, mixed=0.5), folder=folder, config=waves.net("wavlm").config)
        model = waves.net("wavlm")
        fuse_attention(model)
        fit(model, task, config, done, tokenizer=waves.extractor())
        return done

    whole = run(tmp_path / "whole")
    shutil.copytree(whole.path, tmp_path / "again")
    for name in ("checkpoint-4", "model", "predictions"):
        shutil.rmtree(tmp_path / "again" / name)
    (tmp_path / "again" / "metrics.json").unlink()
    again = run(tmp_path / "again", resume=True)
    one, two = (AutoModel.from_pretrained(folder.model_dir) for folder in (whole, again))
    assert type(one) is WavLMModel
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name]), name
    losses = [[record["loss"] for record in folder.read_log()] for folder in (whole, again)]
    assert losses[0] == losses[1]
    scores = whole.read_json("metrics.json")["scores"]["dev"]
    assert {"masked/accuracy", "unmasked/accuracy", "masked/target_perplexity", "masked/rate"} <= scores.keys()


@pytest.mark.parametrize(("kind", "model_class"), [("hubert", HubertModel), ("wavlm", WavLMModel)])
def test_presets_are_transformers_own_nets(kind: str, model_class: Any) -> None:
    for size, least, most in (("tiny", 1e6, 3e6), ("small", 1e7, 2e7), ("base", 94e6, 95e6)):
        config = preset_config(f"{kind}-{size}", None)
        with torch.device("meta"):
            net = AutoModel.from_config(config)
        assert type(net) is model_class and least < sum(p.numel() for p in net.parameters()) < most
        # A state hears 25 ms at the papers' sizes, and 46 ms where three convolutions do what seven do there.
        assert state_counts(config, 16_000) == (16_000 - (736 if size == "tiny" else 400)) // 320 + 1


def test_similarities_are_cosines_over_a_temperature() -> None:
    torch.manual_seed(0)
    codes = ClusterCodes(6, 4, size=3, temperature=0.2)
    states = torch.randn(5, 6)
    expected = torch.nn.functional.cosine_similarity(codes.project(states)[:, None], codes.codes[None], dim=-1) / 0.2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = codes(states.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(codes(states), expected)
    torch.testing.assert_close(found, expected, atol=0.06, rtol=0.02)
