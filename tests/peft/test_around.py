"""What prefixes and soft prompts promise alike, for every kind of model."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel, TaskType, get_peft_model

from hfcourse.errors import ModelError
from hfcourse.headed_model import HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec
from hfcourse.peft import PrefixConfig, SoftPromptConfig
from tests.peft.kinds import KINDS, TEXT, adapted, batch_for, classifier, shout, states_of, tiny

METHODS = {
    "prefix": PrefixConfig(num_virtual_tokens=5),
    "projected": PrefixConfig(num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=12),
    "prompt": SoftPromptConfig(num_virtual_tokens=5),
    "lstm": SoftPromptConfig(num_virtual_tokens=5, encoder="lstm", encoder_hidden_size=12),
}
HEADS = {"gpt2": "score", "llama": "score", "bart": "classification_head", "t5": "classification_head"}


def config_of(method: str, **changes: Any) -> PeftConfig:
    config = copy.deepcopy(METHODS[method])
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def with_head(method: str, kind: str) -> PeftConfig:
    heads = [HEADS.get(kind, "classifier")]
    heads += {"distilbert": ["pre_classifier"], "modernbert": ["head"]}.get(kind, [])
    heads += ["projector"] if kind in ("wav2vec2", "hubert") else []
    return config_of(method, modules_to_save=heads)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["prefix", "prompt"])
@torch.no_grad()
def test_states_keep_their_places_and_the_model_comes_back(method: str, kind: str) -> None:
    model, batch = tiny(kind), batch_for(kind)
    before = states_of(model, kind, batch)
    modules = [name for name, _ in model.named_modules()]
    wrapped = adapted(model, config_of(method))

    after = states_of(wrapped, kind, batch)
    with wrapped.disable_adapter():
        disabled = states_of(wrapped, kind, batch)
    again = states_of(wrapped, kind, batch)
    bare = wrapped.unload()

    assert after.shape == before.shape and not torch.allclose(after, before, atol=1e-2)
    assert torch.equal(disabled, before) and torch.equal(again, after)
    assert torch.equal(states_of(bare, kind, batch), before)
    assert [name for name, _ in bare.named_modules()] == modules
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in bare.modules())


@pytest.mark.parametrize("kind", TEXT)
@pytest.mark.parametrize("method", ["prefix", "prompt"])
@torch.no_grad()
def test_padding_changes_nothing(method: str, kind: str) -> None:
    wrapped, batch = adapted(tiny(kind), config_of(method)), batch_for(kind)
    alone = {name: values[-1:, :-3] for name, values in batch.items()}

    together = states_of(wrapped, kind, batch)[-1:]
    lone = states_of(wrapped, kind, alone)
    no_mask = states_of(wrapped, kind, {"input_ids": alone["input_ids"]})

    torch.testing.assert_close(together[:, : lone.shape[1]], lone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(no_mask, lone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["prefix", "prompt"])
@torch.no_grad()
def test_sdpa_and_eager_agree(method: str, kind: str) -> None:
    wrapped, batch = adapted(tiny(kind), config_of(method)), batch_for(kind)
    sdpa = states_of(wrapped, kind, batch)
    wrapped.base_model.model.set_attn_implementation("eager")
    eager = states_of(wrapped, kind, batch)
    read = batch.get("attention_mask", torch.ones(sdpa.shape[:2]))[:, : sdpa.shape[1]].bool()

    torch.testing.assert_close(sdpa[read], eager[read], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_only_virtual_tokens_and_head_learn(method: str, kind: str) -> None:
    model = get_peft_model(classifier(kind), with_head(method, kind))
    batch = batch_for(kind, rows=8) | {"labels": torch.arange(8) % 2}
    before = {name: values.detach().clone() for name, values in model.named_parameters()}
    learnt = {name for name, values in model.named_parameters() if values.requires_grad}
    optimizer = torch.optim.AdamW([values for values in model.parameters() if values.requires_grad], lr=0.02)
    losses = []
    for _ in range(30):
        loss = model(**batch).loss
        loss.backward()
        assert {name for name, values in model.named_parameters() if values.grad is not None} == learnt
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    changed = {name for name, values in model.named_parameters() if not torch.equal(values, before[name])}
    assert changed == learnt and losses[-1] < 0.7 * losses[0]
    virtual = {name for name in learnt if f".{model.base_model.prefix}" in name}
    assert virtual and all(".modules_to_save." in name for name in learnt - virtual)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "llama", "t5", "wav2vec2"])
@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_adapters_are_saved_loaded_and_switched(method: str, kind: str, tmp_path: Path) -> None:
    batch = batch_for(kind)
    wrapped = adapted(classifier(kind), with_head(method, kind))
    first = wrapped(**batch).logits
    wrapped.add_adapter("other", with_head(method, kind))
    assert torch.equal(wrapped(**batch).logits, first)  # added, not yet active
    wrapped.set_adapter("other")
    shout(wrapped, seed=4)
    other = wrapped(**batch).logits
    wrapped.save_pretrained(tmp_path)

    loaded = PeftModel.from_pretrained(classifier(kind), tmp_path).eval()
    loaded.load_adapter(tmp_path / "other", "other")

    assert not torch.allclose(first, other, atol=1e-2)
    assert torch.equal(loaded(**batch).logits, first)
    loaded.set_adapter("other")
    assert torch.equal(loaded(**batch).logits, other)
    wrapped.set_adapter("default")
    assert torch.equal(wrapped(**batch).logits, first)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]


@pytest.mark.parametrize(
    ("kind", "reentrant"),  # reentrant: not with sound, which has no embeddings that could ask for gradients
    [*((kind, False) for kind in ("bert", "modernbert", "gpt2", "t5", "hubert")), ("bert", True), ("t5", True)],
)
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_checkpointed_gradients_are_the_same(method: str, kind: str, reentrant: bool) -> None:
    def gradients(checkpointed: bool) -> dict[str, torch.Tensor]:
        zero = {"dropout_rate": 0.0} if kind == "t5" else {"attention_dropout": 0.0, "hidden_dropout_prob": 0.0}
        speech = {"hidden_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0, "layerdrop": 0.0}
        for name in ("attention_probs_dropout_prob", "embd_pdrop", "attn_pdrop", "resid_pdrop"):
            zero[name] = 0.0
        model = get_peft_model(tiny(kind, **zero, **(speech if kind == "hubert" else {})), config_of(method))
        shout(model)
        if checkpointed:
            model.base_model.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.base_model.model.enable_input_require_grads()
        model.train()
        states = states_of(model, kind, batch_for(kind))
        states_of(model, kind, batch_for(kind, rows=2, length=7))  # another pass in between disturbs nothing
        states.square().sum().backward()
        return {name: values.grad for name, values in model.named_parameters() if values.requires_grad}

    plain, checkpointed = gradients(False), gradients(True)
    for name, values in plain.items():
        torch.testing.assert_close(checkpointed[name], values, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_half_precision_is_near(method: str, kind: str) -> None:
    wrapped, batch = adapted(tiny(kind), config_of(method)), batch_for(kind)
    full = states_of(wrapped, kind, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = states_of(wrapped, kind, batch)
    half.float().sum().backward()

    assert (half - full).abs().mean() < 0.05 * full.abs().mean()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # DeBERTa's module, as it is imported
@pytest.mark.parametrize("kind", ["deberta-v2", "wavlm"])
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_attention_of_its_own_is_refused_untouched(method: str, kind: str) -> None:
    model = tiny(kind, implementation="eager")
    modules = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(ModelError, match=f"{kind}: they work for bert, roberta"):
        get_peft_model(model, config_of(method))
    assert {name: type(module) for name, module in model.named_modules()} == modules


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_attention_outside_the_interface_is_refused(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("bert")
    monkeypatch.setattr(type(model.encoder.layer[1].attention.self), "forward", lambda self, hidden_states: None)
    with pytest.raises(ModelError, match="bert: they work for"):
        get_peft_model(model, config_of(method))


@pytest.mark.parametrize("method", ["prefix", "prompt"])
@torch.no_grad()
def test_heads_of_the_house_read_every_layer(method: str) -> None:
    """A learned mix of layers, and a tied masked-LM head beside it."""
    config = tiny("bert").config
    heads = (HeadSpec(kind="sequence", labels=("a", "b"), layers="mix"), HeadSpec(kind="masked_lm"))
    torch.manual_seed(0)
    model = HeadedModel(headed_config(config, heads)).eval()
    batch = batch_for("bert")
    before = model(**batch).logits
    wrapped = adapted(model, config_of(method))
    after = wrapped(**batch).logits

    assert {kind: values.shape for kind, values in after.items()} == {k: v.shape for k, v in before.items()}
    assert not torch.allclose(after["sequence"], before["sequence"], atol=1e-4)
    assert not wrapped.get_input_embeddings().weight.requires_grad


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_other_kernels_wrong_places_and_merging_are_refused(method: str) -> None:
    model = tiny("bert")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ModelError, match="by sdpa or eager, not 'flex_attention'"):
        get_peft_model(model, config_of(method))
    with pytest.raises(ModelError, match=r"target_modules: encoder\.layer\.0\.attention\.self\.query is no"):
        get_peft_model(tiny("bert"), config_of(method, target_modules=["query"]))
    with pytest.raises(ModelError, match="need at least 1"):
        get_peft_model(tiny("bert"), config_of(method, num_virtual_tokens=0))
    wrapped = adapted(tiny("bert"), config_of(method))
    for merge in (wrapped.merge_adapter, wrapped.merge_and_unload):
        with pytest.raises(ModelError, match="cannot be merged"):
            merge()


@pytest.mark.parametrize("method", ["prefix", "prompt"])
@torch.no_grad()
def test_several_active_adapters_stand_side_by_side(method: str) -> None:
    """Two adapters of 5 tokens are one of 10."""
    wrapped = adapted(tiny("bert"), config_of(method))
    wrapped.add_adapter("other", config_of(method))
    wrapped.base_model.set_adapter(["default", "other"])
    both = adapted(tiny("bert"), config_of(method, num_virtual_tokens=10))
    shared = dict(wrapped.named_parameters())
    for name, values in both.named_parameters():
        if values.requires_grad:
            parts = [shared[name], shared[name.replace(".default.", ".other.")]]
            values.copy_(torch.cat(parts, dim=-2))
    batch = batch_for("bert")

    torch.testing.assert_close(wrapped(**batch)[0], both(**batch)[0])


@pytest.mark.parametrize("method", ["prefix", "prompt"])
@torch.no_grad()
def test_what_is_recorded_has_real_tokens_alone(method: str) -> None:
    for kind in ("bert", "gpt2", "bart", "wav2vec2"):
        model, batch = tiny(kind, implementation="eager"), batch_for(kind)
        if kind == "bart":
            batch["decoder_input_ids"] = batch["input_ids"][:, :4]
        wanted = {"output_hidden_states": True, "output_attentions": True}
        before = model(**batch, **wanted)
        wrapped = adapted(model, config_of(method))
        after = wrapped(**batch, **wanted)
        for name in before:
            if isinstance(before[name], tuple):
                assert [one.shape for one in after[name]] == [one.shape for one in before[name]], name
        last = [name for name in before if name.endswith("hidden_states") and not name.startswith("encoder")]
        torch.testing.assert_close(after[last[0]][-1], after[0])
    second = wrapped(**batch, output_hidden_states=[1]).hidden_states
    assert second[0] is None and second[1].shape == after[0].shape


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_deep_copies_work_alone(method: str) -> None:
    wrapped = adapted(tiny("bert"), config_of(method))
    twin, batch = copy.deepcopy(wrapped), batch_for("bert")
    before = wrapped(**batch)[0]
    shout(twin, seed=9)

    assert torch.equal(wrapped(**batch)[0], before) and not torch.allclose(twin(**batch)[0], before, atol=1e-2)
    assert torch.equal(twin.unload()(**batch)[0], tiny("bert")(**batch)[0])
    assert torch.equal(wrapped(**batch)[0], before)


def test_task_types_of_the_library_keep_the_head(tmp_path: Path) -> None:
    """With a task type the library itself adds the head to what is trained and saved."""
    wrapped = adapted(classifier("distilbert"), PrefixConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=3))
    wrapped.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(classifier("distilbert"), tmp_path).eval()
    batch = batch_for("distilbert")

    assert torch.equal(loaded(**batch).logits, wrapped(**batch).logits)
