"""Masked-LM losses on masked positions alone equal the native classes' full computation, gradients included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, PreTrainedModel

from hfcourse.heads.spec import HeadSpec
from hfcourse.native import native_class
from hfcourse.objectives import replaced_tokens
from hfcourse.objectives.masked_lm import MaskedLM
from hfcourse.objectives.replaced_tokens import ReplacedTokens, sample
from tests.test_model import FAMILIES

VOCABULARY = 50
MASKED, PAIR = HeadSpec(kind="masked_lm"), HeadSpec(kind="pair")


def native(name: str, *heads: HeadSpec) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, vocab_size=VOCABULARY, **FAMILIES[name])
    model_class = native_class(config, heads)
    assert model_class is not None
    model = model_class(config)
    for parameter in model.parameters():  # no bias may be zero by being new
        torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def batch(padded: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, VOCABULARY, (3, 12), generator=generator)
    labels = torch.full_like(ids, -100)
    labels[0, [1, 5]], labels[1, 3], labels[2, [2, 4, 6]] = ids[0, [1, 5]], ids[1, 3], ids[2, [2, 4, 6]]
    found = {"input_ids": ids, "labels": labels, "positions": (labels.flatten() != -100).nonzero().squeeze(1)}
    if padded:
        mask = torch.ones_like(ids)
        mask[2, 8:] = 0
        found["attention_mask"] = mask
    return found


def gradients(loss: torch.Tensor, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra", "modernbert"])
@pytest.mark.parametrize("padded", [True, False])
def test_equals_the_native_loss(name: str, padded: bool) -> None:
    model, inputs = native(name, MASKED), batch(padded)
    ours = MaskedLM({})(model, inputs, need_logits=True)
    full = model(**{key: value for key, value in inputs.items() if key != "positions"})
    torch.testing.assert_close(ours.losses["masked_lm"], full.loss, rtol=0, atol=1e-5)
    theirs = gradients(full.loss, model)
    mine = gradients(MaskedLM({})(model, inputs, need_logits=False).losses["masked_lm"], model)
    assert theirs.keys() == mine.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(mine[key], value, rtol=1e-4, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")
    targets = inputs["labels"].flatten()[inputs["positions"]]
    logits = full.logits.flatten(0, 1)[inputs["positions"]]
    torch.testing.assert_close(ours.logits["nll"], F.cross_entropy(logits, targets, reduction="none"))
    assert torch.equal(ours.logits["best"], logits.argmax(dim=-1))


def test_the_model_is_as_it_was() -> None:
    model, inputs = native("bert", MASKED), batch()
    before = model(input_ids=inputs["input_ids"]).logits
    MaskedLM({})(model, inputs, need_logits=False)
    with pytest.raises(IndexError):
        MaskedLM({})(model, inputs | {"positions": torch.tensor([10**6])}, need_logits=False)
    assert torch.equal(model(input_ids=inputs["input_ids"]).logits, before)


def test_with_a_pair_equals_bert_for_pretraining() -> None:
    model, inputs = native("bert", MASKED, PAIR), batch()
    pair = torch.tensor([0, 1, 1])
    output = MaskedLM({})(model, inputs | {"pair_labels": pair}, need_logits=True)
    given = {key: value for key, value in inputs.items() if key != "positions"}
    full = model(**given, next_sentence_label=pair)
    total = output.losses["masked_lm"] + output.losses["pair"]
    torch.testing.assert_close(total, full.loss, rtol=0, atol=1e-5)
    assert torch.equal(output.logits["pair"], full.seq_relationship_logits)
    assert MaskedLM({}).counts(inputs | {"pair_labels": pair}) == {"masked_lm": 6, "pair": 3}


def test_a_wrapped_model_gives_the_same(tmp_path: Path) -> None:
    """DistributedDataParallel runs its own forward, so that gradients are exchanged; the loss and they are the same."""
    from torch import distributed

    model, inputs = native("bert", MASKED, PAIR), batch() | {"pair_labels": torch.tensor([0, 1, 1])}

    def total(net: torch.nn.Module) -> torch.Tensor:
        return sum(MaskedLM({})(net, inputs, need_logits=False).losses.values())  # type: ignore[return-value]

    plain = gradients(total(model), model)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        seen: list[int] = []
        wrapped.register_forward_hook(lambda *_: seen.append(1))
        both = gradients(total(wrapped), model)
    finally:
        distributed.destroy_process_group()
    assert seen == [1]
    assert plain.keys() == both.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(both[name], gradient, msg=name)


def test_replaced_tokens_against_electra_and_a_plain_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = native("electra", HeadSpec(kind="replaced_tokens")), batch()
    objective = ReplacedTokens()
    objective.bind(model)
    (generator,) = objective.modules_to_train()
    assert generator.get_input_embeddings() is model.get_input_embeddings()
    assert generator.config.num_hidden_layers == 1
    draws = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    monkeypatch.setattr(replaced_tokens, "_CHUNK", 4)  # six samples in two parts
    output = objective(model, inputs | {"draws": draws}, need_logits=True)
    given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    full = generator(**given, labels=inputs["labels"])
    torch.testing.assert_close(output.losses["generator"], full.loss, rtol=0, atol=1e-5)
    # The samples, one by one: the first entry at which the probabilities add up to the draw.
    positions = inputs["positions"]
    probabilities = full.logits.flatten(0, 1)[positions].softmax(dim=-1)
    drawn = []
    for row, draw in zip(probabilities.tolist(), draws.tolist(), strict=True):
        total, entry = 0.0, 0
        while total + row[entry] < draw:
            total, entry = total + row[entry], entry + 1
        drawn.append(entry)
    corrupted = inputs["input_ids"].clone().flatten()
    corrupted[positions] = torch.tensor(drawn)
    corrupted = corrupted.view(3, 12)
    labels = (corrupted != inputs["input_ids"]).long()
    assert torch.equal(output.logits["labels"], labels)
    native_loss = model(input_ids=corrupted, attention_mask=inputs["attention_mask"], labels=labels).loss
    torch.testing.assert_close(output.losses["replaced_tokens"], native_loss, rtol=0, atol=1e-5)
    assert objective.counts(inputs) == {"generator": 6, "replaced_tokens": 32}


def test_samples_follow_the_probabilities() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]])).expand(9000, 3)
    draws = (torch.arange(9000) + 0.5) / 9000
    counts = torch.bincount(sample(logits, draws), minlength=3)
    assert counts.tolist() == [900, 1800, 6300]


def test_no_gradient_through_the_samples() -> None:
    model = native("electra", HeadSpec(kind="replaced_tokens"))
    objective = ReplacedTokens()
    objective.bind(model)
    inputs = batch() | {"draws": torch.full((6,), 0.5, dtype=torch.float64)}
    (generator,) = objective.modules_to_train()
    objective(model, inputs, need_logits=False).losses["replaced_tokens"].backward()
    own = {id(p) for p in model.parameters()}
    assert all(p.grad is None for p in generator.parameters() if id(p) not in own)
