"""Every method on models as `build` makes them: what is trained, what is saved, and who can read it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from transformers import AutoConfig, BertModel

from hfcourse import model as models
from hfcourse.errors import ConfigError, ModelError
from hfcourse.heads.spec import HeadSpec
from hfcourse.objectives.causal_lm import CausalLM
from hfcourse.peft.wrap import head_modules, save, unwrapped
from hfcourse.peft_settings import LEARNING_RATES, PeftSettings
from tests.peft.tiny import FAMILIES, IDS, TEXT, disturb, inputs, make

OURS = {"linear", "bitfit", "houlsby", "pfeiffer", "parallel", "compacter", "prefix", "prompt", "p_tuning"}
METHODS = [name for name in LEARNING_RATES if name not in {"full", "fusion"}]
NO_BIAS = {"modernbert", "llama", "t5"}
THREE = HeadSpec(kind="sequence", labels=("no", "yes", "maybe"))


def backbone(folder: Path, family: str = "bert", **more: Any) -> str:
    """A pretrained backbone without any head."""
    make(family, **more).base_model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", [*TEXT, "bart", "t5"])
def test_round_trip_with_the_head(method: str, family: str, tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone", family)
    if method == "bitfit" and family in NO_BIAS:
        with pytest.raises(ModelError, match="has none: it takes bert"):
            models.build(name, THREE, peft=PeftSettings(method=method))
        return
    model = models.build(name, THREE, peft=PeftSettings(method=method, rank=2)).eval()
    inner: Any = unwrapped(model)
    before = {n: p.clone() for n, p in inner.base_model.named_parameters() if not p.requires_grad}
    if method != "p_tuning":  # whose LSTM is larger than these backbones
        assert sum(p.numel() for p in before.values()) > 0.6 * sum(p.numel() for p in inner.parameters())
    disturb(model)
    save(model, tmp_path / "saved")
    with torch.no_grad():
        logits = model(**inputs(family)).logits
        again = models.load(tmp_path / "saved").eval()
        assert torch.equal(again(**inputs(family)).logits, logits)
        if method in OURS:  # under any name
            plain = models.build(name, THREE, seed=1)
            named = peft.PeftModel.from_pretrained(plain, str(tmp_path / "saved"), adapter_name="other").eval()
            assert torch.equal(named(**inputs(family)).logits, logits)
    assert type(unwrapped(again)) is type(inner)
    assert (tmp_path / "saved" / "adapter_config.json").is_file()
    assert not (tmp_path / "saved" / "backbone").exists()  # it lies where the adapter says


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
@pytest.mark.parametrize("method", sorted(set(METHODS) - OURS))
def test_plain_peft_reads_what_is_its_own(method: str, tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone")
    model = models.build(name, THREE, peft=PeftSettings(method=method, rank=2)).eval()
    disturb(model)
    save(model, tmp_path / "saved")
    config = AutoConfig.from_pretrained(tmp_path / "saved")
    assert [config.id2label[number] for number in range(3)] == ["no", "yes", "maybe"]
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(name, config=config)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(theirs(**inputs("bert")).logits, model(**inputs("bert")).logits)


@pytest.mark.parametrize("method", METHODS)
def test_loss_falls_and_only_what_is_small_learns(method: str, tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone", initializer_range=0.3)  # states that differ, as in a trained one
    model = models.build(name, THREE, peft=PeftSettings(method=method, rank=2))
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(25):
        loss = model(**inputs("bert"), labels=torch.tensor([0, 2])).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)


HEADS = {
    "sequence": (THREE, {"bert.pooler", "classifier"}),
    "frame": (HeadSpec(kind="frame", labels=("O", "B")), {"classifier"}),
    "span": (HeadSpec(kind="span"), {"qa_outputs"}),
    # The decoder is tied to the embedding: a trained copy would untie it.
    "masked_lm": (HeadSpec(kind="masked_lm"), {"cls.predictions.transform"}),
    "headed": (
        HeadSpec(kind="sequence", labels=("a", "b"), pooling="mean", layers="mix"),
        {"heads.sequence", "layer_mix"},
    ),
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("method", ["lora", "pfeiffer", "linear"])
def test_every_kind_of_head_is_trained_and_saved(kind: str, method: str, tmp_path: Path) -> None:
    spec, names = HEADS[kind]
    name = backbone(tmp_path / "backbone")
    plain = models.build(name, spec)
    assert set(head_modules(plain)) == names
    model = models.build(name, spec, peft=PeftSettings(method=method)).eval()
    disturb(model)
    save(model, tmp_path / "saved")
    again = models.load(tmp_path / "saved").eval()
    key = "start_logits" if kind == "span" else "logits"
    with torch.no_grad():
        want = getattr(model(input_ids=IDS), key)
        assert not torch.allclose(want, getattr(plain.eval()(input_ids=IDS), key))
        assert torch.equal(getattr(again(input_ids=IDS), key), want)
    if kind == "masked_lm":
        inner: Any = unwrapped(again)
        assert inner.get_output_embeddings().weight is inner.get_input_embeddings().weight


def test_a_fresh_backbone_travels_with_its_adapter(tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone")
    from hfcourse.backbones.settings import BackboneConfig

    model = models.build(
        name, THREE, peft=PeftSettings(method="lora"), backbone=BackboneConfig(init="random"), seed=7
    ).eval()  # fmt: skip
    disturb(model)
    save(model, tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(models.load(tmp_path / "saved").eval()(IDS).logits, model(IDS).logits)
        save(models.load(tmp_path / "saved"), tmp_path / "judged")  # as a run that only evaluates does
        shutil.rmtree(tmp_path / "saved")
        assert torch.equal(models.load(tmp_path / "judged").eval()(IDS).logits, model(IDS).logits)


def test_an_adapter_is_refused_by_a_backbone_that_was_trained_on(tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone")
    save(models.build(name, THREE, peft=PeftSettings(method="bitfit")), tmp_path / "saved")
    assert models.load(tmp_path / "saved")
    changed = make("bert").base_model
    with torch.no_grad():
        changed.encoder.layer[1].output.dense.weight.add_(1e-3)
    changed.save_pretrained(name)
    with pytest.raises(ModelError, match="trained on other weights than its backbone has now"):
        models.load(tmp_path / "saved")
    (tmp_path / "saved" / "trained_on.json").write_text('{"finger')
    with pytest.raises(ModelError, match=r"trained_on\.json: damaged: delete it"):
        models.load(tmp_path / "saved")
    (tmp_path / "saved" / "trained_on.json").unlink()
    assert models.load(tmp_path / "saved")


def test_an_output_matrix_that_is_not_tied_is_no_new_head(tmp_path: Path) -> None:
    sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model("llama", **sizes, intermediate_size=64, tie_word_embeddings=False)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    for method, learning in (("lora", False), ("linear", True)):
        model = models.build(str(tmp_path / "llama"), HeadSpec(kind="causal_lm"), peft=PeftSettings(method=method))
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained and any("lm_head" in name for name in trained) == learning


@pytest.mark.parametrize("method", ["prompt", "p_tuning", "prefix"])
def test_virtual_tokens_before_text_that_is_foretold(method: str, tmp_path: Path) -> None:
    """The loss is that of the text's own tokens, whatever stands before them."""
    settings = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 40, "bos_token_id": 1, "eos_token_id": 1}
    transformers.GPT2LMHeadModel(AutoConfig.for_model("gpt2", **settings)).save_pretrained(tmp_path / "gpt2")
    peft_settings = PeftSettings(method=method, tokens=4)  # type: ignore[arg-type]
    model = models.build(str(tmp_path / "gpt2"), HeadSpec(kind="causal_lm"), peft=peft_settings).eval()
    disturb(model)
    objective = CausalLM()
    objective.bind(model)
    batch = {"input_ids": IDS[:, :-1], "labels": IDS[:, 1:].clone()}
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"]).logits[:, -7:]
        want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        for need_logits in (False, True):
            found = objective(model, batch, need_logits=need_logits).losses["causal_lm"]
            torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def test_a_head_beside_the_stacks_of_a_seq2seq_model(tmp_path: Path) -> None:
    model = models.build(backbone(tmp_path / "t5", "t5"), HeadSpec(kind="span"), peft=PeftSettings(method="lora"))
    assert type(unwrapped(model)).__name__ == "T5ForQuestionAnswering"
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "qa_outputs" in name for name in trained)
    disturb(model)
    save(model, tmp_path / "saved")
    with torch.no_grad():
        found, want = (net.eval()(**inputs("t5")).start_logits for net in (models.load(tmp_path / "saved"), model))
    assert torch.equal(found, want)


