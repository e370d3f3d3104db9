"""`model.build`: native classes load elsewhere with equal logits, HeadedModel keeps its heads, bad names fail."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, BertConfig, BertForSequenceClassification, BertTokenizerFast, PreTrainedConfig
from transformers.utils import import_utils

from hfcourse import model as models
from hfcourse.backbones.load import leaves_out_layers
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.errors import ConfigError, ModelError
from hfcourse.headed_model import HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "dog",
    "ran",
    "far",
    "away",
    ".",
]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FAMILIES = {
    "bert": SMALL,
    "roberta": SMALL | {"max_position_embeddings": 66, "pad_token_id": 0, "type_vocab_size": 2},
    "electra": SMALL | {"embedding_size": 32},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "modernbert": SMALL | {"reference_compile": False, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
}
HEADS = {
    "sequence": HeadSpec(kind="sequence", labels=("no", "yes", "maybe")),
    "frame": HeadSpec(kind="frame", labels=("O", "B-X", "I-X")),
    "span": HeadSpec(kind="span"),
    "masked_lm": HeadSpec(kind="masked_lm"),
    "multiple_choice": HeadSpec(kind="multiple_choice"),
    "pair": HeadSpec(kind="pair"),
    "replaced_tokens": HeadSpec(kind="replaced_tokens"),
}
IDS = torch.tensor([[2, 5, 6, 7, 8, 9, 10, 3], [2, 12, 13, 14, 15, 16, 3, 0]])
MASK = (IDS != 0).long()


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab={word: number for number, word in enumerate(WORDS)}, model_max_length=64)


def folder_with(config: PreTrainedConfig, folder: Path) -> str:
    config.save_pretrained(folder)
    return str(folder)


def family(name: str) -> PreTrainedConfig:
    return AutoConfig.for_model(name, vocab_size=len(WORDS), **FAMILIES[name])


RANDOM = BackboneConfig(init="random")
PIPELINES = {"sequence": "text-classification", "frame": "token-classification", "masked_lm": "fill-mask"}
ELSEWHERE = """
import json, sys
sys.modules["hfcourse"] = None  # as on a machine that does not have it
import torch, transformers
folder, name = sys.argv[1:]
pipe = transformers.pipeline(name, model=folder)
ids = torch.tensor(json.loads(sys.stdin.read()))
mask = (ids != 0).long()
answer = pipe("the cat sat on a [MASK]" if name == "fill-mask" else "the cat sat")
with torch.no_grad():
    print(json.dumps({"logits": pipe.model(input_ids=ids, attention_mask=mask).logits.tolist(), "answer": str(answer)}))
