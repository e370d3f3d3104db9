"""Parameter-efficient fine-tuning under the `peft` library's own interface: our methods beside its own."""

from hfcourse.peft.prefix import PrefixConfig
from hfcourse.peft.soft_prompt import SoftPromptConfig

__all__ = ["PrefixConfig", "SoftPromptConfig"]
