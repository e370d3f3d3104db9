"""The cluster of a masked state is foretold: HuBERT (arXiv 2106.07447), and WavLM (2110.13900) under other voices.

Shapes: rows B, states S, masked states M, clusters K, hidden H.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.backbones.speech.quantizer import perplexity
from hfcourse.backbones.speech.rate import shortest, stride
from hfcourse.data.overlap import coloured_noise, overlapped
from hfcourse.data.spans import meeting_spans
from hfcourse.errors import ConfigError
from hfcourse.objectives.base import Batch, Output
from hfcourse.objectives.speech.base import Draws, SpeechObjective, keep_samples_constant, states_of
from hfcourse.peft.wrap import unwrapped
from hfcourse.weights import quiet

if TYPE_CHECKING:
    from hfcourse.data.clips import Clips
    from hfcourse.data.units import SplitUnits, Units
    from hfcourse.objectives.speech.settings import HuBERT, WavLM
    from hfcourse.tasks.base import SpeechContext

_SPANS, _MIXTURES = 1, 2
"""Streams of draws."""
_ONE = 1.1
"""A perplexity below: nearly all states are of one cluster."""


class MaskedClusters(SpeechObjective):
    """Cross entropy of the clusters of masked states, and with a factor of the others.

    The batch holds ``state_mask`` (B, S) bool, ``masked`` (M,), the same as flat indices, and ``units`` (B, S), the
    cluster of each state, -1 where there is none.
    """

    def __init__(self, settings: HuBERT) -> None:
        self.settings = settings
        self.weights = {"unmasked": settings.unmasked}
        self.codes: Any = None
        self._inner: Any = None
        self.clusters = 0
        self._units: dict[Clips, SplitUnits] = {}
        self._stride, self._receptive = 0, 0

    def prepare(self, splits: Mapping[str, Clips], context: SpeechContext) -> None:
        """Take the units that the settings name, or make them.

        Raises:
            ConfigError: none are named, and there is no run folder to make them in.
            DataError: units of other recordings, of another model or rate; more clusters than frames.
        """
        found = self._found(splits, context)
        self.clusters = found.clusters
        self._units = {clips: found.of(split, clips) for split, clips in splits.items()}
        self._stride, self._receptive = stride(context.backbone), shortest(context.backbone)

    def _found(self, splits: Mapping[str, Clips], context: SpeechContext) -> Units:
        from hfcourse.backbones.settings import BackboneConfig
        from hfcourse.data import units
        from hfcourse.data.frame_features import shown
        from hfcourse.objectives.speech.layer_states import frames_of

        settings = self.settings
        if settings.units:
            return units.Units.open(_folder_of_units(settings.units))
        if context.folder is None:
            raise ConfigError(
                f"{settings.kind} foretells clusters, and none are there: name a folder with --method.units"
            )
        backbone = BackboneConfig(cache_dir=context.cache_dir)
        with quiet():
            frames = frames_of(settings.teacher, settings.layer, context.rate, backbone, cmvn=settings.cmvn)
        folder = Path(context.folder) / "units"
        made = units.make(folder, splits, frames, clusters=settings.clusters, seed=context.seed)
        number = made.about["splits"]["train"]["frames"]
        context.notes.append(f"units: {made.clusters} clusters of {shown(frames.about)}, {number:,} frames: {folder}")
        return made

    def bind(self, model: nn.Module) -> None:
        """Make the projection and a code for each cluster.

        Raises:
            ConfigError: a backbone that masks no states.
        """
        inner: Any = unwrapped(model)
        self._inner = inner
        config = inner.config
        if not hasattr(inner, "masked_spec_embed") or not getattr(config, "apply_spec_augment", True):
            raise ConfigError(f"{self.settings.kind} masks states: take a hubert, wavlm or wav2vec2 net that can")
        keep_samples_constant(inner)
        self.codes = ClusterCodes(
            config.hidden_size, self.clusters, size=self.settings.code_size, temperature=self.settings.temperature
        )

    def modules_to_train(self) -> list[nn.Module]:
        return [self.codes]

    def draw(self, states: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        mask = meeting_spans(states, self.settings.mask_rate, self.settings.span, draws(_SPANS, int(states.max()) + 1))
        assert draws.source is not None and draws.begins is not None
        units = self._units[draws.source].at(
            draws.rows,
            draws.begins,
            states,
            stride=self._stride,
            receptive=self._receptive,
            speeds=draws.speeds,
        )
        return {"state_mask": mask, "masked": np.flatnonzero(mask), "units": units}

    def counts(self, batch: Batch) -> dict[str, int]:
        masked = len(batch["masked"])
        return {"masked": masked, "unmasked": int(batch["states"].sum()) - masked}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        judges_all = bool(self.settings.unmasked) or not model.training
        masked, units = batch["masked"], batch["units"].flatten()
        read = contextlib.nullcontext() if judges_all else last_layer_at(self._inner, masked)
        with read:
            states = states_of(model, batch, mask_time_indices=batch["state_mask"]).last_hidden_state.flatten(0, 1)
        log_likely = self.codes(states[masked]).log_softmax(dim=-1)
        losses = {"masked": F.nll_loss(log_likely, units[masked])}
        logs = self._health(log_likely.detach(), units[masked], batch)
        if judges_all:
            others = ((units >= 0) & ~batch["state_mask"].flatten()).nonzero().squeeze(1)
            log_likely = self.codes(states[others]).log_softmax(dim=-1)
            logs["unmasked/accuracy"] = (log_likely.argmax(dim=-1) == units[others]).sum()
            if self.settings.unmasked:
                losses["unmasked"] = F.nll_loss(log_likely, units[others])
        return Output(losses=losses, logs=logs)

    def _health(self, log_likely: Tensor, units: Tensor, batch: Batch) -> dict[str, Tensor]:
        """What tells learning from collapse, of masked states (M, K); each times M."""
        best, count = log_likely.argmax(dim=-1), len(units)
        return {
            "masked/accuracy": (best == units).sum(),
            "masked/entropy": -(log_likely.exp() * log_likely).sum(),
            "masked/perplexity": _perplexity(best, self.clusters) * count,
            "masked/target_perplexity": _perplexity(units, self.clusters) * count,
            "masked/rate": count / batch["states"].sum() * count,
        }

    def collapse(self, logs: Mapping[str, float]) -> str:
        """One cluster for all: foretold, or there."""
        target, predicted = logs.get("masked/target_perplexity", 2.0), logs.get("masked/perplexity", 2.0)
        if target < _ONE:
            return f"one_unit: the perplexity of the units is {target:.2f}, so there is nothing to tell apart"
        if predicted < _ONE:
            return f"one_cluster: the perplexity of what is foretold is {predicted:.2f}, and of the units {target:.2f}"
        return ""


class MixedClusters(MaskedClusters):
    """The same, while in some utterances another voice or noise is heard; the clusters stay those of the clean one."""

    settings: WavLM
    alters = True

    def alter(self, waveforms: list[np.ndarray], draws: Draws) -> list[np.ndarray]:
        """Waveforms with another row's voice or noise in a stretch of some; which, depends on the row alone."""
        source = draws.source
        assert source is not None
        chance, kind, which, *how = draws(_MIXTURES, 7).T
        noisy = (kind < self.settings.noise) | (len(source) < 2)
        partners = (draws.rows + 1 + (which * (len(source) - 1)).astype(np.int64)) % len(source)
        altered = list(waveforms)
        chosen = np.flatnonzero(chance < self.settings.mixed)
        talked = chosen[~noisy[chosen]]
        voices = dict(zip(talked.tolist(), source.waveforms(partners[talked]), strict=True))
        for row in chosen.tolist():
            there = voices[row] if row in voices else coloured_noise(len(waveforms[row]), which[row])
            numbers = np.array([draw[row] for draw in how])
            altered[row] = overlapped(waveforms[row], there, numbers, noise=row not in voices)
        return altered


class ClusterCodes(nn.Module):
    """Cosine similarities of projected states with a code for each cluster, divided by a temperature."""

    def __init__(self, hidden: int, clusters: int, *, size: int, temperature: float) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, size)
        self.codes = nn.Parameter(torch.randn(clusters, size))
        self.temperature = temperature

    def forward(self, states: Tensor) -> Tensor:
        """Logits (M, K), fp32, of states (M, H)."""
        # A rounding of bf16 is a hundredth of a cosine, and the temperature makes it ten times as large.
        with torch.autocast(states.device.type, enabled=False):
            projected = F.normalize(self.project(states.float()), dim=-1)
            return projected @ F.normalize(self.codes, dim=-1).T / self.temperature


def _perplexity(clusters: Tensor, number: int) -> Tensor:
    """Of the shares of clusters (M,) out of a number of them."""
    shares = torch.zeros(number, device=clusters.device)
    shares = shares.index_add_(0, clusters, torch.ones(len(clusters), device=clusters.device))
    return perplexity(shares[None] / max(len(clusters), 1))


def _folder_of_units(name: str) -> Path:
    """A folder of units, or the one in a run's folder."""
    folder = Path(name).expanduser()
    return folder / "units" if (folder / "units" / "units.json").is_file() else folder