"""


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("head", ["sequence", "frame", "span", "masked_lm"])
def test_native_wherever_there_is_a_class(name: str, head: str, tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    net = models.build(folder_with(family(name), tmp_path), HEADS[head], tokenizer=tokenizer, backbone=RANDOM)
    if (name, head) == ("gpt2", "masked_lm"):
        assert isinstance(net, HeadedModel)
        return
    assert type(net).__module__.startswith("transformers.")
    net.eval().save_pretrained(tmp_path / "saved")
    again = models.load(tmp_path / "saved").eval()
    assert type(again) is type(net)
    with torch.no_grad():
        ours, theirs = net(input_ids=IDS, attention_mask=MASK), again(input_ids=IDS, attention_mask=MASK)
    for key in ours:
        assert torch.equal(ours[key], theirs[key])


@pytest.mark.parametrize(("name", "head"), [("bert", "sequence"), ("roberta", "frame"), ("distilbert", "masked_lm")])
def test_pipeline_gives_equal_logits_without_us(
    name: str, head: str, tokenizer: BertTokenizerFast, tmp_path: Path
) -> None:
    net = models.build(folder_with(family(name), tmp_path), HEADS[head], tokenizer=tokenizer, backbone=RANDOM).eval()
    net.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    answer = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path / "saved"), PIPELINES[head]],
        input=json.dumps(IDS.tolist()),
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert answer.returncode == 0, answer.stderr
    there = json.loads(answer.stdout.splitlines()[-1])
    with torch.no_grad():
        here = net(input_ids=IDS, attention_mask=MASK).logits
    torch.testing.assert_close(torch.tensor(there["logits"]), here, rtol=0, atol=1e-6)
    if head == "sequence":
        assert any(label in there["answer"] for label in HEADS[head].labels)


@pytest.mark.parametrize(("samples", "masks"), [(700, False), (8000, True)])
def test_sound_too_short_for_transformers_own_masks_is_not_masked(samples: int, masks: bool) -> None:
    shape = {"conv_dim": [8, 8], "conv_kernel": [10, 8], "conv_stride": [10, 8], "num_feat_extract_layers": 2}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    more = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 4, "mask_time_prob": 0.3}
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}
    config = AutoConfig.for_model("hubert", **shape, **sizes, **more, **still)
    torch.manual_seed(0)
    net = HeadedModel(headed_config(config, (HeadSpec(kind="sequence", labels=("a", "b")),)))
    batch = {"input_values": torch.randn(4, samples), "sample_counts": torch.full((4,), samples)}
    states = {mode: net.train(mode).encode(batch).states for mode in (True, False)}
    assert torch.allclose(states[True], states[False], atol=1e-5) is not masks


def test_who_reads_all_layers_has_all_layers() -> None:
    """A net that leaves out layers in training would have fewer states than the mix has weights."""
    shape = {"conv_dim": [8, 8], "conv_kernel": [10, 8], "conv_stride": [10, 8], "num_feat_extract_layers": 2}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    more = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 4, "layerdrop": 0.9}
    config = AutoConfig.for_model("hubert", **shape, **sizes, **more)
    batch = {"input_values": torch.randn(2, 8000), "sample_counts": torch.full((2,), 8000)}
    mixed, last = (HeadedModel(headed_config(config, (HeadSpec(kind="frame", labels=("a", "b"), layers=layers),)))
                   for layers in ("mix", "last"))  # fmt: skip
    found = mixed.train().encode(batch).layers
    assert found is not None and len(found) == 5
    assert leaves_out_layers(last.backbone.config) and not leaves_out_layers(mixed.backbone.config)


def test_a_model_fine_tuned_elsewhere_is_taken_as_it_is(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    config = family("bert")
    config.id2label, config.label2id = {0: "good", 1: "bad"}, {"good": 0, "bad": 1}
    elsewhere = BertForSequenceClassification(config).eval()
    elsewhere.save_pretrained(tmp_path)
    assert models.trained_labels(str(tmp_path), "sequence") == ("good", "bad")
    assert models.trained_labels(str(tmp_path), "frame") == ()
    spec = HeadSpec(kind="sequence", labels=("good", "bad"))
    net = models.build(str(tmp_path), spec, tokenizer=tokenizer, need_trained_head=True).eval()
    with torch.no_grad():
        assert torch.equal(net(input_ids=IDS).logits, elsewhere(input_ids=IDS).logits)
    with pytest.raises(ModelError, match="train it first"):
        models.build(str(tmp_path), HEADS["sequence"], tokenizer=tokenizer, need_trained_head=True)


@pytest.mark.parametrize("heads", [("pair", "masked_lm"), ("replaced_tokens",), ("multiple_choice",)])
def test_headed_model_keeps_backbone_and_heads(
    heads: tuple[str, ...], tokenizer: BertTokenizerFast, tmp_path: Path
) -> None:
    specs = [HEADS[head] for head in heads]
    start = folder_with(family("modernbert"), tmp_path / "config")
    net = models.build(start, specs, tokenizer=tokenizer, backbone=RANDOM)
    if "multiple_choice" in heads and not isinstance(net, HeadedModel):
        return  # transformers has this one
    assert isinstance(net, HeadedModel)
    for parameter in net.parameters():  # so that nothing is equal by being at its initial value
        torch.nn.init.normal_(parameter, std=0.02)
    net.eval().save_pretrained(tmp_path / "saved")
    again = models.load(tmp_path / "saved").eval()
    assert net.state_dict().keys() == again.state_dict().keys()
    for key, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    # The next task takes the backbone over into a native class.
    tuned = models.build(str(tmp_path / "saved"), HEADS["frame"], tokenizer=tokenizer)
    assert type(tuned).__name__ == "ModernBertForTokenClassification"
    for key, value in net.backbone.state_dict().items():
        assert torch.equal(value, tuned.model.state_dict()[key]), key


def test_one_head_out_of_several(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    """By name, or by being the only one of its kind and labels; two of a kind stand side by side."""
    yes = HeadSpec(kind="sequence", labels=("yes", "no"))
    specs = [
        dataclasses.replace(yes, name="first"),
        dataclasses.replace(yes, name="second"),
        dataclasses.replace(HEADS["frame"], name="tags"),
        dataclasses.replace(HEADS["span"], name="answers"),
    ]
    start = folder_with(family("bert"), tmp_path / "config")
    net = models.build(start, specs, tokenizer=tokenizer, backbone=RANDOM).eval()
    assert isinstance(net, HeadedModel) and [*net.heads] == ["first", "second", "tags", "answers"]
    saved = str(tmp_path / "saved")
    net.save_pretrained(saved)
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    with torch.no_grad():
        every = net(**inputs)
        for spec in specs:
            alone = models.build(saved, spec, need_trained_head=True).eval()
            assert isinstance(alone, HeadedModel) and [*alone.heads] == [spec.name]
            ours, whole = alone(**inputs), net(**inputs, head=spec.name)
            assert ours.keys() == whole.keys()
            assert all(torch.equal(ours[key], whole[key]) for key in ours if key != "losses")
            logits = torch.stack([ours.start_logits, ours.end_logits], -1) if spec.kind == "span" else ours.logits
            assert torch.equal(logits, every.logits[spec.name])
        assert not torch.equal(every.logits["first"], every.logits["second"])
        found = models.build(saved, HEADS["frame"], need_trained_head=True).eval()
        assert torch.equal(found(**inputs).logits, every.logits["tags"])
    assert models.trained_labels(saved, "sequence") == ()
    assert models.trained_labels(saved, "sequence", named="second") == ("yes", "no")
    with pytest.raises(ModelError, match="name its head of it with --head: first, second, tags, answers"):
        models.build(saved, yes, need_trained_head=True)
    with pytest.raises(ModelError, match="unknown head 'frist': did you mean 'first'"):
        models.build(saved, dataclasses.replace(yes, name="frist"))
    with pytest.raises(ModelError, match="its head 'tags' is for other answers"):
        models.build(saved, dataclasses.replace(yes, name="tags"))
    with pytest.raises(ModelError, match="no head is called 'first'"):
        models.build("bert-tiny", specs[0], tokenizer=tokenizer)
    # Training without a name begins a new head on the joint backbone, in the class that others know.
    assert type(models.build(saved, yes)).__name__ == "BertForSequenceClassification"


def test_a_head_saved_before_heads_had_names(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    start = folder_with(family("bert"), tmp_path / "config")
    spec = HeadSpec(kind="sequence", labels=("no", "yes"), pooling="mean")
    net = models.build(start, spec, tokenizer=tokenizer, backbone=RANDOM).eval()
    net.save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    saved = json.loads(file.read_text())
    assert [*net.heads] == ["sequence"] and saved["heads"][0].pop("name") == ""
    file.write_text(json.dumps(saved))
    with torch.no_grad():
        again = models.build(str(tmp_path / "saved"), spec, need_trained_head=True).eval()
        assert torch.equal(again(input_ids=IDS).logits, net(input_ids=IDS).logits)


@pytest.mark.parametrize("names", [("same", "same"), ("", ""), ("a.b", "c"), ("items", "c")])
def test_heads_need_names_of_their_own(names: tuple[str, str], tokenizer: BertTokenizerFast) -> None:
    specs = [dataclasses.replace(HEADS["frame"], name=name) for name in names]
    with pytest.raises(ModelError, match=r"heads are called|cannot be called"):
        models.build("bert-tiny", specs, tokenizer=tokenizer)


def test_bert_with_both_pretraining_heads_is_native(tokenizer: BertTokenizerFast) -> None:
    net = models.build("bert-tiny", [HEADS["masked_lm"], HEADS["pair"]], tokenizer=tokenizer)
    assert type(net).__name__ == "BertForPreTraining"
    assert net.cls.predictions.decoder.weight is net.bert.embeddings.word_embeddings.weight


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "attentive"])
@pytest.mark.parametrize("layers", ["last", "mix"])
def test_pooling_and_layer_mix_ignore_padding(pooling: str, layers: str, tokenizer: BertTokenizerFast) -> None:
    spec = HeadSpec(kind="sequence", labels=("a", "b"), pooling=pooling, layers=layers)  # type: ignore[arg-type]
    net = models.build("bert-tiny", spec, tokenizer=tokenizer).eval()
    assert isinstance(net, HeadedModel)
    with torch.no_grad():
        padded = net(input_ids=IDS, attention_mask=MASK).logits[1]
        alone = net(input_ids=IDS[1:, :-1]).logits[0]
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


def test_masked_lm_head_is_tied_and_sees_masked_positions_alone(tokenizer: BertTokenizerFast) -> None:
    net = models.build("modernbert-tiny", [HEADS["masked_lm"], HEADS["pair"]], tokenizer=tokenizer).eval()
    labels = torch.full_like(IDS, -100)
    labels[0, 2], labels[1, 3] = 6, 14
    output = net(input_ids=IDS, attention_mask=MASK, labels=labels, pair_labels=torch.tensor([0, 1]))
    assert output.logits["masked_lm"].shape == (2, len(WORDS))
    everywhere = net(input_ids=IDS, attention_mask=MASK).logits["masked_lm"]
    expected = torch.nn.functional.cross_entropy(everywhere.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(output.losses["masked_lm"], expected, rtol=0, atol=1e-5)
    output.loss.backward()
    assert net.get_input_embeddings().weight.grad.abs().sum() > 0
    assert not any("decoder" in key for key in net.state_dict())


@pytest.mark.parametrize("name", ["bert-smal", "./nowhere", "a/b/c"])
def test_unknown_models_are_refused(name: str, tokenizer: BertTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError) as caught:
        models.build(name, HEADS["sequence"], tokenizer=tokenizer)
    assert "\n" not in str(caught.value)
    if name == "bert-smal":
        assert "'bert-small'" in str(caught.value)


def test_tokenizer_larger_than_the_model_is_refused(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    config = family("bert")
    config.vocab_size = 10
    with pytest.raises(ModelError, match=r"17 entries.*only 10"):
        models.build(folder_with(config, tmp_path), HEADS["sequence"], tokenizer=tokenizer, backbone=RANDOM)


def test_weights_of_another_architecture_are_refused(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    models.build("bert-tiny", HEADS["sequence"], tokenizer=tokenizer).save_pretrained(tmp_path)
    family("distilbert").save_pretrained(tmp_path)  # the config now belongs to another model
    with pytest.raises(ModelError, match="another architecture"):
        models.build(str(tmp_path), HEADS["sequence"], tokenizer=tokenizer)


def test_truncated_weights_are_refused(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    models.build("bert-tiny", HEADS["sequence"], tokenizer=tokenizer).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load the weights"):
        models.build(str(tmp_path), HEADS["sequence"], tokenizer=tokenizer)


def test_dropout_is_set_everywhere(tokenizer: BertTokenizerFast) -> None:
    for preset in ("bert-tiny", "modernbert-tiny"):
        net = models.build(preset, HEADS["sequence"], tokenizer=tokenizer, backbone=BackboneConfig(dropout=0.0)).train()
        assert torch.equal(net(input_ids=IDS).logits, net(input_ids=IDS).logits)


@pytest.mark.parametrize("name", ["bert-tiny", "modernbert-tiny", "nomicbert-tiny", "distilbert"])
def test_equal_keys_attend_to_repetitions_from_the_start(
    name: str, tokenizer: BertTokenizerFast, tmp_path: Path
) -> None:
    """Before any training, a token gives more attention to its repetition than to any other token but itself."""
    source = name if name.endswith("tiny") else folder_with(family(name), tmp_path)
    ids = torch.tensor([[2, 5, 6, 7, 8, 9, 6, 3]])  # 6 stands at 2 and at 6
    ratios = {}
    for scale in (0.0, 20.0):
        settings = BackboneConfig(init="random", attention="eager", equal_keys=scale)
        net = models.build(source, HEADS["masked_lm"], tokenizer=tokenizer, backbone=settings).eval()
        with torch.no_grad():
            given = net(input_ids=ids, output_attentions=True).attentions[0].mean(dim=1)[0, 2]
        ratios[scale] = (given[6] / given[[1, 3, 4, 5]].max()).item()
    assert ratios[20.0] > 1.1 > ratios[0.0]


def test_flash_attention_is_taken_where_it_is_asked_for_alone(
    tokenizer: BertTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses 32 bits, in which everything but training computes."""
    monkeypatch.setattr(import_utils, "is_flash_attn_2_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    net = models.build("bert-tiny", HEADS["sequence"], tokenizer=tokenizer)
    assert net.config._attn_implementation == "sdpa"
    monkeypatch.undo()
    if not import_utils.is_flash_attn_2_available():
        wanted = BackboneConfig(attention="flash_attention_2")
        with pytest.raises(ConfigError, match="needs the package flash-attn and a GPU"):
            models.build("bert-tiny", HEADS["sequence"], tokenizer=tokenizer, backbone=wanted)


def test_equal_keys_are_refused_where_attention_is_not_known(tokenizer: BertTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="equal_keys"):
        models.build(
            folder_with(family("gpt2"), tmp_path),
            HEADS["sequence"],
            tokenizer=tokenizer,
            backbone=BackboneConfig(init="random", equal_keys=2.0),
        )


def test_other_classes_get_a_new_head_on_the_trained_backbone(tmp_path: Path) -> None:
    """As many classes under other names: the backbone is kept, the head would mislead."""
    config = BertConfig(vocab_size=40, num_labels=3, id2label={0: "red", 1: "green", 2: "blue"}, **SMALL)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    saved = BertForSequenceClassification.from_pretrained(tmp_path)
    model = models.build(str(tmp_path), HEADS["sequence"])
    key = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(model.get_parameter(key), saved.get_parameter(key))
    assert not torch.equal(model.classifier.weight, saved.classifier.weight)
    assert model.config.id2label == {0: "no", 1: "yes", 2: "maybe"}


def test_a_span_head_is_two_wide_whatever_the_last_head_was(tmp_path: Path) -> None:
    BertForSequenceClassification(BertConfig(vocab_size=40, num_labels=3, **SMALL)).save_pretrained(tmp_path)
    model = models.build(str(tmp_path), HEADS["span"])
    assert model(IDS).start_logits.shape == IDS.shape
