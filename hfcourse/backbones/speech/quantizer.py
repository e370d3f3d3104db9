"""States become entries of codebooks, and gradients pass all the same: by Gumbel noise or by the nearest entry."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F


class GumbelQuantizer(nn.Module):
    """An entry of each group's codebook, drawn by Gumbel-softmax in training and the likeliest otherwise.

    As in vq-wav2vec (arXiv 1910.05453), wav2vec 2.0 (2006.11477) and VQ-APC (2005.08392).
    """

    temperature: Any

    def __init__(
        self,
        hidden: int,
        *,
        groups: int,
        codes: int,
        depth: int = 1,
        temperatures: tuple[float, float, float] = (2.0, 0.5, 0.999),
    ) -> None:
        """Codebooks of `codes` entries for each of `groups` parts of a state.

        Args:
            hidden: width of a state.
            groups: codebooks.
            codes: entries of each.
            depth: linear layers that choose; all but the last give twice the width, and GELU stands behind them.
            temperatures: of the draws at first, at least, and the factor by which they cool at each step.
        """
        super().__init__()
        self.groups, self.codes, self.temperatures = groups, codes, temperatures
        # A buffer, so that a run that is resumed draws its first step as the one that was interrupted would have.
        self.register_buffer("temperature", torch.tensor(temperatures[0]))
        self.logits: nn.Module = nn.Linear(hidden if depth == 1 else 2 * hidden, groups * codes)
        if depth > 1:
            widths = [hidden, *[2 * hidden] * (depth - 1)]
            below = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.GELU())]
            self.logits = nn.Sequential(*below, self.logits)
        self.codebook = nn.Parameter(torch.empty(groups, codes, hidden // groups).uniform_(-1, 1) / math.sqrt(hidden))

    def cool(self, step: int) -> None:
        """Set the temperature of a step."""
        first, least, factor = self.temperatures
        self.temperature.fill_(max(first * factor**step, least))

    def forward(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Entries (B, S, H) for states (B, S, H), and the perplexity of their mean distribution, summed over groups.

        `mask` (B, S) tells the states that count for the perplexity; None for all.
        """
        logits = self.logits(states).float().unflatten(-1, (self.groups, self.codes))
        likeliest = F.one_hot(logits.argmax(dim=-1), self.codes).to(logits.dtype)
        chosen = F.gumbel_softmax(logits, tau=self.temperature, hard=True) if self.training else likeliest
        entries = torch.einsum("bsgc,gch->bsgh", chosen, self.codebook.float()).flatten(2)
        used = likeliest if mask is None else likeliest[mask].unsqueeze(0)
        return entries.to(states.dtype), perplexity(used.flatten(0, 1).mean(dim=0))

    @torch.no_grad()
    def indices(self, states: Tensor) -> Tensor:
        """The likeliest entry of each group, int64 (B, S, groups)."""
        best: Tensor = self.logits(states).unflatten(-1, (self.groups, self.codes)).argmax(dim=-1)
        return best


class KMeansQuantizer(nn.Module):
    """The entry of each group's codebook that is nearest to a state (arXiv 1711.00937, 1910.05453).

    Gradients pass as if nothing had been chosen. The entries move towards the states that chose them, the states a
    little towards their entries: both by the loss that is given back. An entry that no state has chosen for a while
    becomes one of the states, as all do in the beginning that none chooses: what is never chosen would never move.
    """

    idle: Tensor
    COMMITMENT = 0.25
    """How strongly states are drawn to their entries, beside entries to their states."""
    PATIENCE = 10
    """An entry that was not chosen in so many steps becomes a state."""

    def __init__(self, hidden: int, *, groups: int, codes: int) -> None:
        """Codebooks of `codes` entries for each of `groups` parts of a state of width `hidden`."""
        super().__init__()
        self.groups, self.codes = groups, codes
        self.project = nn.Linear(hidden, hidden, bias=False)
        self.codebook = nn.Parameter(F.layer_norm(torch.randn(groups, codes, hidden // groups), (hidden // groups,)))
        # Steps since each entry was chosen last.
        self.register_buffer("idle", torch.full((groups, codes), self.PATIENCE))
        self._noted: tuple[Tensor, Tensor] | None = None

    def forward(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Entries (B, S, H) for states (B, S, H), the perplexity of their use summed over groups, and the loss.

        The loss is a mean over the states that `mask` (B, S) tells to count; None for all.
        """
        parts = self._parts(states)
        chosen = self._nearest(parts)
        entries = self._looked_up(chosen)
        used = F.one_hot(chosen, self.codes).float()
        far, drawn = (entries - parts.detach()).square(), (parts - entries.detach()).square()
        losses = (far + self.COMMITMENT * drawn).flatten(2).mean(dim=-1)
        if mask is not None:
            used, losses = used[mask].unsqueeze(0), losses[mask]
        if self.training:
            self._note(used.flatten(0, 1).amax(dim=0) > 0, parts.flatten(0, 1) if mask is None else parts[mask])
        passed = parts + (entries - parts).detach()
        return passed.flatten(2).to(states.dtype), perplexity(used.flatten(0, 1).mean(dim=0)), losses.mean()

    @torch.no_grad()
    def indices(self, states: Tensor) -> Tensor:
        """The nearest entry of each group, int64 (B, S, groups)."""
        return self._nearest(self._parts(states))

    def _parts(self, states: Tensor) -> Tensor:
        """Each group's part of the projected states, of one length, fp32 (B, S, groups, H / groups)."""
        parts = self.project(states).float().unflatten(-1, (self.groups, -1))
        return F.layer_norm(parts, parts.shape[-1:])

    @torch.no_grad()
    def _note(self, chosen: Tensor, parts: Tensor) -> None:
        """Which entries were `chosen` (groups, codes), and a few of `parts` (N, groups, H / groups) for the rest."""
        drawn = parts[torch.randint(len(parts), (self.codes,), device=parts.device)].transpose(0, 1)
        self._noted = (chosen if self._noted is None else chosen | self._noted[0], drawn)

    @torch.no_grad()
    def revive(self) -> None:
        """After a step: entries that no state of any forward pass has chosen for long become states.

        Of several processes the first decides for all: here, as each may have its own number of passes.
        """
        if self._noted is None:
            return
        (chosen, drawn), self._noted = self._noted, None
        self.idle.copy_(torch.where(chosen, 0, self.idle + 1))
        dead = self.idle >= self.PATIENCE
        self.codebook.copy_(torch.where(dead[..., None], drawn, self.codebook))
        self.idle.masked_fill_(dead, 0)
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(self.codebook, 0)
            torch.distributed.broadcast(self.idle, 0)

    @torch.no_grad()
    def _nearest(self, parts: Tensor) -> Tensor:
        with torch.autocast(parts.device.type, enabled=False):
            # The square of the state is the same for every entry.
            distances = self.codebook.square().sum(dim=-1) - 2 * torch.einsum("bsgh,gch->bsgc", parts, self.codebook)
        return distances.argmin(dim=-1)

    def _looked_up(self, chosen: Tensor) -> Tensor:
        """Entries (B, S, groups, H / groups) of indices (B, S, groups)."""
        numbers = chosen + torch.arange(self.groups, device=chosen.device) * self.codes
        return F.embedding(numbers, self.codebook.flatten(0, 1))


def perplexity(shares: Tensor) -> Tensor:
    """Of distributions (groups, codes): 2 to their entropy in bits, summed over the groups; detached."""
    shares = shares.detach()
    return (-(shares * (shares + 1e-9).log()).sum(dim=-1)).exp().sum()
