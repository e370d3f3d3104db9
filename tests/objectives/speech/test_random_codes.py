"""BEST-RQ: codes by hand, loss against a plain reference, random parts that never change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from hfcourse.backbones.speech import nets  # noqa: F401 - makes our nets known
from hfcourse.engine.fit import fit
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.errors import ConfigError
from hfcourse.heads.spec import HeadSpec
from hfcourse.model import build
from hfcourse.objectives.speech.random_codes import RandomCodebook, RandomCodes
from hfcourse.objectives.speech.settings import BestRQ
from hfcourse.run_folder import RunFolder

from .waves_teacher import ToneTask, batch_of, losses, net

LENGTHS = {3: 1400, 8: 2000, 21: 900}


def frames_net(layers: str = "transformer", **changes: Any) -> Any:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "sample_rate": 4000,
        "mels": 8,
        "window": 64,
        "hop": 32,
        "stack": 2,
        "layers": layers,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "hidden_dropout_prob": 0.0,
    }
    return AutoModel.from_config(AutoConfig.for_model("hfcourse_frames", **{**settings, **changes}))


def bound(model: Any, **settings: Any) -> RandomCodes:
    torch.manual_seed(1)
    objective = RandomCodes(BestRQ(**{"codes": 24, "code_size": 6, "span": 4, **settings}))
    objective.bind(model)
    return objective


def plain_codes(objective: RandomCodes, frames: np.ndarray) -> np.ndarray:
    """The paper's words: the entry whose normalised self is nearest to the normalised projection."""
    codebook = objective.codebook
    projected = frames.astype(np.float64) @ codebook.projection.double().numpy()
    projected /= np.linalg.norm(projected, axis=-1, keepdims=True)
    entries = codebook.entries.double().numpy()
    entries /= np.linalg.norm(entries, axis=-1, keepdims=True)
    return np.linalg.norm(projected[:, None] - entries[None], axis=-1).argmin(axis=-1)


@pytest.mark.parametrize("layers", ["transformer", "causal"])
def test_loss_equals_a_plain_reference(layers: str) -> None:
    """Row by row without padding, the whole net over noised frames, codes by distances."""
    model = frames_net(layers)
    objective = bound(model)
    batch = batch_of(objective, model.config, LENGTHS)
    ours = objective(model, batch, need_logits=False)
    surprises: list[torch.Tensor] = []
    for row, samples in enumerate(batch["sample_counts"].tolist()):
        count = int(batch["states"][row])
        frames, _ = model.features(batch["input_values"][row : row + 1, :samples])
        masked = batch["masked"][row, :count]
        codes = plain_codes(objective, frames[0].numpy())
        for state in range(count):
            if masked[state]:
                frames[0, state] = objective.codebook.noise[batch["noise"][row, state]]
        states = model(features=frames).last_hidden_state[0]
        logits = states @ objective.head_module.weight.T + objective.head_module.bias
        likely = logits.log_softmax(dim=-1)
        surprises += [-likely[state, codes[state]] for state in range(count) if masked[state]]
    torch.testing.assert_close(ours.losses["codes"], torch.stack(surprises).mean(), rtol=0, atol=1e-5)
    assert objective.counts(batch) == {"codes": len(surprises)}


def test_codes_by_hand() -> None:
    """What a frame is told by its direction alone."""
    codebook = RandomCodebook(2, codes=4, size=2)
    codebook.projection.copy_(torch.eye(2))
    codebook.entries.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]))
    frames = torch.tensor([[3.0, 1.0], [0.1, 0.2], [-5.0, 4.9], [0.0, -1e-3]])
    assert codebook(frames).tolist() == [0, 1, 2, 3]


def test_random_parts_have_the_papers_shape() -> None:
    codebook = RandomCodebook(200, codes=300, size=16)
    bound_of_xavier = (6 / (200 + 16)) ** 0.5
    assert 0.95 * bound_of_xavier < float(codebook.projection.abs().max()) <= bound_of_xavier
    torch.testing.assert_close(codebook.entries.norm(dim=-1), torch.ones(300))
    assert float(codebook.noise.std()) == pytest.approx(0.1, rel=0.02)
    assert abs(float(codebook.noise.mean())) < 2e-3
    assert not list(codebook.parameters()) and len(codebook.state_dict()) == 3


