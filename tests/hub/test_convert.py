"""Checkpoints of fairseq's and s3prl's layouts become nets that answer as those that the weights were taken from."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.compliance import kaldi

from hfcourse import model as models
from hfcourse.cli import main
from hfcourse.data import extractors
from hfcourse.errors import ConfigError, HfcourseError, ModelError, RunFolderError
from hfcourse.heads.spec import HeadSpec
from hfcourse.hub.convert import convert

CONVOLUTIONS = "[(32, 10, 5)] + [(32, 3, 2)] * 2 + [(24,2,2)]"
SMALL: dict[str, Any] = {
    "conv_dim": [32, 32, 32, 24],
    "conv_kernel": [10, 3, 3, 2],
    "conv_stride": [5, 2, 2, 2],
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 80,
    "num_conv_pos_embeddings": 12,
    "num_conv_pos_embedding_groups": 4,
}
SETTINGS = {"conv_feature_layers": CONVOLUTIONS, "encoder_attention_heads": 3, "activation_fn": "gelu"}
# transformers' names -> fairseq's, one replacement behind another.
WORDS = {
    "wav2vec2.": "",
    "masked_spec_embed": "mask_emb",
    ".conv.weight": ".0.weight",
    "feature_projection.projection": "post_extract_proj",
    "feature_projection.layer_norm": "layer_norm",
    "attention.gru_rel_pos_const": "self_attn.grep_a",
    "attention.gru_rel_pos_linear": "self_attn.grep_linear",
    "attention.rel_attn_embed": "self_attn.relative_attention_bias",
    ".attention.": ".self_attn.",
    "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
    "pos_conv_embed.conv.bias": "pos_conv.0.bias",
    "pos_conv_embed.conv.parametrizations.weight.original0": "pos_conv.0.weight_g",
    "pos_conv_embed.conv.parametrizations.weight.original1": "pos_conv.0.weight_v",
    "pos_conv_embed.layers": "pos_conv",
    ".conv.bias": ".0.bias",
    "quantizer.codevectors": "quantizer.vars",
    "project_hid": "final_proj",
}


class DictConfig:
    """Stands for omegaconf's."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.__dict__.update(_content={key: Value(value) for key, value in content.items()}, _metadata=None)


class Value:
    def __init__(self, value: Any) -> None:
        self.__dict__.update({"_content": DictConfig(value)} if isinstance(value, dict) else {"_val": value})


def net(name: str, config: str, **settings: Any) -> Any:
    """A net of transformers' with weights far from their start."""
    torch.manual_seed(0)
    made: Any = getattr(transformers, name)._from_config(getattr(transformers, config)(**SMALL | settings)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def in_fairseq(model: nn.Module, *, layered: bool = False) -> dict[str, Tensor]:
    found = {}
    for name, weight in model.state_dict().items():
        new = name
        if ".conv_layers." in name and "layer_norm" in name:
            new = name.replace("layer_norm", "2.1" if layered else "2")
        elif "encoder.layers." in name and name.split(".")[-2] == "layer_norm":
            new = name.replace("layer_norm", "self_attn_layer_norm")
        for theirs, word in WORDS.items():
            new = new.replace(theirs, word)
        found[new] = weight.clone()
    return found


def save(place: Path, content: Any, *, zipped: bool = True) -> Path:
    torch.save(content, place, _use_new_zipfile_serialization=zipped)
    return place


def sound(*lengths: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), max(lengths)) * mask, mask.long()


