"""The next-token loss in chunks equals the native classes' own, gradients included, and holds no batch of logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from hfcourse.backbones.attention import attention_by
from hfcourse.errors import ModelError
from hfcourse.heads import losses
from hfcourse.heads.spec import HeadSpec
from hfcourse.native import native_class
from hfcourse.objectives.causal_lm import CausalLM

VOCABULARY = 97
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1},
    "llama": SIZE | {"tie_word_embeddings": True},
    "mistral": SIZE | {"tie_word_embeddings": False},
    "gpt_neox": {key: value for key, value in SIZE.items() if key not in {"num_key_value_heads", "head_dim"}},
    "gemma2": SIZE | {"final_logit_softcapping": 1.0},  # bounds its logits: they are no plain projection
    "granite": SIZE | {"logits_scaling": 2.0},
}


def causal(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, vocab_size=VOCABULARY, **FAMILIES[name])
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # logits far enough from uniform for every part to count
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def bound(model: PreTrainedModel) -> CausalLM:
    objective = CausalLM()
    objective.bind(model)
    return objective


def blocks(rows: int = 3, length: int = 17) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Windows of T + 1 tokens, as transformers takes them, and as a batch."""
    windows = torch.randint(2, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))
    return windows, {"input_ids": windows[:, :-1], "labels": windows[:, 1:]}


