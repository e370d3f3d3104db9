"""Bottleneck adapters: their arithmetic by hand, one rule for every backbone, and `peft`'s own interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch.nn import functional as F
from transformers import AlbertConfig, AlbertModel, HubertModel

from hfcourse import model as models
from hfcourse.errors import ConfigError, ModelError
from hfcourse.headed_model import HeadedModel
from hfcourse.heads.spec import HeadSpec
from hfcourse.peft import BottleneckConfig, CompacterConfig, PeftModel, get_peft_model
from hfcourse.peft.adapters import CompactAdapter
from hfcourse.peft.bottleneck_layers import AfterProjection, Switches
from hfcourse.peft.places import layers_of, linear
from tests.peft.tiny import FAMILIES, disturb, inputs, make

FORMS: dict[str, dict[str, Any]] = {
    "houlsby": {"placement": "houlsby"},
    "pfeiffer": {"placement": "pfeiffer"},
    "parallel": {"placement": "parallel"},
    "compacter": {"placement": "houlsby", "rules": 4, "reduction_factor": 4},
    "pfeiffer and norms": {"placement": "pfeiffer", "norms": True, "init": "zero", "scaling": 4.0},
    "parallel and norms": {"placement": "parallel", "norms": True},
}


def wrapped(family: str, **settings: Any) -> Any:
    head = ["classifier", "score", "classification_head", "projector", "pre_classifier"]
    return get_peft_model(make(family), BottleneckConfig(modules_to_save=head, **settings)).eval()


def small(states: torch.Tensor, adapter: Any) -> torch.Tensor:
    """down -> activation -> up, written out."""
    return F.linear(
        adapter.activation(F.linear(states, adapter.down.weight, adapter.down.bias)), adapter.up.weight, adapter.up.bias
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", FORMS)
def test_saved_loaded_switched_off_and_taken_out(family: str, form: str, tmp_path: Path) -> None:
    batch = inputs(family)
    with torch.no_grad():
        plain = make(family)(**batch).logits
        model = wrapped(family, **FORMS[form])
        disturb(model)
        changed = model(**batch).logits
        assert not torch.allclose(changed, plain)
        with model.disable_adapter():
            assert torch.equal(model(**batch).logits, plain)
        model.save_pretrained(tmp_path)
        again = PeftModel.from_pretrained(make(family), str(tmp_path), adapter_name="other").eval()
        assert torch.equal(again(**batch).logits, changed)
        bare = model.unload()
        before = make(family).base_model.state_dict()
        after = bare.base_model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "wav2vec2"])
def test_nothing_but_adapters_and_head_learns(family: str, form: str) -> None:
    model = wrapped(family, **FORMS[form]).train()
    model(**inputs(family), labels=torch.tensor([0, 2])).loss.backward()
    for name, parameter in model.named_parameters():
        ours = ".bottleneck_" in name or ".modules_to_save." in name
        assert parameter.requires_grad == ours, name
        assert (parameter.grad is not None) == ours, name
    trained, every = model.get_nb_trainable_parameters()
    assert trained < 0.15 * every


def test_houlsby_adds_behind_both_projections() -> None:
    model = wrapped("bert", placement="houlsby")
    disturb(model)
    layer = model.get_base_model().bert.encoder.layer[0]
    states, middle = torch.randn(2, 5, 32), torch.randn(2, 5, 64)
    dense = layer.attention.output.dense
    attended = dense.base_layer(states)
    assert torch.allclose(dense(states), attended + small(attended, dense.bottleneck_adapters["default"]))
    dense = layer.output.dense
    fed = dense.base_layer(middle)
    want = layer.output.LayerNorm(fed + small(fed, dense.bottleneck_adapters["default"]) + states)
    assert torch.allclose(layer.output(middle, states), want, atol=1e-6)


def test_pfeiffer_norms_before_and_behind_in_a_post_norm_layer() -> None:
    model = wrapped("bert", placement="pfeiffer")
    disturb(model)
    output = model.get_base_model().bert.encoder.layer[1].output
    states, middle = torch.randn(2, 5, 32), torch.randn(2, 5, 64)
    norm, adapter = output.LayerNorm.base_layer, output.LayerNorm.bottleneck_adapters["default"]
    fed = output.dense(middle)
    want = norm(fed + small(norm(fed + states), adapter) + states)
    assert torch.allclose(output(middle, states), want, atol=1e-6)


def test_norms_of_an_adapter_are_norms_with_other_weights() -> None:
    """Against a copy of the model whose norms are changed in place, on the last norm of a layer twice."""
    model = wrapped("bert", placement="pfeiffer", norms=True)
    disturb(model)
    plain = wrapped("bert", placement="pfeiffer")
    names = {name: module for name, module in model.named_modules() if hasattr(module, "bottleneck_norms")}
    assert len(names) == 2 * 3  # a norm behind attention and one behind the feed-forward, in three layers
    state = {name: value for name, value in model.state_dict().items() if "_norms" not in name}
    plain.load_state_dict(
        {
            name.replace("attention.output.LayerNorm.base_layer", "attention.output.LayerNorm"): value
            for name, value in state.items()
        }
    )
    batch = inputs("bert")
    with torch.no_grad(), plain.base_model.dropped(3), model.base_model.dropped(3):
        assert torch.equal(model(**batch).logits, plain(**batch).logits)
    for name, module in names.items():
        other = plain.get_submodule(name)
        norm, change = getattr(other, "base_layer", other), module.bottleneck_norms["default"]
        norm.weight.data = norm.weight + change.weight
        norm.bias.data = norm.bias + change.bias
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, plain(**batch).logits, atol=1e-6)
        with plain.base_model.dropped(3), model.base_model.dropped(3):
            assert not torch.allclose(model(**batch).logits, plain(**batch).logits)


def test_pfeiffer_adds_to_what_leaves_a_pre_norm_layer() -> None:
    model = wrapped("gpt2", placement="pfeiffer")
    disturb(model)
    layer = model.get_base_model().transformer.h[0]
    states = torch.randn(2, 5, 32)
    out = layer.base_layer(states)
    out = out[0] if isinstance(out, tuple) else out
    got = layer(states)
    got = got[0] if isinstance(got, tuple) else got
    assert torch.allclose(got, out + small(out, layer.bottleneck_adapters["default"]), atol=1e-6)


def test_large_speech_models_are_pre_norm_under_our_heads_too(tmp_path: Path) -> None:
    inner = HubertModel(make("hubert", do_stable_layer_norm=True, feat_extract_norm="layer").config)
    inner.save_pretrained(tmp_path)
    headed = models.build(str(tmp_path), HeadSpec(kind="sequence", labels=("a", "b"), pooling="mean", layers="mix"))
    assert isinstance(headed, HeadedModel)
    for model in (inner, headed):
        assert len(layers_of(model)) == 3 and not any(layer.last_norm for layer in layers_of(model))


def test_a_projection_of_packed_integers() -> None:
    """As quantised models have them: its own shape and type say nothing about the states."""
    projection = torch.nn.Linear(8, 6)
    projection.weight = torch.nn.Parameter(torch.zeros(24, 1, dtype=torch.uint8), requires_grad=False)
    assert linear(projection) == (8, 6)
    place = AfterProjection(projection, 0, Switches(), {})
    place.add("one", {"bottleneck_adapters": torch.nn.Linear(6, 6)}, inference_mode=False)
    assert place.bottleneck_adapters["one"].weight.dtype == torch.float32


def test_parallel_reads_what_the_feed_forward_reads() -> None:
    model = wrapped("bert", placement="parallel")
    disturb(model)
    layer = model.get_base_model().bert.encoder.layer[2]
    states = torch.randn(2, 5, 32)
    fed = layer.output.dense.base_layer(F.gelu(layer.intermediate.dense.base_layer(states)))
    beside = 4.0 * small(states, layer.output.dense.bottleneck_adapters["default"])
    want = layer.output.LayerNorm(fed + beside + states)
    assert torch.allclose(layer.feed_forward_chunk(states), want, atol=1e-5)
    assert not layer.output.dense.channel  # nothing is kept alive


def test_parallel_and_compacter_add_nothing_at_first() -> None:
    batch = inputs("bert")
    with torch.no_grad():
        plain = make("bert")(**batch).logits
        for form in ("parallel", "compacter"):
            assert torch.equal(wrapped("bert", **FORMS[form])(**batch).logits, plain)


def test_compacter_is_a_sum_of_kronecker_products() -> None:
    torch.manual_seed(0)
    rules = torch.nn.Parameter(torch.randn(2, 2, 2))
    adapter = CompactAdapter(8, 4, "relu", 1.0, rules)
    disturb(adapter)
    states = torch.randn(3, 8)

    def matrix(part: Any) -> torch.Tensor:
        return sum(torch.kron(rules[i], part.left[i] @ part.right[i]) for i in range(2))  # type: ignore[return-value]

    middle = F.relu(states @ matrix(adapter.down).T + adapter.down.bias)
    assert torch.allclose(adapter(states), middle @ matrix(adapter.up).T + adapter.up.bias, atol=1e-6)


def test_compacter_shares_its_rules_and_is_the_smallest() -> None:
    model = get_peft_model(make("bert"), CompacterConfig(reduction_factor=8))
    rules = {id(p) for n, p in model.named_parameters(remove_duplicate=False) if n.endswith(".rules")}
    assert len(rules) == 1
    houlsby = get_peft_model(make("bert"), BottleneckConfig(placement="houlsby", reduction_factor=8))
    assert model.get_nb_trainable_parameters()[0] < 0.6 * houlsby.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("norms", [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("family", ["bert", "gpt2", "modernbert"])
def test_two_adapters_switch_and_add_up_and_mix_in_one_batch(family: str, norms: tuple[bool, bool]) -> None:
    batch = inputs(family)
    model = get_peft_model(make(family), BottleneckConfig(norms=norms[0]), adapter_name="one").eval()
    model.add_adapter("two", BottleneckConfig(reduction_factor=8, norms=norms[1]))
    with torch.no_grad():
        for name in ("one", "two"):
            model.set_adapter(name)
            disturb(model)
        model.set_adapter("one")
        one = model(**batch).logits
        model.set_adapter("two")
        two = model(**batch).logits
        assert not torch.allclose(one, two)
        mixed = model(**batch, adapter_names=["two", "one"]).logits
        assert torch.allclose(mixed, torch.stack([two[0], one[1]]), atol=1e-6)
        base = model(**batch, adapter_names=["__base__", "two"]).logits
        assert torch.allclose(base, torch.stack([make(family)(**batch).logits[0], two[1]]), atol=1e-6)
        model.set_adapter("one")
        model.delete_adapter("two")
        assert torch.equal(model(**batch).logits, one)
    with pytest.raises(ModelError, match="no adapter 'three' here"):
        model(**batch, adapter_names=["one", "three"])


def test_adapter_drop_leaves_out_the_lowest_layers() -> None:
    batch = inputs("bert")
    with torch.no_grad():
        skipped = get_peft_model(make("bert"), BottleneckConfig(skip_layers=2)).eval()
        assert skipped.base_model.targeted_module_names == ["bert.encoder.layer.2.output.LayerNorm"]
        model = get_peft_model(make("bert"), BottleneckConfig(drop_layers=3)).eval()
        disturb(model)
        whole, plain = model(**batch).logits, make("bert")(**batch).logits
        with model.base_model.dropped(3):
            assert torch.equal(model(**batch).logits, plain)
        with model.base_model.dropped(1):
            part = model(**batch).logits
        assert not torch.allclose(part, whole)
        assert torch.equal(model(**batch).logits, whole)
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        seen = {round(float(model(**batch).logits[0, 0]), 6) for _ in range(40)}
    assert len(seen) == 4  # 0, 1, 2 or 3 layers left out


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize(
    ("family", "at"), [("bert", "bert.encoder.layer.0.output.LayerNorm"), ("gpt2", "transformer.h.0")]
)
def test_fusion_mixes_frozen_adapters_and_is_saved_whole(family: str, at: str, norms: bool, tmp_path: Path) -> None:
    batch = inputs(family)
    model = get_peft_model(make(family), BottleneckConfig(norms=norms), adapter_name="one").eval()
    model.add_adapter("two", BottleneckConfig(norms=norms))
    with torch.no_grad():
        for name in ("one", "two"):
            model.set_adapter(name)
            disturb(model)
    for module in model.modules():
        if norms and "two" in getattr(module, "bottleneck_norms", {}):
            module.bottleneck_norms["two"].weight.data.mul_(2)
    head = ["classifier", "score"]
    model.add_adapter("both", BottleneckConfig(fuse=["one", "two"], norms=norms, modules_to_save=head))
    for module in model.modules():
        if hasattr(module, "bottleneck_norms") and module.bottleneck_norms:
            one, two, both = (module.bottleneck_norms[name].weight for name in ("one", "two", "both"))
            assert torch.allclose(both, (one + two) / 2) and not torch.equal(one, two)
    model.set_adapter("both")
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning and not any(".members." in name for name in learning)
    disturb(model)
    place = model.get_base_model().get_submodule(at)
    states = torch.randn(1, 4, 32)
    fusion, adapters = place.bottleneck_adapters["both"], place.bottleneck_adapters
    outputs = torch.stack([adapters["one"](states), adapters["two"](states)], dim=2)
    scores = (fusion.query(states)[:, :, None] * fusion.key(outputs)).sum(-1)
    want = fusion.value((scores.softmax(-1)[..., None] * outputs).sum(2))
    assert torch.allclose(fusion(states), want, atol=1e-6)
    with torch.no_grad():
        logits = model(**batch).logits
        model.save_pretrained(tmp_path, selected_adapters=["both"])
        again = PeftModel.from_pretrained(make(family), str(tmp_path / "both")).eval()
        assert torch.equal(again(**batch).logits, logits)


def test_checkpointed_gradients_are_the_same() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = wrapped("bert", placement="parallel")
        disturb(model)
        if checkpointing:
            model.get_base_model().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.train()
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        model(**inputs("bert"), labels=torch.tensor([0, 2])).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed, atol=1e-6)


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="placement is 'pfeifer'"):
        BottleneckConfig(placement="pfeifer")
    albert = AlbertConfig(hidden_size=16, num_attention_heads=2, intermediate_size=16, embedding_size=8, vocab_size=20)
    with pytest.raises(ModelError, match="no attention layers found in albert"):
        get_peft_model(AlbertModel(albert), BottleneckConfig())
    with pytest.raises(ConfigError, match="skip_layers is 3"):
        wrapped("bert", skip_layers=3)
    with pytest.raises(ModelError, match="is the adapter of another backbone"):
        wrapped("distilbert", target_modules=["output.LayerNorm"])
    model = wrapped("bert")
    with pytest.raises(ModelError, match="cannot be merged"):
        model.merge_and_unload()
    with pytest.raises(ModelError, match="adapters of another placement"):
        model.add_adapter("other", BottleneckConfig(placement="houlsby"))
        model.add_adapter("third", BottleneckConfig(placement="parallel"))
    with pytest.raises(ModelError, match="fuse names 'a'"):
        wrapped("bert", fuse=["a", "b"])


def test_peft_itself_knows_the_method() -> None:
    assert peft.PEFT_TYPE_TO_CONFIG_MAPPING["BOTTLENECK"] is BottleneckConfig
    assert peft.get_peft_config({"peft_type": "BOTTLENECK", "placement": "houlsby"}).placement == "houlsby"