def same(folder: Path, theirs: Any, **more: Any) -> None:
    """A converted model, loaded as all of ours are, gives the layers of the net that its weights are from."""
    ours = models.build(str(folder), HeadSpec(kind="none")).eval()
    values, _ = sound(4000)
    with torch.no_grad():
        one = ours(values, output_hidden_states=True)
        two = theirs(values, output_hidden_states=True, **more)
    assert len(one.hidden_states) == len(two.hidden_states) > 1
    for mine, other in zip(one.hidden_states, two.hidden_states, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


# Transformers of fairseq's


def test_wav2vec2_in_the_old_layout(tmp_path: Path) -> None:
    theirs = net("Wav2Vec2ForPreTraining", "Wav2Vec2Config", num_codevectors_per_group=10, codevector_dim=16)
    args = argparse.Namespace(
        arch="wav2vec2", normalize=False, layer_norm_first=False, logit_temp=0.2, encoder_layerdrop=0.05, **SETTINGS
    )
    content = {"model": in_fairseq(theirs), "args": args, "optimizer_history": [{"loss": 1.0}]}
    out = tmp_path / "out"
    convert(save(tmp_path / "a.pt", content, zipped=False), out)
    same(out, theirs.wav2vec2)
    whole: Any = models.build(str(out), HeadSpec(kind="wav2vec2")).eval()
    assert type(whole) is transformers.Wav2Vec2ForPreTraining and whole.config.layerdrop == 0.05
    assert whole.config.contrastive_logits_temperature == 0.2
    values, _ = sound(4000)
    with torch.no_grad():
        one, two = whole(values), theirs(values)
    torch.testing.assert_close(one.projected_states, two.projected_states, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.projected_quantized_states, two.projected_quantized_states, atol=1e-5, rtol=1e-4)
    extractor = extractors.load(str(out))
    assert not extractor.do_normalize and extractor.sampling_rate == 16_000
    page = (out / "README.md").read_text()
    assert "`a.pt`" in page and "wav2vec2, converted from fairseq" in page and "granted" not in page


def test_hubert_with_norms_in_front_and_the_new_names_of_weight_norm(tmp_path: Path) -> None:
    theirs = net("HubertModel", "HubertConfig", do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True)
    weights = in_fairseq(theirs, layered=True) | {
        "final_proj.weight": torch.zeros(4, 48),
        "final_proj.bias": torch.zeros(4),
    }
    weights["label_embs_concat"] = torch.zeros(10, 4)
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        weights[f"encoder.pos_conv.0.parametrizations.weight.{new}"] = weights.pop(f"encoder.pos_conv.0.{old}")
    cfg = DictConfig({"task": {"normalize": True}, "model": {"layer_norm_first": True, **SETTINGS}})
    out = tmp_path / "out"
    assert convert(save(tmp_path / "a.pt", {"model": weights, "cfg": cfg}), out).kind == "hubert"
    same(out, theirs)
    page = (out / "README.md").read_text()
    assert "label_embs_concat" in page and "final_proj.bias" in page
    assert extractors.load(str(out)).do_normalize


def test_wavlm_with_flat_settings(tmp_path: Path) -> None:
    theirs = net("WavLMModel", "WavLMConfig", num_buckets=40, max_bucket_distance=90)
    cfg = {"normalize": False, "layer_norm_first": False, "num_buckets": 40, "max_distance": 90, **SETTINGS}
    out = tmp_path / "out"
    assert convert(save(tmp_path / "a.pt", {"model": in_fairseq(theirs), "cfg": cfg}), out).kind == "wavlm"
    same(out, theirs)


def test_data2vec_with_a_teacher_among_its_weights(tmp_path: Path) -> None:
    shape = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5, "conv_bias": False}
    theirs = net("Data2VecAudioModel", "Data2VecAudioConfig", **shape)
    weights: dict[str, Any] = in_fairseq(theirs, layered=True) | {"final_proj.weight": torch.zeros(2, 2)}
    weights["_ema"] = {"layers.0.fc1.weight": torch.zeros(3)}
    out = tmp_path / "out"
    cfg = {"task": {"normalize": True}, "model": {"_name": "data2vec_audio", **SETTINGS}}
    assert convert(save(tmp_path / "a.pt", {"model": weights, "cfg": cfg}), out).kind == "data2vec"
    same(out, theirs)
    assert "_ema.layers.0.fc1.weight" in (out / "README.md").read_text()


def test_the_copies_that_s3prl_keeps_of_fairseqs_files(tmp_path: Path) -> None:
    theirs = net("HubertModel", "HubertConfig")
    settings = {"task_cfg": {"normalize": True}, "model_cfg": {"layer_norm_first": False, **SETTINGS}}
    out = tmp_path / "out"
    convert(save(tmp_path / "a.pt", {"model_weight": in_fairseq(theirs), "dictionaries_symbols": [], **settings}), out)
    same(out, theirs)
    assert extractors.load(str(out)).do_normalize and "granted" not in (out / "README.md").read_text()


@pytest.mark.parametrize("large", [False, True])
def test_without_settings_what_published_nets_share_is_taken(tmp_path: Path, large: bool) -> None:
    shape: dict[str, Any] = {
        "conv_dim": 7 * [16],
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "hidden_size": 128,
        "num_attention_heads": 2,
        "do_stable_layer_norm": large,
        "feat_extract_norm": "layer" if large else "group",
    }
    theirs = net("HubertModel", "HubertConfig", **shape)
    out = tmp_path / "out"
    convert(save(tmp_path / "a.pt", {"model": in_fairseq(theirs, layered=large)}), out)
    same(out, theirs)
    page = (out / "README.md").read_text()
    assert "it has 2 attention heads" in page and "norms stand" in page