def gradients(loss: torch.Tensor, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("chunk", [0, 5])
def test_equals_the_native_loss(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if chunk:  # 48 states in ten parts
        monkeypatch.setattr(losses, "_chunk", lambda weight: chunk)
    model, (windows, batch) = causal(name), blocks()
    objective = bound(model)
    assert objective.projects == (name != "gemma2")
    full = model(input_ids=windows, labels=windows)
    output = objective(model, batch, need_logits=False)
    assert output.logits is None and objective.counts(batch) == {"causal_lm": 48}
    torch.testing.assert_close(output.losses["causal_lm"], full.loss, rtol=0, atol=1e-5)
    theirs, mine = gradients(full.loss, model), gradients(output.losses["causal_lm"], model)
    assert theirs.keys() == mine.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(mine[key], value, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
    with torch.no_grad():
        judged = objective(model, batch, need_logits=True)
    expected = F.cross_entropy(full.logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(judged.logits, expected.view(3, 16), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(judged.losses["causal_lm"], full.loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bound_is_seen_where_logits_are_still_small(dtype: torch.dtype) -> None:
    """Gemma 2's own bound (30) does nothing to a model at its start, and much to one that has learned."""
    settings = {"vocab_size": VOCABULARY, "dtype": dtype} | FAMILIES["gemma2"]
    for name, projects in (("gemma2", False), ("llama", True), ("granite", True)):
        more = settings | ({"final_logit_softcapping": 30.0} if name == "gemma2" else FAMILIES[name])
        fresh = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **more)).to(dtype)
        assert bound(fresh).projects == projects


def test_padding_and_labels_that_are_left_out() -> None:
    model, (windows, batch) = causal("llama"), blocks()
    mask = torch.ones_like(windows)
    mask[1, 10:] = 0
    labels = torch.where(mask.bool(), windows, -100)
    full = model(input_ids=windows, attention_mask=mask, labels=labels).loss
    batch = {"input_ids": windows[:, :-1], "attention_mask": mask[:, :-1], "labels": labels[:, 1:]}
    objective = bound(model)
    assert objective.counts(batch) == {"causal_lm": 48 - 7}
    for need in (False, True):
        ours = objective(model, batch, need_logits=need).losses["causal_lm"]
        torch.testing.assert_close(ours, full, rtol=0, atol=1e-5)


class Largest(TorchDispatchMode):
    """The most rows of any tensor that is as wide as the vocabulary, but for the embedding itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, torch.Tensor) and tensor.dim() > 1 and tensor.shape[-1] == VOCABULARY:
                self.rows = max(self.rows, tensor.numel() // VOCABULARY)
        return found


@pytest.mark.parametrize("need_logits", [False, True])
def test_the_batch_times_vocabulary_never_exists(need_logits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_chunk", lambda weight: 40)
    model, (windows, batch) = causal("gpt2"), blocks(rows=8)
    objective = bound(model)
    with Largest() as plain:
        model(input_ids=windows, labels=windows).loss.backward()
    assert plain.rows >= 8 * 16
    with Largest() as ours:
        loss = objective(model, batch, need_logits=need_logits).losses["causal_lm"]
        if not need_logits:
            loss.backward()
    assert 32 <= ours.rows <= 40  # a chunk; 32 is the transposed embedding


def test_no_keys_and_values_are_kept() -> None:
    model, (_, batch) = causal("gpt2"), blocks()
    kept: list[Any] = []
    model.register_forward_hook(lambda module, inputs, output: kept.append(output.past_key_values))
    objective = bound(model)
    objective(model, batch, need_logits=False)
    assert kept and not any(kept) and model.config.use_cache  # of its own accord it still would


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(("name", "lean"), [("gpt2", True), ("llama", True), ("mistral", False)])
def test_compiled_rows_without_padding_get_no_mask(name: str, lean: bool, fresh_compiler: None) -> None:
    """SDPA hides the future itself then, and its fastest kernels can run; padding and windows still make a mask."""
    masks: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        attends = [node for node in graph.graph.nodes if "scaled_dot_product_attention" in str(node.target)]
        masks.extend(node.kwargs.get("attn_mask") for node in attends)
        return graph.forward

    model, (_, batch) = causal(name), blocks()
    if name == "mistral":
        model.config.sliding_window = 5
    objective = bound(model)
    padded = batch | {"attention_mask": torch.ones(3, 16, dtype=torch.long).index_fill_(1, torch.tensor([15]), 0)}
    plain = [objective(model, one, need_logits=True).logits for one in (batch, padded)]
    with attention_by("eager", model, instead_of="sdpa"):
        eager = objective(model, batch, need_logits=True).logits
    torch.testing.assert_close(plain[0], eager, rtol=1e-4, atol=1e-4)
    base: Any = model.base_model
    base.compile(backend=backend)
    for one, expected, bare in zip((batch, padded), plain, (lean, False), strict=True):
        masks.clear()
        torch.testing.assert_close(objective(model, one, need_logits=True).logits, expected, rtol=1e-4, atol=1e-4)
        assert len(masks) == 2 and all((mask is None) == bare for mask in masks)
    assert model.config._attn_implementation == "sdpa"


DEVICES = [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of the compiler's own modules
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_compiled_it_learns_the_same(name: str, device: str, fresh_compiler: None) -> None:
    """Loss and gradients of the kernels that torch.compile writes, for a second shape as well."""
    model = causal(name).to(device)
    objective, base = bound(model), cast(Any, model.base_model)
    batches = [{key: value.to(device) for key, value in blocks(rows)[1].items()} for rows in (3, 2)]
    plain = [objective(model, batch, need_logits=False).losses["causal_lm"] for batch in batches]
    expected = [(loss.item(), gradients(loss, model)) for loss in plain]
    base.compile()
    for batch, (loss, slopes) in zip(batches, expected, strict=True):
        found = objective(model, batch, need_logits=False).losses["causal_lm"]
        assert found.item() == pytest.approx(loss, abs=1e-4)
        for key, value in gradients(found, model).items():
            torch.testing.assert_close(value, slopes[key], rtol=1e-3, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")


def test_a_kernel_for_gpus_alone_is_not_tried() -> None:
    """FlashAttention 2 takes no fp32 and no CPU, where a model is when it is bound."""
    model: Any = causal("llama")
    model.config._attn_implementation = "flash_attention_2"
    assert bound(model).projects and model.config._attn_implementation == "flash_attention_2"


def test_in_bf16_it_is_near() -> None:
    model, (windows, batch) = causal("llama"), blocks()
    full = model(input_ids=windows, labels=windows).loss
    with torch.autocast("cpu", torch.bfloat16):
        ours = bound(model)(model, batch, need_logits=False).losses["causal_lm"]
        judged = bound(model)(model, batch, need_logits=True).losses["causal_lm"]
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, full, rtol=0.02, atol=0)
    torch.testing.assert_close(judged, full, rtol=0.02, atol=0)


def test_the_model_is_as_it_was() -> None:
    model, (_, batch) = causal("gpt2"), blocks()
    before = model(input_ids=batch["input_ids"]).logits
    objective = bound(model)
    objective(model, batch, need_logits=False)
    with pytest.raises(IndexError):
        objective(model, batch | {"input_ids": torch.full((3, 16), VOCABULARY)}, need_logits=False)
    assert torch.equal(model(input_ids=batch["input_ids"]).logits, before) and not model.training


def test_a_model_that_sees_what_it_guesses_is_refused() -> None:
    config = AutoConfig.for_model(
        "bert", vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model_class = native_class(config, [HeadSpec(kind="causal_lm")])
    assert model_class is not None
    with pytest.raises(ModelError, match="reads in both directions"):
        CausalLM().bind(model_class(config))
    config.is_decoder = True
    CausalLM().bind(model_class(config))