def test_training_goes_on_from_a_merged_adapter(tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone")
    model = models.build(name, THREE, peft=PeftSettings(method="lora")).eval()
    disturb(model)
    save(model, tmp_path / "lora" / "model")  # as a run folder has it
    with torch.no_grad():
        logits = model(IDS).logits
        merged = models.build(str(tmp_path / "lora"), THREE).eval()
        assert torch.allclose(merged(IDS).logits, logits, atol=1e-5)
        fresh = {name: p.requires_grad for name, p in models.build(name, THREE).named_parameters()}
        assert {name: p.requires_grad for name, p in merged.named_parameters()} == fresh, "all of it can be trained"
        judged = models.build(str(tmp_path / "lora"), THREE, need_trained_head=True).eval()
        assert torch.equal(judged(IDS).logits, logits)
    two = HeadSpec(kind="sequence", labels=("x", "y"))
    other = models.build(str(tmp_path / "lora"), two, peft=PeftSettings(method="pfeiffer"))
    assert unwrapped(other).config.num_labels == 2
    with pytest.raises(ModelError, match="head is not the task's"):
        models.build(str(tmp_path / "lora"), two, need_trained_head=True)
    adapters = models.build(name, THREE, peft=PeftSettings(method="pfeiffer"))
    save(adapters, tmp_path / "pfeiffer" / "model")
    with pytest.raises(ModelError, match="bottleneck cannot be merged"):
        models.build(str(tmp_path / "pfeiffer"), THREE)


def test_fusion_of_finished_runs(tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone")
    for number, labels in enumerate((("a", "b"), ("x", "y", "z", "w"))):
        torch.manual_seed(number)
        one = models.build(name, HeadSpec(kind="sequence", labels=labels), peft=PeftSettings(method="pfeiffer"))
        disturb(one)
        save(one, tmp_path / f"run{number}" / "model")
    runs = (str(tmp_path / "run0"), str(tmp_path / "run1"))
    model = models.build(name, THREE, peft=PeftSettings(method="fusion", fuse=runs)).eval()
    assert list(model.peft_config) == ["default"]
    member = unwrapped(model).get_submodule("bert.encoder.layer.0.output.LayerNorm").bottleneck_adapters["default"]
    saved = peft.load_peft_weights(str(tmp_path / "run1" / "model"))
    key = "base_model.model.bert.encoder.layer.0.output.LayerNorm.bottleneck_adapters.down.weight"
    assert torch.equal(member.members[1].down.weight, saved[key])
    disturb(model)
    save(model, tmp_path / "fused")
    with torch.no_grad():
        assert torch.equal(models.load(tmp_path / "fused").eval()(IDS).logits, model(IDS).logits)


def test_fusion_refuses_members_of_another_backbone(tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone")
    torch.manual_seed(5)
    make("bert").save_pretrained(tmp_path / "twin")  # the same shape, other weights
    BertModel(make("bert", num_hidden_layers=2).config).save_pretrained(tmp_path / "low")
    for place in (name, str(tmp_path / "twin"), str(tmp_path / "low")):
        run = tmp_path / f"run-{Path(place).name}"
        save(models.build(place, THREE, peft=PeftSettings(method="pfeiffer")), run / "model")
    for other, said in (("twin", "is of another backbone"), ("low", "is of another backbone")):
        runs = (str(tmp_path / "run-backbone"), str(tmp_path / f"run-{other}"))
        with pytest.raises(ModelError, match=said):
            models.build(name, THREE, peft=PeftSettings(method="fusion", fuse=runs))
    config = tmp_path / "run-low" / "model" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(tmp_path / "low"), ""))  # where it comes from is not known
    runs = (str(tmp_path / "run-backbone"), str(tmp_path / "run-low"))
    with pytest.raises(ModelError, match="cannot fuse 'member1': it stands at 4 places of this model, the fusion at 6"):
        models.build(name, THREE, peft=PeftSettings(method="fusion", fuse=runs))
    config.write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config.json: it cannot be read"):
        models.build(name, THREE, peft=PeftSettings(method="fusion", fuse=runs))


def test_groups_of_targets_are_found_in_every_backbone(tmp_path: Path) -> None:
    from hfcourse.peft.methods import target_modules

    for family in FAMILIES:
        model = make(family)
        every = target_modules(model, ("all",))
        assert len(every) >= 2 * 4  # at least attention in and out, feed-forward in and out, of each layer
        assert set(target_modules(model, ("query", "value"))) <= set(every)
        for name in every:
            model.get_submodule(name)


@pytest.mark.parametrize("method", ["lora", "dora", "rslora", "pfeiffer", "houlsby", "adalora"])
def test_the_lowest_sixth_is_left_alone_where_that_is_the_methods_own(method: str, tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone", num_hidden_layers=6)

    def trained_layers(**settings: Any) -> set[int]:
        model = models.build(name, THREE, peft=PeftSettings(method=method, rank=2, **settings))  # type: ignore[arg-type]
        names = [n for n, p in model.named_parameters() if p.requires_grad and ".layer." in n]
        return {int(n.partition(".layer.")[2].partition(".")[0]) for n in names}

    skips = method in {"lora", "dora", "rslora"}
    assert trained_layers() == set(range(1 if skips else 0, 6))
    assert trained_layers(skip_layers=0) == set(range(6))
    assert trained_layers(skip_layers=4) == {4, 5}
    if method not in {"pfeiffer", "houlsby"}:
        assert trained_layers(targets=("query",)) == set(range(6))  # who names targets means all of them
        assert trained_layers(targets=("query",), skip_layers=2) == {2, 3, 4, 5}
    with pytest.raises(ConfigError, match="skip_layers is 6: no layer is left"):
        trained_layers(skip_layers=6)


def test_an_encoder_decoder_leaves_a_sixth_of_its_encoder_alone(tmp_path: Path) -> None:
    make("t5", num_layers=6, num_decoder_layers=6).save_pretrained(tmp_path)
    model = models.build(str(tmp_path), THREE, peft=PeftSettings(method="lora"))
    names = [n.partition(".block.") for n, p in model.named_parameters() if p.requires_grad and ".block." in n]
    trained = {(stack.rpartition(".")[2], int(rest.partition(".")[0])) for stack, _, rest in names}
    assert trained == {("encoder", n) for n in range(1, 6)} | {("decoder", n) for n in range(6)}


def test_no_gradient_reaches_what_lies_below_the_lowest_change(tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone", num_hidden_layers=6)
    for settings in (PeftSettings(method="lora"), PeftSettings(method="pfeiffer", skip_layers=1)):
        model = models.build(name, THREE, peft=settings)
        states = model.train()(**inputs("bert"), output_hidden_states=True).hidden_states
        assert [state.requires_grad for state in states] == [False, False] + [True] * 5


def test_mistakes_are_named(tmp_path: Path) -> None:
    name = backbone(tmp_path / "backbone")
    for settings, said in (
        (PeftSettings(method="lora", targets=("querry",)), "unknown target 'querry': did you mean 'query'"),
        (PeftSettings(method="lora", targets=("c_attn",)), "unknown target 'c_attn'"),
        (PeftSettings(method="lora", targets=("classifier",)), "unknown target 'classifier'"),  # is trained whole
    ):
        with pytest.raises(ConfigError, match=said):
            models.build(name, THREE, peft=settings)
    with pytest.raises(ConfigError, match="name two or more runs"):
        PeftSettings(method="fusion", fuse=("one",))
    with pytest.raises(ConfigError, match="only fusion takes them"):
        PeftSettings(method="lora", fuse=("one", "two"))
    with pytest.raises(ModelError, match="no adapter here to fuse"):
        models.build(name, THREE, peft=PeftSettings(method="fusion", fuse=(name, name)))
    model = models.build(name, THREE, peft=PeftSettings(method="lora"))
    save(model, tmp_path / "saved")
    config = make("bert", hidden_size=64).config
    BertModel(config).save_pretrained(tmp_path / "backbone")  # another model where the adapter's backbone was
    with pytest.raises(ModelError, match=r"does not fit|of another shape"):
        models.load(tmp_path / "saved")


@pytest.mark.filterwarnings("ignore")  # of the kernels, on what they cast
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_quantised_backbone_under_lora(bits: Any, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'hfcourse[quantize]'")
    name = backbone(tmp_path / "backbone", hidden_size=64, intermediate_size=128, initializer_range=0.05)
    whole = models.build(name, THREE, peft=PeftSettings(method="lora")).eval()
    model = models.build(name, THREE, peft=PeftSettings(method="lora", quantize=bits)).eval()
    inner: Any = unwrapped(model)
    query = inner.bert.encoder.layer[0].attention.self.query.base_layer
    assert query.weight.element_size() == 1 and type(query).__module__.startswith("bitsandbytes")
    assert type(inner.classifier.original_module) is torch.nn.Linear
    with torch.no_grad():
        states, exact = (m.get_base_model().bert(IDS).last_hidden_state for m in (model, whole))
    assert 0 < float((states - exact).norm() / exact.norm()) < (0.05 if bits == "8bit" else 0.3)
    model.train()(IDS, labels=torch.tensor([0, 2])).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    disturb(model)
    save(model, tmp_path / "saved")
    again = models.load(tmp_path / "saved")  # on the backbone as it was
    key = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.default.weight"
    assert torch.equal(again.get_parameter(key), model.get_parameter(key))


def test_quantised_without_the_library_or_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    name, settings = backbone(tmp_path / "backbone"), PeftSettings(method="lora", quantize="4bit")
    with pytest.raises(ConfigError, match="transformers' own heads"):
        models.build(name, HeadSpec(kind="sequence", labels=("a", "b"), pooling="mean"), peft=settings)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "bitsandbytes" else find(n, *a))
    with pytest.raises(ConfigError, match=r"pip install 'hfcourse\[quantize\]'"):
        models.build(name, THREE, peft=settings)
    with pytest.raises(ConfigError, match="needs them whole: use lora"):
        PeftSettings(method="bitfit", quantize="8bit")


def test_the_backbones_revision_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hfcourse.backbones.settings import BackboneConfig

    name = backbone(tmp_path / "backbone")
    model = models.build(name, THREE, peft=PeftSettings(method="lora"), backbone=BackboneConfig(revision="v2"))
    save(model, tmp_path / "saved")
    asked = []
    read = models.from_pretrained
    monkeypatch.setattr(models, "from_pretrained", lambda *a, **k: asked.append(a[3].revision) or read(*a, **k))
    models.load(tmp_path / "saved")
    assert asked == ["v2"]