# wav2vec and vq-wav2vec: a plain torch reference


def wav2vec_net(activation: Callable[[], nn.Module], coded: bool) -> nn.ModuleDict:
    """fairseq's modules under fairseq's names."""
    torch.manual_seed(0)

    def norm() -> nn.Module:
        one = nn.GroupNorm(1, 8)
        nn.init.normal_(one.weight)
        nn.init.normal_(one.bias)
        return one

    shapes = [(1, 10, 5), (8, 8, 4), (8, 4, 2)]
    front = [
        nn.Sequential(nn.Conv1d(inputs, 8, kernel, step, bias=False), nn.Dropout(0), norm(), activation())
        for inputs, kernel, step in shapes
    ]
    context = [
        nn.Sequential(
            nn.ReplicationPad1d((kernel - 1, 0)), nn.Conv1d(8, 8, kernel), nn.Dropout(0), norm(), activation()
        )
        for kernel in (2, 3)
    ]
    parts: dict[str, nn.Module] = {
        "feature_extractor": nn.ModuleDict({"conv_layers": nn.ModuleList(front)}),
        "feature_aggregator": nn.ModuleDict({"conv_layers": nn.Sequential(*context)}),
        "wav2vec_predictions": nn.ModuleDict({"project_to_steps": nn.ConvTranspose2d(8, 8, (1, 3))}),
    }
    if coded:
        book = nn.Module()
        book.vars = nn.Parameter(torch.randn(1, 5, 4))
        book.weight_proj = nn.Sequential(nn.Sequential(nn.Linear(8, 16), activation()), nn.Linear(16, 10))
        parts["vector_quantizer"] = book
    return nn.ModuleDict(parts)


def wav2vec_states(theirs: Any, values: Tensor, *, log: bool) -> tuple[Tensor, Tensor]:
    """States without and with context (B, S, H), as the papers have it."""
    found = values[:, None]
    for layer in theirs["feature_extractor"]["conv_layers"]:
        found = layer(found)
    found = (found.abs() + 1).log() if log else found
    below = found.transpose(1, 2)
    if "vector_quantizer" in theirs:
        book = theirs["vector_quantizer"]
        codes = book.weight_proj(below).view(*below.shape[:2], 2, 5).argmax(-1)
        found = book.vars[0][codes].flatten(2).transpose(1, 2)  # both groups share the entries
    for layer in theirs["feature_aggregator"]["conv_layers"]:
        found = (found + layer(found)) * 0.5**0.5
    return below, found.transpose(1, 2)


V1 = {
    "conv_feature_layers": "[(8, 10, 5), (8, 8, 4), (8, 4, 2)]",
    "aggregator": "cnn",
    "skip_connections_agg": True,
    "residual_scale": 0.5,
    "normalize": False,
}


@pytest.mark.parametrize("coded", [False, True])
def test_wav2vec_and_vq_wav2vec(tmp_path: Path, coded: bool) -> None:
    theirs = wav2vec_net(nn.GELU if coded else nn.ReLU, coded).eval()
    more = {"vq_groups": 2, "combine_groups": True, "vq_temp": "(2, 0.25, 0.999)", "vq_type": "gumbel"} if coded else {}
    told = {"activation": "gelu"} if coded else {}  # the first published nets name none
    args = argparse.Namespace(**V1, **told, log_compression=not coded, **more)
    out = tmp_path / "out"
    found = convert(save(tmp_path / "a.pt", {"model": theirs.state_dict(), "args": args}, zipped=False), out)
    assert found.kind == ("vq_wav2vec" if coded else "wav2vec")
    ours: Any = models.build(str(out), HeadSpec(kind="none")).eval()
    values, mask = sound(3000, 2100)
    with torch.no_grad():
        below, above = wav2vec_states(theirs, values[:1], log=not coded)
        output = ours(values[:1], output_hidden_states=True)
        torch.testing.assert_close(output.hidden_states[0], below, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(output.last_hidden_state, above, atol=1e-5, rtol=1e-4)
        _, above = wav2vec_states(theirs, values[1:, :2100], log=not coded)
        padded = ours(values, attention_mask=mask).last_hidden_state[1:, : above.shape[1]]
        torch.testing.assert_close(padded, above, atol=1e-5, rtol=1e-4)
    if coded:
        assert ours.quantizer.temperature == 0.25
    assert not extractors.load(str(out)).do_normalize


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aggregator": "gru"}, "aggregator"),
        ({"residual_scale": 1.0}, "residual_scale"),
        ({"activation": "tanh"}, "tanh"),
        ({"conv_feature_layers": "[(8, 10, 5), (8, 8, 4), (8, 5, 2)]"}, "its settings have the convolutions"),
        ({"conv_feature_layers": "__import__('os').mkdir('x')"}, "a list of convolutions belongs"),
        (None, "log_compression: give the model's settings with --config"),
    ],
)
def test_other_kinds_of_wav2vec_are_refused(tmp_path: Path, change: dict[str, Any] | None, words: str) -> None:
    content: dict[str, Any] = {"model": wav2vec_net(nn.ReLU, coded=False).state_dict()}
    if change is not None:
        content["args"] = argparse.Namespace(**V1 | {"activation": "relu", "log_compression": True} | change)
    refused(tmp_path, content, words)
    # What the file does not tell, the user can.
    if change is None:
        told = tmp_path / "settings.yaml"
        told.write_text(json.dumps(V1 | {"activation": "relu", "log_compression": True}))
        assert convert(tmp_path / "a.pt", tmp_path / "out", told).kind == "wav2vec"


