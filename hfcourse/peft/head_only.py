"""Two ends of the scale behind `peft`'s interface: the head alone (linear probe), and all biases (BitFit).

Nothing is added to the backbone; what is saved is the head, and for BitFit the biases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import Tensor, nn

from hfcourse.errors import ModelError
from hfcourse.peft.register import register
from hfcourse.peft.tuner import Tuner


@dataclass
class HeadOnlyConfig(PeftConfig):  # type: ignore[misc]
    """``bias="all"`` is BitFit (arXiv 2106.10199), ``bias="none"`` a linear probe."""

    bias: str = field(default="none", metadata={"help": "none: the head alone; all: every bias of the backbone too"})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "modules trained whole: the head"})
    target_modules: str = field(default=DUMMY_TARGET_MODULES, metadata={"help": "none: nothing is wrapped"})
    inference_mode: bool = field(default=False, metadata={"help": "whether everything is frozen"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType("HEAD_ONLY")


class HeadOnlyModel(Tuner):
    """A backbone in which only what is there already is trained."""

    prefix = "head_only_"
    tuner_layer_cls = BaseTunerLayer

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        head = tuple(peft_config.modules_to_save or ())
        biases = [name for name, _ in self.model.named_parameters() if name.endswith(".bias")]
        if peft_config.bias == "all" and all(name.startswith(head) for name in biases):
            kind = model_config.get("model_type", "model")
            raise ModelError(
                f"bitfit trains biases, and this {kind} has none: it takes bert, roberta, electra, distilbert, gpt2, "
                "bart, wav2vec2, hubert, whisper; for this one use ln or lora"
            )
        return peft_config

    def _create_and_replace(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("no module is targeted")

    @classmethod
    def _get_learnable_bias_state_dict(
        cls, model: nn.Module, state_dict: dict[str, Tensor], config: PeftConfig
    ) -> dict[str, Tensor]:
        biases = super()._get_learnable_bias_state_dict(model, state_dict, config)
        # The head's are saved with the head.
        return {
            name: bias
            for name, bias in biases.items()
            if ".original_module." not in name and ".modules_to_save." not in name
        }


register("head_only", HeadOnlyConfig, HeadOnlyModel)
