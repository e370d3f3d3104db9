"""A slow copy of the model hears everything, and what it makes of it is foretold: data2vec (arXiv 2202.03555)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.masking_utils import create_bidirectional_mask

from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.backbones.speech.features import mask_of
from hfcourse.data.spans import meeting_spans
from hfcourse.errors import ConfigError
from hfcourse.objectives.base import Batch, Output
from hfcourse.objectives.speech.base import Draws, SpeechObjective, keep_samples_constant, states_of
from hfcourse.peft.wrap import unwrapped

if TYPE_CHECKING:
    from hfcourse.objectives.speech.settings import Data2Vec

_PACES = {True: ((0.99, 0.999), 250), False: ((0.999, 0.9999), 30_000)}
"""How slowly a teacher follows at first and at last, and steps between: by whether the net hears loudness."""
_SPANS = 1
"""Stream of draws."""
_CONSTANT = 1e-2
"""Targets whose variance is below have collapsed (the authors' code has the deviation: 0.1)."""
_FEW = 2.0
"""So have those that vary in fewer directions: each channel still does, but all of them say the same, such as how far
the next end of the recording is."""


class Teacher(SpeechObjective):
    """Squared error (or smooth L1) of the foretold targets at masked states, and with a factor at the others.

    Target of a state is the mean over the teacher's upper layers of what their MLPs give, each channel of each layer
    normalised over the utterance. The teacher is a moving average of the whole student, or as in the paper for speech
    of the layers alone: convolutions and positions are then the student's own. The batch holds ``masked`` (B, S) bool.
    """

    def __init__(self, settings: Data2Vec) -> None:
        self.settings = settings
        self.weights = {"unmasked": settings.unmasked}
        self.decay, self.ramp = _PACES[False]
        self.student: Any = None
        self.teacher: Any = None
        self.front: SlowFront | None = None
        self.head_module: Any = None

    def bind(self, model: nn.Module) -> None:
        """Make the teacher, at first a copy of the student, and the head that foretells it.

        Raises:
            ConfigError: not a data2vec net, one without a mask embedding, or fewer layers than are averaged.
        """
        self.student = unwrapped(model)
        config = self.student.config
        if config.model_type != "data2vec-audio":
            raise ConfigError(f"data2vec cannot train a {config.model_type} net: take data2vec-tiny or a saved one")
        if not hasattr(self.student, "masked_spec_embed"):
            raise ConfigError("data2vec masks states, and this net has no embedding for it: set its mask_time_prob")
        count = config.num_hidden_layers
        upper = self.settings.layers or max(1, round(2 * count / 3))
        if upper > count:
            raise ConfigError(f"task.method.layers is {upper}, but the net has {count} layers: take no more than that")
        decay, ramp = _PACES[bool(config.conv_bias)]
        self.decay, self.ramp = self.settings.decay or decay, self.settings.ramp or ramp
        keep_samples_constant(self.student)
        self.teacher = SlowLayers(self.student.encoder, upper)
        if self.settings.slow == "all":
            self.front = SlowFront(self.student)
        self.head_module = nn.Linear(config.hidden_size, config.hidden_size)
        # A random head foretells noise, and what its first gradients teach the net is to say the same of every state.
        nn.init.zeros_(self.head_module.weight)
        nn.init.zeros_(self.head_module.bias)

    def modules_to_train(self) -> list[nn.Module]:
        """The head, and the teacher, which no optimizer steps but checkpoints keep."""
        return [module for module in (self.head_module, self.teacher, self.front) if module is not None]

    def counts(self, batch: Batch) -> dict[str, int]:
        masked = int(batch["masked"].sum())
        return {"states": masked, "unmasked": int(batch["states"].sum()) - masked}

    def draw(self, states: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        drawn = draws(_SPANS, int(states.max()) + 1)
        return {"masked": meeting_spans(states, self.settings.mask_rate, self.settings.span, drawn)}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        masked = batch["masked"]
        places = masked.flatten().nonzero().squeeze(1)
        # The student first: under autocast it leaves weights cast for the teacher, and the other way round casts made
        # without gradient would be used with one.
        with contextlib.nullcontext() if self.settings.unmasked else last_layer_at(self.student, places):
            output = states_of(model, batch, mask_time_indices=masked)
        states = output.last_hidden_state.flatten(0, 1)
        every = self.targets(output.extract_features, batch).flatten(0, 1)
        foretold, targets = self.head_module(states[places]).float(), every[places]
        losses = {"states": self._error(foretold, targets)}
        if self.settings.unmasked:
            inside = mask_of(batch["states"], masked.shape[1])
            others = (inside & ~masked).flatten().nonzero().squeeze(1)
            losses["unmasked"] = self._error(self.head_module(states[others]).float(), every[others])
        number = len(places)
        logs = {
            "states/target_variance": _variance(targets) * number,
            "states/target_directions": directions(targets) * number,
            "states/foretold_variance": _variance(foretold.detach()) * number,
            "states/masked": number / batch["states"].sum() * number,
        }
        return Output(losses=losses, logs=logs)

    def _error(self, foretold: Tensor, targets: Tensor) -> Tensor:
        beta = self.settings.beta
        return F.smooth_l1_loss(foretold, targets, beta=beta) if beta else F.mse_loss(foretold, targets)

    @torch.no_grad()
    def targets(self, features: Tensor, batch: Batch) -> Tensor:
        """What is to be foretold, float32 (B, S, H), from the convolutions' normalised output (B, S, C)."""
        if self.front is None:
            states = self.student.feature_projection.projection(features)
            positions = self.student.encoder.pos_conv_embed
        else:
            states, positions = self.front(batch["input_values"]), self.front.positions
            positions.counts = batch["states"] if "attention_mask" in batch else None  # as the student's own were told
        inside = mask_of(batch["states"], states.shape[1]) if "attention_mask" in batch else None
        if inside is not None:
            states = states.masked_fill(~inside[..., None], 0.0)
        found: Tensor = self.teacher(states + positions(states), inside)
        return found

    def after_step(self, step: int) -> None:
        """Let the teacher follow, the slower the later."""
        first, last = self.decay
        decay = first + (last - first) * min(step / self.ramp, 1.0)
        follow(self.teacher, self.student.encoder, decay)
        if self.front is not None:
            self.front.follow(self.student, decay)

    def collapse(self, logs: Mapping[str, float]) -> str:
        # What is foretold is no sign: while the rate warms up it is nearly constant for longer than the engine waits.
        varies, many = logs.get("states/target_variance", 1.0), logs.get("states/target_directions", _FEW)
        if varies < _CONSTANT:
            return f"constant_targets: what the teacher gives varies by {varies:.1e} over states"
        return f"few_directions: what the teacher gives varies in {many:.2f} directions" if many < _FEW else ""


class SlowLayers(nn.Module):
    """An encoder's layers as a moving average of another's, always in evaluation mode."""

    def __init__(self, encoder: Any, upper: int) -> None:
        """A copy of `encoder`'s layers and of the norm below them; the `upper` ones of them are averaged."""
        super().__init__()
        self.layer_norm = copy.deepcopy(encoder.layer_norm)
        self.layers: Any = copy.deepcopy(encoder.layers)
        self.config, self.upper = copy.deepcopy(encoder.config), upper
        keep_as_buffers(self)

    def train(self, mode: bool = True) -> SlowLayers:
        """It never trains: the teacher drops nothing out."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, states: Tensor, inside: Tensor | None) -> Tensor:
        """The mean of what the upper layers' MLPs give, instance-normalised, float32 (B, S, H).

        Args:
            states: with positions, (B, S, H).
            inside: (B, S), true at states that are no padding; None where all are.
        """
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=states, attention_mask=inside)
        states = self.layer_norm(states)
        total = torch.zeros(states.shape, device=states.device)
        for number, layer in enumerate(self.layers, start=1):
            attended, _ = layer.attention(states, attention_mask=mask)
            states = layer.layer_norm(states + attended)
            fed = layer.feed_forward(states)
            if number > len(self.layers) - self.upper:
                total += instance_normalised(fed.float(), inside)
            states = layer.final_layer_norm(states + fed)
        return total / self.upper


class SlowFront(nn.Module):
    """A data2vec net's convolutions, projection and positions as a moving average, always in evaluation mode."""

    def __init__(self, student: Any) -> None:
        super().__init__()
        self.convolutions: Any = copy.deepcopy(student.feature_extractor)
        self.projection: Any = copy.deepcopy(student.feature_projection)
        self.positions: Any = copy.deepcopy(student.encoder.pos_conv_embed)
        keep_as_buffers(self)

    def train(self, mode: bool = True) -> SlowFront:
        """It never trains."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, input_values: Tensor) -> Tensor:
        """Samples (B, T) -> projected states (B, S, H)."""
        states, _ = self.projection(self.convolutions(input_values).transpose(1, 2))
        return states  # type: ignore[no-any-return]

    def follow(self, student: Any, decay: float) -> None:
        """Move by 1 - `decay` of the way to the student's weights."""
        follow(self.convolutions, student.feature_extractor, decay)
        follow(self.projection, student.feature_projection, decay)
        follow(self.positions, student.encoder.pos_conv_embed, decay)


def keep_as_buffers(module: nn.Module) -> None:
    """Make every parameter a buffer: no optimizer steps it, no gradient reaches it, and every checkpoint keeps it."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    module.eval()


@torch.no_grad()
def follow(slow: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the buffers of `slow` by 1 - `decay` of the way to the parameters of the same names."""
    theirs = dict(module.named_parameters())
    own = {name: buffer for name, buffer in slow.named_buffers() if name in theirs}
    torch._foreach_lerp_(list(own.values()), [theirs[name] for name in own], 1 - decay)


def instance_normalised(states: Tensor, inside: Tensor | None) -> Tensor:
    """Each channel of (B, S, H) normalised over a row's states, as `torch.nn.functional.instance_norm` does; zeros
    where `inside` (B, S) is false.
    """
    kept = torch.ones(states.shape[:2], device=states.device) if inside is None else inside.float()
    kept = kept[..., None]
    number = kept.sum(dim=1, keepdim=True).clamp(min=1)
    centred = (states - (states * kept).sum(dim=1, keepdim=True) / number) * kept
    return centred * (centred.square().sum(dim=1, keepdim=True) / number + 1e-5).rsqrt()


def _variance(states: Tensor) -> Tensor:
    """Over states (M, H), mean of the channels."""
    return states.var(dim=0, correction=0).mean()


def directions(states: Tensor) -> Tensor:
    """In how many directions states (M, H) vary: (sum of the covariance's eigenvalues)² / sum of their squares."""
    centred = states - states.mean(dim=0)
    # Of the two products that have these eigenvalues, the smaller one.
    products = centred.T @ centred if len(centred) > centred.shape[1] else centred @ centred.T
    return products.trace().square() / products.square().sum().clamp(min=1e-12)