@pytest.mark.parametrize(
    "change", [{"vq_groups": 0}, {"vq_groups": 3}, {"vq_groups": -2}, {"vq_temp": "()"}, {"vq_groups": 10**9}]
)
def test_senseless_settings_of_a_codebook_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    told = V1 | {"activation": "gelu", "log_compression": False, "vq_groups": 2, "vq_type": "gumbel"} | change
    content = {"model": wav2vec_net(nn.GELU, coded=True).state_dict(), "args": argparse.Namespace(**told)}
    refused(tmp_path, content, "settings are not of a net that is known here|lacks|shape|vq_groups")


def test_a_sum_of_lists_without_end_is_refused(tmp_path: Path) -> None:
    told = V1 | {"activation": "relu", "log_compression": True, "conv_feature_layers": "[(8, 10, 5)]" + 4 * " * 1000"}
    content = {"model": wav2vec_net(nn.ReLU, coded=False).state_dict(), "args": argparse.Namespace(**told)}
    refused(tmp_path, content, "a list of convolutions belongs")


def refused(tmp_path: Path, content: Any, words: str) -> None:
    """One line, and nothing is written."""
    place = save(tmp_path / "a.pt", content)
    with pytest.raises(HfcourseError, match=words) as caught:
        convert(place, tmp_path / "out")
    assert "\n" not in str(caught.value) and str(place) in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["a.pt"]


def test_kmeans_codebooks_are_refused(tmp_path: Path) -> None:
    weights = wav2vec_net(nn.ReLU, coded=False).state_dict() | {"vector_quantizer.embedding": torch.zeros(5, 2, 4)}
    refused(tmp_path, {"model": weights}, "k-means codebook does not carry over")


# s3prl


def test_the_student_of_distilhubert(tmp_path: Path) -> None:
    theirs = net("HubertModel", "HubertConfig", feat_proj_layer_norm=False, mask_time_prob=0.0)
    weights = in_fairseq(theirs) | {"output_layer.0.weight": torch.zeros(3), "output_layer.2.bias": torch.zeros(3)}
    settings = {"extractor_conv_feature_layers": CONVOLUTIONS, "encoder_attention_heads": 3, "layer_norm_first": False}
    content = {
        "Distiller": weights,
        "Config": {"distiller": settings, "task": {}},
        "Args": argparse.Namespace(upstream="distiller"),
        "Optimizer": {"state": {0: {"step": 1}}},
    }
    out = tmp_path / "out"
    assert convert(save(tmp_path / "a.ckpt", content), out).kind == "distilhubert"
    same(out, theirs)
    page = (out / "README.md").read_text()
    assert "converted from s3prl" in page and "output_layer.2.bias" in page


KALDI = {
    "kaldi": {"feat_type": "fbank", "fbank": {"num_mel_bins": 20, "frame_length": 25.0, "frame_shift": 10.0}},
    "delta": {"order": 1, "win_length": 5},
    "cmvn": {"use_cmvn": True},
}


