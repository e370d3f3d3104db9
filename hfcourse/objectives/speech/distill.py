"""A few layers foretell several layers of a large model at once: DistilHuBERT (arXiv 2110.01900)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.backbones.load import load_config
from hfcourse.backbones.presets import PRESETS
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.features import mask_of
from hfcourse.errors import ConfigError
from hfcourse.objectives.base import Batch, Output
from hfcourse.objectives.speech.autoregressive import spread
from hfcourse.objectives.speech.base import SpeechObjective, keep_samples_constant, states_of
from hfcourse.peft.wrap import unwrapped
from hfcourse.weights import bare_backbone

if TYPE_CHECKING:
    from hfcourse.objectives.speech.settings import DistilHuBERT

_CONSTANT = 1e-3
"""Foretold states that vary by less of what the teacher's vary are those of a collapse."""


class Distill(SpeechObjective):
    """Mean absolute error of the teacher's states and log-sigmoid of their cosine, mean over layers and states.

    Each of the teacher's layers has a head of its own on the student's last states. Nothing is masked; the teacher
    learns nothing, and lies in no checkpoint: it is loaded again where a run goes on.
    """

    def __init__(self, settings: DistilHuBERT) -> None:
        """Keep the settings.

        Raises:
            ConfigError: no teacher is named.
        """
        if not settings.teacher or settings.teacher in PRESETS:
            raise ConfigError(
                "distilhubert needs a trained teacher: name a run folder, a saved model or a Hub id with "
                "--task.method.teacher"
            )
        self.settings = settings
        self.student: Any = None
        self.teacher: Any = None
        self.layers: tuple[int, ...] = ()
        self.heads: Any = None

    def bind(self, model: nn.Module) -> None:
        """Load the teacher, give a fresh student its front end and lower layers, and make the heads.

        Raises:
            ConfigError: a teacher with other convolutions, or layers that it does not have.
            ModelError: no such teacher, or no whole one.
        """
        self.student = unwrapped(model)
        self.teacher = self._load(self.student.config)
        keep_samples_constant(self.student)
        ours, theirs = self.student.config, self.teacher.config
        if not self.student.name_or_path and "learns_from" not in self.student.__dict__:
            begin_with(self.student, self.teacher)
        self.student.__dict__["learns_from"] = self.settings.teacher  # bound again, it keeps what it has learned
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(ours.hidden_size, ours.hidden_size),
                nn.GELU(),
                nn.Linear(ours.hidden_size, theirs.hidden_size),
            )
            for _ in self.layers
        )

    def modules_to_train(self) -> list[nn.Module]:
        return [self.heads]

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"states": int(batch["states"].sum())}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        inside = mask_of(batch["states"], int(batch["states"].max()))
        # Nothing is masked: where it is not told which states are, transformers draws some (and from numpy, whose
        # numbers no checkpoint holds).
        told = {"mask_time_indices": torch.zeros_like(inside)} if hasattr(self.student, "masked_spec_embed") else {}
        states = states_of(model, batch, **told).last_hidden_state
        foretold = torch.stack([head(states[inside]) for head in self.heads]).float()
        there = self.targets(batch, inside)
        distance = (foretold - there).abs().mean()
        cosine = F.cosine_similarity(foretold, there, dim=-1)
        loss = distance - self.settings.cosine * F.logsigmoid(cosine).mean()
        number = foretold.shape[1]
        logs = {
            "states/distance": distance.detach() * number,
            "states/cosine": cosine.detach().mean() * number,
            "states/target_variance": there.var(dim=1, correction=0).mean() * number,
            "states/spread": torch.stack([spread(*pair) for pair in zip(foretold, there, strict=True)]).mean(),
        }
        return Output(losses={"states": loss}, logs=logs)

    @torch.no_grad()
    def targets(self, batch: Batch, inside: Tensor) -> Tensor:
        """The teacher's states where `inside` (B, S) is true, of each layer that is foretold, float32 (L, M, H)."""
        if self.teacher.device != inside.device:
            self.teacher.to(inside.device)
        every = states_of(self.teacher, batch, output_hidden_states=True).hidden_states
        return torch.stack([every[layer][inside] for layer in self.layers]).float()

    def collapse(self, logs: Mapping[str, float]) -> str:
        found = logs.get("states/spread", 1.0)
        return f"constant_states: what is foretold varies by {found:.1e} of the teacher's" if found < _CONSTANT else ""

    def _load(self, student: Any) -> Any:
        """The teacher, frozen, without the layers above the last that is foretold."""
        name, settings = self.settings.teacher, BackboneConfig()
        saved = load_config(name, settings, None)
        config = getattr(saved, "backbone_config", saved)
        # Lists in a saved config, tuples in a fresh one.
        ours, theirs = ([[*getattr(c, key, ())] for key in ("conv_kernel", "conv_stride")] for c in (student, config))
        if ours != theirs:
            raise ConfigError(f"{name}: its states do not stand where the student's do: their convolutions must agree")
        self.layers = self.settings.layers or spread_layers(config.num_hidden_layers)
        if not 1 <= min(self.layers) <= max(self.layers) <= config.num_hidden_layers:
            raise ConfigError(
                f"task.method.layers is {self.layers}, but {name} has {config.num_hidden_layers} layers, from 1"
            )
        teacher: Any = bare_backbone(name, saved, settings)
        teacher.eval().requires_grad_(False)
        if hasattr(teacher.encoder, "layers"):
            teacher.encoder.layers = teacher.encoder.layers[: max(self.layers)]
        return teacher


def spread_layers(count: int) -> tuple[int, ...]:
    """Three of `count` layers, evenly spread to the last: 4, 8 and 12 of 12."""
    return tuple(sorted({-(-count * third // 3) for third in (1, 2, 3)}))


@torch.no_grad()
def begin_with(student: nn.Module, teacher: nn.Module) -> int:
    """Copy the weights of the same name and shape: front end and lower layers. Returns how many tensors there were."""
    theirs, ours = teacher.state_dict(), student.state_dict(keep_vars=True)
    same = [name for name in ours if name in theirs and theirs[name].shape == ours[name].shape]
    for name in same:
        ours[name].copy_(theirs[name])
    return len(same)
