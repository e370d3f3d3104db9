"""Convolutions on CPU in bf16 that are given nothing behind their last window.

Where a strided convolution (kernel of two strides or more) leaves input over, oneDNN's bf16 gradient of the weights
reads memory that nobody wrote, times zero: nothing, or nan where that memory happens to hold one (oneDNN 3.10, torch
2.11; fp32 and the forward pass are sound). No output hears what is left over, so it is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from hfcourse.backbones.speech.rate import in_windows


@contextmanager
def whole_windows_in(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block the strided convolutions of some modules hear their windows and nothing more."""
    every = {id(m): m for module in modules for m in module.modules()}.values()
    hooks = [m.register_forward_pre_hook(_cut) for m in every if isinstance(m, nn.Conv1d) and _is_concerned(m)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_concerned(conv: nn.Conv1d) -> bool:
    (kernel,), (stride,) = conv.kernel_size, conv.stride
    return stride > 1 and kernel >= 2 * stride and conv.padding == (0,) and conv.dilation == (1,)


def _cut(conv: nn.Conv1d, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """(B, C, T) without what lies behind the last window."""
    (states,) = given
    heard = in_windows(states.shape[-1], conv.kernel_size[0], conv.stride[0])
    return (states[..., :heard],) if heard < states.shape[-1] else None
