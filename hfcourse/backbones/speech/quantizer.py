"""States become entries of codebooks, and gradients pass all the same: by Gumbel noise or by the nearest entry."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GumbelQuantizer(nn.Module):
    """An entry of each group's codebook, drawn by Gumbel-softmax in training and the likeliest otherwise.

    As in vq-wav2vec (arXiv 1910.05453), wav2vec 2.0 (2006.11477) and VQ-APC (2005.08392).
    """

    def __init__(
        self,
        hidden: int,
        *,
        groups: int,
        codes: int,
        temperatures: tuple[float, float, float] = (2.0, 0.5, 0.999),
    ) -> None:
        """Codebooks of `codes` entries for each of `groups` parts of a state.

        Args:
            hidden: width of a state.
            groups: codebooks.
            codes: entries of each.
            temperatures: of the draws at first, at least, and the factor by which they cool at each step.
        """
        super().__init__()
        self.groups, self.codes, self.temperatures = groups, codes, temperatures
        self.temperature = temperatures[0]
        self.logits = nn.Linear(hidden, groups * codes)
        self.codebook = nn.Parameter(torch.empty(groups, codes, hidden // groups).uniform_(-1, 1) / math.sqrt(hidden))

    def cool(self, step: int) -> None:
        """Set the temperature of a step."""
        first, least, factor = self.temperatures
        self.temperature = max(first * factor**step, least)

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


def perplexity(shares: Tensor) -> Tensor:
    """Of distributions (groups, codes): 2 to their entropy in bits, summed over the groups; detached."""
    shares = shares.detach()
    return (-(shares * (shares + 1e-9).log()).sum(dim=-1)).exp().sum()
