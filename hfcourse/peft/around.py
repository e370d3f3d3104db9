"""What prefixes and soft prompts share: layers around whole modules of a model, and a start from real words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from hfcourse.errors import ModelError
from hfcourse.peft.tuner import Tuner

SERVED = "bert, roberta, electra, distilbert, modernbert, gpt2, llama, t5, bart, wav2vec2, hubert and their kin"


class AroundLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A module with virtual tokens by adapter name, in the containers that `adapter_layer_names` lists."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.base_layer = module

    def restore(self) -> nn.Module:
        """The bare module, as it was."""
        return self.base_layer

    def unload_and_optionally_merge_module(self, **_: Any) -> nn.Module:
        """What the library's `unload` asks for; that nothing is merged was checked before."""
        return self.restore()

    def __getattr__(self, name: str) -> Any:
        """What a model's code reads from its modules."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


class AroundModel(Tuner):
    """A tuner of such layers.

    Raises:
        ModelError: it shall be merged.
    """

    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012

    def _check_merge_allowed(self) -> None:
        raise ModelError("virtual tokens cannot be merged into weights: keep the adapter, or drop it with unload()")


def kind_of(model: nn.Module) -> str:
    """The type of a model, for messages."""
    return str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))


def backbone_of(model: nn.Module, name: str) -> Any:
    """The innermost `PreTrainedModel` around the module of that name."""
    around = [name.split(".")[:depth] for depth in range(name.count(".") + 2)]
    modules = [model.get_submodule(".".join(part)) for part in around]
    return next(module for module in reversed(modules) if isinstance(module, PreTrainedModel))


def reads_words(backbone: Any) -> bool:
    """Whether a backbone has a vocabulary, and weights to look its words up in."""
    return bool(backbone.main_input_name == "input_ids" and backbone.device.type != "meta")


def random_words(backbone: Any, count: int) -> Tensor:
    """Ids (1, count) of words drawn from the vocabulary; special tokens are none."""
    named = [value for name, value in vars(backbone.config).items() if name.endswith("_token_id")]
    special = {one for value in named for one in (value if isinstance(value, list | tuple) else [value])}
    table = backbone.get_input_embeddings().weight
    words = torch.tensor([word for word in range(table.shape[0]) if word not in special])
    return words[torch.randint(len(words), (1, count))].to(table.device)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Without dropout and gradients."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
