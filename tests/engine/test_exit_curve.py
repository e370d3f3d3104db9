"""The curve of early exit: scores of the right rows, medians of times, the choice on dev, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from hfcourse.engine import exit_curve, machine
from hfcourse.engine.early_exit import Rule, exits_of
from hfcourse.engine.exit_curve import check, measure
from hfcourse.engine.settings import ExitConfig
from hfcourse.errors import ConfigError, DataError
from hfcourse.headed_model import HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec

from .toy import ToyTask, toy_model

SPEC = HeadSpec(kind="sequence", labels=("even", "odd"), layers="exits", pooling="cls")


def model_of(spec: HeadSpec = SPEC) -> HeadedModel:
    config = toy_model().config
    config.num_hidden_layers = 4
    torch.manual_seed(1)
    model = HeadedModel(headed_config(config, (spec,)))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def scores_by_layer(model: HeadedModel, task: ToyTask, split: str) -> list[float]:
    """Row by row, without a batch."""
    right = [0, 0, 0, 0]
    rows = task.splits[split].take(range(len(task.splits[split])))
    for row in rows:
        ids = torch.as_tensor(row["input_ids"])[None]
        with torch.no_grad():
            states = model.backbone(input_ids=ids, output_hidden_states=True).hidden_states[1:]
        for number, layer in enumerate(states):
            logits = exits_of(model).exits[number].answer(layer, None)  # type: ignore[operator]
            right[number] += int(logits.argmax()) == row["label"]
    return [count / len(rows) for count in right]


def test_scores_and_layers_are_those_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.accelerator(mixed_precision="bf16")  # as if an earlier run of this process had been in bf16
    model, task = model_of(), ToyTask()
    config = ExitConfig(criteria=("layer", "entropy"), thresholds=(0.0, 1.0), batch=8, repeats=1, give_up=1.0)
    found = measure(model, task, config, precision="fp32", shown=False)
    by_layer = scores_by_layer(model, task, "dev")
    assert len(set(by_layer)) > 2
    assert found["full"]["dev"]["score"] == pytest.approx(by_layer[-1]) and found["full"]["dev"]["layers"] == 4
    points = {(point["criterion"], point["threshold"]): point for point in found["points"]}
    assert points.keys() == {("layer", 1), ("layer", 2), ("layer", 3), ("entropy", 0.0), ("entropy", 1.0)}
    for number in (1, 2, 3):
        assert points["layer", number]["score"] == pytest.approx(by_layer[number - 1])
        assert points["layer", number]["layers"] == number
    assert points["entropy", 0.0]["score"] == pytest.approx(by_layer[-1])
    assert points["entropy", 1.0]["layers"] == pytest.approx(1, abs=0.1)
    # What was chosen is judged on test.
    layer = found["chosen"]["layer"]
    assert layer["test"]["score"] == pytest.approx(scores_by_layer(model, task, "test")[int(layer["threshold"]) - 1])
    assert found["rows"] == {"dev": 53, "test": 31}


def test_weights_are_cast_once_for_bf16_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = model_of(), ToyTask()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    seen: set[torch.dtype] = set()
    dense = model.backbone.encoder.layer[0].output.dense
    hook = dense.register_forward_pre_hook(lambda module, given: seen.add(module.weight.dtype))
    config = ExitConfig(criteria=("layer", "entropy"), thresholds=(0.0,), batch=8, repeats=1, give_up=1.0)
    found = measure(model, task, config, precision="bf16", shown=False)
    hook.remove()
    assert seen == {torch.bfloat16}
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    by_layer = scores_by_layer(model, task, "dev")  # in fp32: a row or two may be answered otherwise
    assert found["full"]["dev"]["score"] == pytest.approx(by_layer[-1], abs=0.08)
    assert found["points"][0]["score"] == pytest.approx(by_layer[0], abs=0.08)


def test_the_fastest_that_gives_up_no_more_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times and scores are given: the machine gets slower and slower, each pair of passes is compared in itself."""
    model, task = model_of(), ToyTask()
    scores = iter([0.90, 0.70, 0.889, 0.895, 0.5, 0.5, 0.88, 0.87])
    shares = {("layer", 1): 0.25, ("layer", 2): 0.5, ("layer", 3): 0.8, ("patience", 1): 0.25, ("patience", 2): 0.25}
    order: list[Any] = []

    def timed(way: Any, batches: Any, device: Any) -> Any:
        rule = way.args[1] if len(way.args) > 1 else None
        order.append((rule.criterion, rule.threshold) if rule else "full")
        slowness = 1 + (len(order) - 7) // 2  # the first six warm up
        return slowness * shares.get(order[-1], 1.0), []

    monkeypatch.setattr(exit_curve, "_timed", timed)
    monkeypatch.setattr(exit_curve, "_judge", lambda *_: (next(scores), 2.5))
    config = ExitConfig(criteria=("layer", "patience"), repeats=3, give_up=0.012)
    found = measure(model, task, config, precision="fp32", shown=False)
    layer = found["chosen"]["layer"]
    assert layer["threshold"] == 2 and found["chosen"]["patience"] is None
    # Of 15 pairs the threshold's are the second, the seventh and the twelfth.
    assert layer["dev"] == {"score": 0.889, "layers": 2.5, "seconds": 3.5, "speedup": 2.0}
    assert layer["test"]["score"] == 0.87 and layer["test"]["speedup"] == pytest.approx(2.0, rel=0.1)
    assert found["full"]["dev"] == {"score": 0.9, "layers": 2.5, "seconds": 8.0, "speedup": 1.0}
    rules = list(shares)
    there, back = [
        [one for rule in rules for one in pair(rule)] for pair in (lambda r: ("full", r), lambda r: (r, "full"))
    ]
    assert order[: 6 + 30] == ["full", *rules, *there, *back, *there]


def test_lower_is_better_where_the_task_says_so() -> None:
    task = ToyTask()
    task.maximize = False
    rules = [Rule("layer", 1), Rule("layer", 2)]
    points = [exit_curve.Measured(3.0, 1, 1.0, 4.0), exit_curve.Measured(1.5, 2, 2.0, 2.0)]
    full = exit_curve.Measured(2.0, 4, 4.0, 1.0)
    assert exit_curve._best("layer", rules, points, full, task, ExitConfig()) == (rules[1], points[1])


def test_what_cannot_be_measured_is_refused_at_once() -> None:
    several = replace(SPEC, problem="multi_label_classification")
    with pytest.raises(ConfigError, match="one class or a number"):
        check(model_of(several), ToyTask(), ExitConfig())
    number = model_of(replace(SPEC, problem="regression", labels=("value",)))
    with pytest.raises(ConfigError, match=r"exits\.criteria names entropy, .* take patience,layer"):
        check(number, ToyTask(), ExitConfig())
    check(number, ToyTask(), ExitConfig(criteria=("patience", "layer")))
    with pytest.raises(DataError, match="no dev split"):
        check(model_of(), ToyTask(dev=0), ExitConfig())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"thresholds": (0.1, 1.5)}, r"exits\.thresholds holds 1\.5"),
        ({"thresholds": ()}, r"exits\.thresholds is empty"),
        ({"criteria": ()}, r"exits\.criteria is empty"),
        ({"repeats": 0}, r"exits\.repeats"),
    ],
)
def test_settings_that_say_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ExitConfig(**settings)
