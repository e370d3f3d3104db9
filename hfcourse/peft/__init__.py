"""Parameter-efficient fine-tuning under the `peft` library's own interface: our methods beside its own.

Importing this module makes ours known to `peft`: `get_peft_model`, `PeftModel.from_pretrained` and the rest take them.
"""

from peft import PeftModel, get_peft_model

from hfcourse.peft.bottleneck import BottleneckConfig, CompacterConfig

__all__ = ["BottleneckConfig", "CompacterConfig", "PeftModel", "get_peft_model"]
