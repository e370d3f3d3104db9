"""What a saved adapter says of itself."""

from __future__ import annotations

from pathlib import Path

from peft import PeftConfig

from hfcourse.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"


def adapter_config(folder: str | Path) -> PeftConfig:
    """The settings that lie beside its weights.

    Raises:
        ModelError: the file is damaged, or of a method that is not known here.
    """
    try:
        config: PeftConfig = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{folder}/{ADAPTER_CONFIG}: it cannot be read, or is of a method that is not known here "
            f"({type(error).__name__}: {reason})"
        ) from error
    return config
