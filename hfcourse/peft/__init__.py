"""Parameter-efficient fine-tuning under the `peft` library's own interface: our methods beside its own.

Importing this module makes ours known to `peft`: `get_peft_model`, `PeftModel.from_pretrained` and the rest take them.
"""

from peft import PeftModel, get_peft_model

from hfcourse.peft.bottleneck import BottleneckConfig, CompacterConfig
from hfcourse.peft.head_only import HeadOnlyConfig
from hfcourse.peft.prefix import PrefixConfig
from hfcourse.peft.soft_prompt import SoftPromptConfig

__all__ = [
    "BottleneckConfig",
    "CompacterConfig",
    "HeadOnlyConfig",
    "PeftModel",
    "PrefixConfig",
    "SoftPromptConfig",
    "get_peft_model",
]
