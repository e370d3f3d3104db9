"""CPC, wav2vec, vq-wav2vec: the losses as the papers' sums say, one question at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hfcourse.errors import ConfigError
from hfcourse.objectives.base import Output
from hfcourse.objectives.speech.base import Draws
from hfcourse.objectives.speech.future import ContrastiveFuture
from hfcourse.objectives.speech.settings import CPC, VqWav2Vec, Wav2Vec
from tests.objectives.speech.waves_future import batch_of, melody, net_of

METHODS: dict[str, CPC] = {
    "cpc": CPC(steps=3, negatives=4),
    "wav2vec": Wav2Vec(steps=3, negatives=4),
    "gumbel": VqWav2Vec(steps=3, negatives=4),
    "kmeans": VqWav2Vec(steps=3, negatives=4),
}
WAVES = [melody(length, seed) for seed, length in enumerate((233, 400, 61, 330, 47))]


def bound(name: str, **settings: Any) -> tuple[Any, ContrastiveFuture]:
    model = net_of(name)
    objective = ContrastiveFuture(type(METHODS[name])(**settings) if settings else METHODS[name])
    objective.bind(model)
    return model, objective


def reference(name: str, model: Any, objective: ContrastiveFuture, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """Every question by itself, each row alone and unpadded."""
    steps, hidden = objective.settings.steps, model.config.hidden_size
    loss = right = questions = 0
    positive: list[float] = []
    negative: list[float] = []
    for row, samples in enumerate(batch["sample_counts"].tolist()):
        output = model(batch["input_values"][row : row + 1, :samples])
        z, c = output.latents[0], output.last_hidden_state[0]
        for t in range(len(z)):
            for k in range(1, steps + 1):
                if t + k >= len(z):
                    continue
                weight = objective.projection.weight[(k - 1) * hidden : k * hidden]
                h = weight @ c[t]
                if name != "cpc":
                    h = h + objective.projection.bias[(k - 1) * hidden : k * hidden]
                others = [int(n) for n in batch["negatives"][row, t + k]]
                true, *false = (float(h @ z[n]) / math.sqrt(hidden) for n in (t + k, *others))
                if name == "cpc":
                    loss -= math.log(math.exp(true) / sum(math.exp(score) for score in [true, *false]))
                else:
                    yes = [math.exp(score) / (len(false) + math.exp(score)) for score in (true, *false)]
                    loss -= math.log(yes[0]) + sum(math.log(1 - share) for share in yes[1:])
                right += all(true > score for score in false)
                positive.append(float(torch.cosine_similarity(h, z[t + k], dim=0)))
                negative.append(sum(float(torch.cosine_similarity(h, z[n], dim=0)) for n in others) / len(others))
                questions += 1
    return {
        "future": loss / questions,
        "questions": questions,
        "future/accuracy": right / questions,
        "future/positive": float(np.mean(positive)),
        "future/negative": float(np.mean(negative)),
    }


@pytest.mark.parametrize("name", METHODS)
def test_loss_is_the_papers_sum(name: str) -> None:
    model, objective = bound(name)
    model.eval()
    batch = batch_of(objective, model, WAVES, [5, 1, 8, 2, 4])
    with torch.no_grad():
        output = objective(model, batch, need_logits=False)
        expected = reference(name, model, objective, batch)
    counts = objective.counts(batch)
    assert counts["future"] == expected["questions"] > 0
    assert float(output.losses["future"]) == pytest.approx(expected["future"], rel=1e-4)
    for log in ("future/positive", "future/negative"):
        assert float(output.logs[log]) / counts["future"] == pytest.approx(expected[log], abs=1e-5), log
    # Where states are entries of a small codebook, a wrong one is often the same: rounding decides who is above.
    accuracy, near = (
        float(output.logs["future/accuracy"]) / counts["future"],
        1e-5 if name in {"cpc", "wav2vec"} else 0.2,
    )
    assert accuracy == pytest.approx(expected["future/accuracy"], abs=near)
    assert (set(output.losses) == {"future", "codes"}) == (name == "kmeans")


def gradients(model: Any, objective: ContrastiveFuture, parts: list[tuple[Any, list[int]]]) -> list[torch.Tensor]:
    """Of the micro-batches together, as the engine weighs them."""
    batches = [batch_of(objective, model, waves, rows) for waves, rows in parts]
    counts = [objective.counts(batch) for batch in batches]
    totals = {term: sum(count[term] for count in counts) for term in counts[0]}
    model.zero_grad()
    objective.projection.zero_grad()
    for batch, count in zip(batches, counts, strict=True):
        output: Output = objective(model, batch, need_logits=False)
        sum(loss * count[term] / totals[term] for term, loss in output.losses.items()).backward()  # type: ignore[union-attr]
    return [p.grad.clone() for p in [*model.parameters(), *objective.projection.parameters()]]


@pytest.mark.parametrize("name", ["cpc", "wav2vec", "kmeans"])
def test_a_batch_is_the_sum_of_its_parts(name: str) -> None:
    """However it is cut and padded, and with a row too short for any question."""
    model, objective = bound(name)
    if name == "kmeans":
        objective(model, batch_of(objective, model, WAVES, [0, 1, 2, 3, 4]), need_logits=False)
        objective.after_step(1)  # the codebook begins
    whole = gradients(model, objective, [(WAVES, [0, 1, 2, 3, 4])])
    cut = gradients(model, objective, [(WAVES[:2], [0, 1]), (WAVES[2:4], [2, 3]), (WAVES[4:], [4])])
    for one, other in zip(whole, cut, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_negatives_are_other_states_of_the_same_row_all_alike() -> None:
    objective = ContrastiveFuture(CPC(negatives=50))
    states = np.array([12, 1, 7])
    drawn = objective.draw(states, Draws(0, 1, np.array([3, 5, 9])))["negatives"]
    assert drawn.shape == (3, 12, 50) and drawn.dtype == np.int64
    for row, count in enumerate(states):
        for state in range(count if count > 1 else 0):
            assert set(drawn[row, state]) <= set(range(count)) - {state}
    assert drawn.min() >= 0 and (drawn < states[:, None, None]).all(), "indices of padded states stay inside"
    many = ContrastiveFuture(CPC(negatives=20_000)).draw(np.array([5]), Draws(0, 0, np.array([1])))["negatives"]
    shares = np.bincount(many[0, 2], minlength=5) / 20_000
    assert shares == pytest.approx([0.25, 0.25, 0, 0.25, 0.25], abs=0.02)


def test_negatives_hang_on_seed_epoch_and_row_alone() -> None:
    objective = ContrastiveFuture(CPC(negatives=4))
    alone = objective.draw(np.array([9]), Draws(0, 2, np.array([7])))["negatives"]
    among = objective.draw(np.array([30, 9]), Draws(0, 2, np.array([1, 7])))["negatives"]
    assert np.array_equal(alone[0], among[1, :9])
    other = objective.draw(np.array([9]), Draws(0, 3, np.array([7])))["negatives"]
    assert not np.array_equal(alone, other)


# What it costs to answer every question alike: the entropy of which of 9 states it is, or of 9 answers of which one is
# yes. Codebooks answer so at first, until their entries mean something.
ALIKE = {"cpc": math.log(9), "wav2vec": 9 * -(math.log(1 / 9) / 9 + 8 / 9 * math.log(8 / 9))}


@pytest.mark.parametrize(("name", "steps"), [("cpc", 30), ("wav2vec", 40), ("gumbel", 60), ("kmeans", 120)])
def test_what_comes_is_learned(name: str, steps: int) -> None:
    model, objective = bound(name, steps=3, negatives=8)
    model.train()
    parameters = [*model.parameters(), *objective.projection.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    rows = list(range(12))
    waves = [melody(320, 100 + row) for row in rows]
    losses: list[float] = []
    for step in range(steps):
        batch = batch_of(objective, model, waves, rows, epoch=step)
        torch.manual_seed(step)
        output = objective(model, batch, need_logits=False)
        loss: Any = sum(output.losses.values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        objective.after_step(step + 1)
        losses.append(float(output.losses["future"].detach()))
    logs = {name: float(value) / objective.counts(batch)["future"] for name, value in output.logs.items()}
    share = {"gumbel": 0.9, "kmeans": 0.985}.get(name, 0.7)  # what a codebook lets through is learned more slowly
    assert np.mean(losses[-5:]) < share * ALIKE["cpc" if name == "cpc" else "wav2vec"]
    assert logs["future/positive"] > logs["future/negative"] + 0.05 and objective.collapse(logs) == ""


def test_collapse_is_found() -> None:
    model, objective = bound("wav2vec")
    batch = batch_of(objective, model, WAVES, [0, 1, 2, 3, 4])

    def logs() -> dict[str, float]:
        with torch.no_grad():
            output = objective(model, batch, need_logits=False)
        return {name: float(value) / objective.counts(batch)["future"] for name, value in output.logs.items()}

    healthy = logs() | {"future/positive": 0.5, "future/negative": 0.1}
    assert objective.collapse(healthy) == "" and objective.collapse({}) == ""
    nn.init.zeros_(model.front[-1].norm.weight)  # every state is the same
    nn.init.ones_(model.front[-1].norm.bias)
    assert objective.collapse(logs()).startswith("all_alike")
    model, objective = bound("gumbel")
    model.eval()
    model.quantizer.logits.bias.data[[0, 8]] = 100.0  # one entry of each group
    found = logs() | {"future/positive": 0.5, "future/negative": 0.1}
    assert found["future/perplexity"] == pytest.approx(2, abs=1e-4)
    assert objective.collapse(found) == "few_codes: the perplexity of 8 codes is 1.00"


def test_the_codebook_cools_with_the_steps() -> None:
    model, objective = bound("gumbel", gumbel=(2.0, 0.5, 0.9))
    assert float(model.quantizer.temperature) == 2.0
    objective.after_step(4)
    assert float(model.quantizer.temperature) == pytest.approx(2 * 0.9**4)


def test_nets_that_do_not_fit_are_refused() -> None:
    for name, settings in (("gumbel", Wav2Vec()), ("wav2vec", VqWav2Vec())):
        with pytest.raises(ConfigError, match=f"this net has .*take {settings.kind}-tiny"):
            ContrastiveFuture(settings).bind(net_of(name))
    model = net_of("cpc")
    model.config.context = "none"
    with pytest.raises(ConfigError, match="cpc needs convolutions with context"):
        ContrastiveFuture(CPC()).bind(model)
    for wrong in ({"steps": 0}, {"negatives": 0}):
        with pytest.raises(ConfigError, match="is 0: it must be 1 or more"):
            CPC(**wrong)


def test_entries_that_nobody_chooses_become_states_after_a_step() -> None:
    model, objective = bound("kmeans")
    before = model.quantizer.codebook.detach().clone()
    objective(model.train(), batch_of(objective, model, WAVES, [0, 1, 2, 3, 4]), need_logits=False)
    assert torch.equal(model.quantizer.codebook, before)
    objective.after_step(1)
    assert not torch.equal(model.quantizer.codebook, before)