def test_rows_in_parts_weigh_as_one_batch() -> None:
    model = frames_net()
    objective = bound(model)
    whole = batch_of(objective, model.config, LENGTHS)
    parts = [batch_of(objective, model.config, {row: LENGTHS[row]}) for row in LENGTHS]
    loss = objective(model, whole, need_logits=False).losses["codes"]
    counts = [objective.counts(part)["codes"] for part in parts]
    found = [objective(model, part, need_logits=False).losses["codes"] for part in parts]
    assert sum(counts) == objective.counts(whole)["codes"]
    weighted = sum(count * value for count, value in zip(counts, found, strict=True)) / sum(counts)
    torch.testing.assert_close(weighted, loss, rtol=0, atol=1e-5)


def test_logs_by_hand() -> None:
    model = frames_net()
    objective = bound(model)
    batch = batch_of(objective, model.config, LENGTHS)
    logs = {name: float(total) for name, total in objective(model, batch, need_logits=False).logs.items()}
    number = objective.counts(batch)["codes"]
    frames, _ = model.features(batch["input_values"], batch["attention_mask"])
    codes = plain_codes(objective, frames[batch["masked"]].numpy())
    shares = np.bincount(codes) / number
    entropy = -sum(share * np.log(share) for share in shares if share)
    assert logs["codes/perplexity"] / number == pytest.approx(np.exp(entropy), rel=1e-4)
    assert logs["codes/masked"] / number == pytest.approx(number / int(batch["states"].sum()))
    assert logs["codes/accuracy"] <= number and logs["codes/answered_perplexity"] >= number * 0.999


def test_the_loss_falls() -> None:
    model = frames_net()
    objective = bound(model)
    batch = batch_of(objective, model.config, dict.fromkeys(range(8), 1600))
    before = [tensor.clone() for tensor in objective.codebook.buffers()]
    found = losses(objective, model, batch, steps=60)
    assert found[-1] < 0.6 * found[0]
    assert all(torch.equal(a, b) for a, b in zip(before, objective.codebook.buffers(), strict=True))


def test_few_codes_are_a_collapse() -> None:
    model = frames_net()
    objective = bound(model)
    batch = batch_of(objective, model.config, LENGTHS)

    def called() -> str:
        logs = objective(model, batch, need_logits=False).logs
        number = objective.counts(batch)["codes"]
        return objective.collapse({name: float(total) / number for name, total in logs.items()})

    assert called() == ""
    objective.codebook.projection.zero_()  # every frame is as near to all entries
    assert called() == "few_codes: the perplexity of 24 codes is 1.00"


def test_a_run_is_that_of_its_seed_and_goes_on_with_its_codes(tmp_path: Path) -> None:
    """The same seed draws the same codes; a checkpoint holds them."""

    def learn(name: str, seed: int, steps: int = 4, resume: bool = False) -> RunFolder:
        model = frames_net()
        objective = RandomCodes(BestRQ(codes=24, code_size=6))
        train = TrainConfig(steps=steps, eval_every=2, log_every=1, precision="fp32", progress=False, select_best=False)
        optim = OptimConfig(schedule="constant", warmup=0)
        config = FitConfig(seed=seed, batch=BatchConfig(examples=8), optim=optim, train=train)
        run = RunFolder.create(tmp_path / name, {"recipe": "toy"}, resume=resume)
        fit(model, ToneTask(objective, model.config), config, run)
        return run

    def logged(run: RunFolder) -> list[float]:
        return [record["loss"] for record in run.read_log()]

    whole = learn("whole", seed=0)
    assert logged(learn("again", seed=0)) == logged(whole)
    assert logged(learn("other", seed=1)) != logged(whole)
    cut = learn("cut", seed=0, steps=2)
    (cut.path / "metrics.json").unlink()
    assert logged(learn("cut", seed=0, resume=True)) == logged(whole)


def test_what_has_no_frames_to_mask_is_refused() -> None:
    for model in (net("hubert"), frames_net("gru"), frames_net("none")):
        with pytest.raises(ConfigError, match="best_rq masks frames"):
            bound(model)
    with pytest.raises(ConfigError, match="codes"):
        BestRQ(codes=1)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_presets(size: str) -> None:
    model = build(f"best_rq-{size}", HeadSpec(kind="none"))
    objective = bound(model)
    batch = batch_of(objective, model.config, {0: 8000, 1: 6000})
    assert torch.isfinite(objective(model, batch, need_logits=False).losses["codes"])
