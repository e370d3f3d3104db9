"""The optimizer and its parameter groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from hfcourse.engine.embedding import gradient_of
from hfcourse.engine.settings import OptimConfig
from hfcourse.peft.wrap import WRAPPED, unwrapped

_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")


def parameter_groups(model: nn.Module, extra: Iterable[nn.Module], config: OptimConfig) -> list[dict[str, Any]]:
    """Groups of equal weight decay and learning-rate scale.

    Matrices decay, vectors (biases, norms, mixing scalars) never do. The backbone's layers learn at
    ``layer_decay ** distance from the top``, embeddings below all of them; heads and the `extra` modules of an
    objective at `head_lr`. Each group carries ``scale``: its peak lr is ``scale * config.lr``; and ``hidden``: whether
    it holds the matrices of the layers, which Muon is for.
    """
    inner = unwrapped(model)
    # A bare backbone has the prefix of a model with a head, but no part of that name.
    prefix = f"{getattr(inner, 'base_model_prefix', '')}." if getattr(inner, "base_model", inner) is not inner else "."
    depth = 1 + max((_layer(name) for name, _ in model.named_parameters()), default=0)
    head_scale = 1.0 if config.head_lr is None else config.head_lr / config.lr
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    seen: set[int] = set()

    def add(name: str, parameter: nn.Parameter, in_head: bool) -> None:
        if not parameter.requires_grad or id(parameter) in seen:
            return
        seen.add(id(parameter))
        scale = head_scale if in_head else config.layer_decay ** (depth - 1 - _layer(name))
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        hidden = parameter.ndim == 2 and not in_head and _layer(name) > 0
        groups.setdefault((scale, decay, hidden), []).append(parameter)

    for name, parameter in model.named_parameters():
        name = name if inner is model else name.removeprefix(WRAPPED)
        outside = prefix != "." and not name.startswith(prefix)
        add(name, parameter, in_head=outside or ".modules_to_save." in name)  # as is the pooler that a method trains
    for module in extra:
        for name, parameter in module.named_parameters():
            add(name, parameter, in_head=True)
    if not groups:  # an adapter that is only judged
        groups[1.0, 0.0, False] = []
    return [
        {"params": parameters, "scale": scale, "weight_decay": decay, "lr": scale * config.lr, "hidden": hidden}
        for (scale, decay, hidden), parameters in groups.items()
    ]


def _layer(name: str) -> int:
    """1 for the lowest layer; 0 for embeddings. What stands after the last layer (a final norm) counts as below."""
    match = None if "pos_conv_embed" in name else _LAYER.search(name)  # data2vec's positions have layers, too
    return int(match[1]) + 1 if match else 0


def make_optimizer(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101), fused: one pass over all parameters; or Muon beside it for the layers' matrices."""
    if config.name == "muon" and any(group["hidden"] for group in groups):
        return MuonAndAdamW(groups, config)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


@torch.no_grad()
def allocate_moments(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer's state now, before the first forward pass, instead of in the first step.

    On CPU it would otherwise settle in the hole that the first batch's activations leave, and the heap would grow
    past it for the batches to come: in fine-tuning a third of the peak. What is computed stays the same.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if group.get("momentum") is not None:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            else:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)


def clips_itself(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `clip_in_step` can leave clipping to the optimizer's own pass over the gradients."""
    return type(optimizer) is torch.optim.AdamW and all(group["fused"] for group in optimizer.param_groups)


def clip_in_step(optimizer: torch.optim.Optimizer, limit: float) -> torch.Tensor:
    """The norm of all gradients; the next step divides them where it is above `limit`.

    As `torch.nn.utils.clip_grad_norm_`, without its pass that multiplies every gradient, by one mostly. Reads the norm:
    for CPU, where nothing waits for that.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.get_total_norm([gradient_of(p) for p in parameters if p.grad is not None])
    scale = (norm + 1e-6) / limit
    optimizer.grad_scale = scale if scale > 1 else None  # type: ignore[attr-defined]
    return norm


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024; arXiv 2502.16982) for the matrices of the layers, AdamW for everything else.

    Muon's steps are scaled to the size of AdamW's, so that one lr and one weight decay serve both. To the rest of the
    loop it is one optimizer: one list of groups, one state.
    """

    def __init__(self, groups: list[dict[str, Any]], config: OptimConfig) -> None:
        hidden = [group for group in groups if group["hidden"]]
        others = [group for group in groups if not group["hidden"]]
        self.parts: dict[bool, torch.optim.Optimizer] = {
            True: torch.optim.Muon(hidden, lr=config.lr, momentum=config.momentum, adjust_lr_fn="match_rms_adamw")
        }
        if others:
            self.parts[False] = torch.optim.AdamW(others, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
        super().__init__([group for part in self.parts.values() for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let each part step its own of the groups, on the one state."""
        for hidden, part in self.parts.items():
            part.param_groups = [group for group in self.param_groups if group["hidden"] is hidden]
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both."""
        for part in self.parts.values():
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, for both."""
        super().load_state_dict(state_dict)
        self._share()


def lr_factor(step: int, total: int, config: OptimConfig) -> float:
    """The schedule: what step `step` (from 0) of `total` multiplies the peak learning rate by.

    Linear warm-up, then linear, cosine, stable-then-decay (WSD, arXiv 2404.06395), inverse square root
    (arXiv 1706.03762) or constant.
    """
    warmup = config.warmup if config.warmup >= 1 else config.warmup * total
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = max(total - step, 0) / max(total - warmup, 1)  # 1 at the end of warm-up, 0 after the last step
    if config.schedule == "linear":
        return left
    if config.schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    if config.schedule == "wsd":
        return min(1.0, max(total - step, 0) / max(config.decay * total, 1))
    if config.schedule == "inverse_sqrt":
        return math.sqrt(max(warmup, 1) / max(step, warmup, 1))
    return 1.0


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of the step's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)