def kaldi_frames(wave: Tensor, window: str, deltas: int) -> Tensor:
    """As s3prl makes them of one recording, (F, C)."""
    found = kaldi.fbank(wave[None], num_mel_bins=20, sample_frequency=16_000, window_type=window)
    parts = [found.T]
    for _ in range(deltas):
        parts.append(torchaudio.functional.compute_deltas(parts[-1]))
    whole = torch.cat(parts).T
    return (whole - whole.mean(dim=0)) / (whole.std(dim=0) + 1e-10)


def bert(hidden: int) -> Any:
    """transformers' own, which s3prl's layers are a copy of."""
    torch.manual_seed(0)
    shape = {"hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    config = transformers.BertConfig(vocab_size=1, type_vocab_size=1, max_position_embeddings=200, **shape)
    found = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        angles = [[at / 10000 ** (2 * (j // 2) / hidden) for j in range(hidden)] for at in range(200)]
        table = [[math.cos(one) if j % 2 else math.sin(one) for j, one in enumerate(row)] for row in angles]
        found.embeddings.position_embeddings.weight.copy_(torch.tensor(table))
        found.embeddings.token_type_embeddings.weight.zero_()
    return found


def test_a_transformer_over_frames(tmp_path: Path) -> None:
    theirs, project = bert(24), nn.Linear(40, 24)
    weights = {name: weight for name, weight in theirs.state_dict().items() if name.startswith("encoder.")}
    for part, module in (("spec_transform", project), ("LayerNorm", theirs.embeddings.LayerNorm)):
        weights |= {f"input_representations.{part}.{name}": one for name, one in module.state_dict().items()}
    shape = {"num_attention_heads": 2, "hidden_act": "gelu", "layer_norm_eps": "1e-12", "pre_layer_norm": False}
    content = {
        "Transformer": weights,
        "SpecHead": {"output.weight": torch.zeros(2)},
        "Upstream_Config": {"transformer": shape, "audio": KALDI, "task": {"sequence_length": 1500}},
        "Config": {"runner": {"total_steps": 200_000}},
        "Global_step": 7,
    }
    out = tmp_path / "out"
    assert convert(save(tmp_path / "a.ckpt", content), out).kind == "mockingjay"
    assert "longer than 1500 frames" in (out / "README.md").read_text()
    assert "SpecHead.output.weight" in (out / "README.md").read_text()

    def reference(wave: Tensor) -> tuple[Tensor, ...]:
        states = project(kaldi_frames(wave, "povey", deltas=1))[None]
        return theirs(inputs_embeds=states, output_hidden_states=True).hidden_states  # type: ignore[no-any-return]

    frames_agree(out, reference)


@pytest.mark.parametrize("coded", [False, True])
def test_gru_layers_over_frames(tmp_path: Path, coded: bool) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.GRU(inputs, 24, batch_first=True) for inputs in (20, 24, 24))
    weights = {f"rnn_layers.{name}": one for name, one in layers.state_dict().items()} | {
        "postnet.bias": torch.zeros(20)
    }
    if coded:
        weights["vq_layers.0.codebook_CxE.weight"] = torch.zeros(4)
    content = {
        "model": weights,
        "config": {
            "data": {"audio": {"feat_type": "fbank", "feat_dim": 20, "cmvn": True, "decode_wav": False, "dither": 0.0}},
            "model": {"paras": {"num_layers": 3, "hidden_size": 24, "dropout": 0.1, "residual": True}},
        },
    }
    out = tmp_path / "out"
    assert convert(save(tmp_path / "a.ckpt", content), out).kind == ("vq_apc" if coded else "apc")

    def reference(wave: Tensor) -> tuple[Tensor, ...]:
        states = kaldi_frames(wave, "hamming", deltas=0)[None]
        every = [F.pad(states, (0, 4))]
        for number, layer in enumerate(layers):
            found = layer(states)[0]
            states = found + states if number else found
            every.append(states)
        return tuple(every)

    frames_agree(out, reference)


def frames_agree(folder: Path, reference: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
    """Two recordings in one batch have the layers that each has alone."""
    ours = models.build(str(folder), HeadSpec(kind="none")).eval()
    assert not extractors.load(str(folder)).do_normalize
    values, mask = sound(6000, 4100)
    with torch.no_grad():
        found = ours(values, attention_mask=mask, output_hidden_states=True).hidden_states
        for row, length in enumerate((6000, 4100)):
            expected = reference(values[row, :length])
            assert len(found) == len(expected)
            for mine, other in zip(found, expected, strict=True):
                torch.testing.assert_close(mine[row, : other.shape[1]], other[0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("transformer", {"pre_layer_norm": True}, "pre_layer_norm"),
        ("transformer", {"layer_norm_eps": 1e-5}, "layer_norm_eps"),
        ("transformer", {"num_attention_heads": "two"}, "not of a net that is known here"),
        ("audio", {"kaldi": {"feat_type": "mfcc", "mfcc": {}}}, "not Kaldi's filterbanks"),
        ("audio", {"kaldi": {"fbank": {"dither": 1.0}}}, "dither 1.0"),
        ("audio", {"kaldi": {"fbank": {"window_type": "blackman"}}}, "window_type 'blackman'"),
        ("audio", {"kaldi": {"fbank": {"use_log_fbank": False}}}, "use_log_fbank False"),
        ("audio", {"delta": {"order": 1, "win_length": 9}}, "over five frames"),
        ("audio", None, "nothing tells its audio settings"),
    ],
)
def test_other_nets_on_frames_are_refused(tmp_path: Path, part: str, change: dict[str, Any] | None, words: str) -> None:
    weights = {"input_representations.spec_transform.weight": torch.zeros(24, 40)}
    weights["encoder.layer.0.intermediate.dense.weight"] = torch.zeros(40, 24)
    config: dict[str, Any] = {"transformer": {"num_attention_heads": 2}, "audio": KALDI}
    config = {name: one for name, one in config.items() if name != part or change is not None}
    if change is not None:
        config[part] = {**config[part], **change}
    refused(tmp_path, {"Transformer": weights, "Config": config}, words)


def test_modified_cpc_is_refused(tmp_path: Path) -> None:
    refused(
        tmp_path, {"weights": {"gEncoder.conv0.weight": torch.zeros(2)}, "config": {}}, "modified CPC does not carry"
    )


# What is wrong


def hubert() -> dict[str, Any]:
    theirs = net("HubertModel", "HubertConfig")
    return {"model": in_fairseq(theirs), "cfg": {"model": {"layer_norm_first": False, **SETTINGS}}}


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["model"].pop(name)


def with_weight(name: str, weight: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["model"].update({name: weight})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("encoder.layers.1.fc2.bias"), "lacks what is .*feed_forward.output_dense.bias"),
        (without("post_extract_proj.weight"), "lacks the weight 'post_extract_proj.weight'"),
        (
            with_weight("encoder.layers.0.adapter.weight", torch.zeros(2)),
            "'encoder.layers.0.adapter.weight'.* is none of",
        ),
        (with_weight("encoder.layers.7.fc2.bias", torch.zeros(2)), "'encoder.layers.7.fc2.bias' .* has no place"),
        (with_weight("encoder.layers.0.fc2.bias", torch.zeros(2)), r"'encoder.layers.0.fc2.bias' has the shape \(2,\)"),
        (with_weight("encoder.layers.0.fc2.bias", [1]), "'encoder.layers.0.fc2.bias' among its weights is no tensor"),
        (lambda content: content.pop("cfg"), "nothing tells its number of attention heads|strides"),
        (lambda content: content["cfg"]["model"].update(activation_fn="swish"), "swish"),
        (lambda content: content.update(model={"w2v_encoder.proj.weight": torch.zeros(2)}), "fine-tuned"),
        (lambda content: content.update(model={"lm_head.weight": torch.zeros(2)}), "none of the speech nets"),
        (lambda content: content.pop("model"), "none of the speech nets"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    content = hubert()
    change(content)
    refused(tmp_path, content, words)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = save(tmp_path / "a.pt", hubert())
    with pytest.raises(SystemExit) as caught:
        main(["convert", str(place), str(tmp_path / "out")])
    assert caught.value.code == 0 and "HubertModel" in capsys.readouterr().out
    text, short = tmp_path / "b.txt", tmp_path / "short.pt"
    text.write_text("a letter\n")
    short.write_bytes(place.read_bytes()[:50_000])
    for words in (
        [str(text), "new"],
        [str(short), "new"],
        [str(place), str(tmp_path / "out")],
        [str(place)],
        [str(place), "new", "--conf", "x"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(["convert", *words])
        told = capsys.readouterr().err
        assert caught.value.code == 2 and told.count("\n") == 1 and told.startswith("error: ")
    assert not Path("new").exists()
    with pytest.raises(RunFolderError, match="is there already"):
        convert(place, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"settings\.yaml: cannot be read"):
        convert(place, tmp_path / "new", tmp_path / "settings.yaml")
    with pytest.raises(ModelError, match="cannot be read"):
        convert(tmp_path / "none.pt", tmp_path / "new")
