"""A tensor on a device that has no double precision, as Apple's GPUs."""

from __future__ import annotations

from typing import Any

import torch


class NoDouble(torch.Tensor):
    """Refuses float64 until it is brought to the CPU."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        found = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(found, torch.Tensor) and found.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return found


def on_such_a_device(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers there."""
    return tensor.as_subclass(NoDouble)
