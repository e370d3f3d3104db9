"""The settings of a training run. Holds no torch: recipes and the command line read it in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Self

from hfcourse.errors import ConfigError
from hfcourse.peft_settings import PeftSettings

ExitCriterion = Literal["entropy", "confidence", "patience", "layer"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer, its parameter groups and its schedule."""

    name: Literal["adamw", "muon"] = "adamw"
    """adamw; or muon for the matrices of the layers (and AdamW for the rest): fewer steps where training starts from
    scratch, each a little dearer."""
    lr: float = 0.0
    """Peak learning rate of the backbone; 0 for the method's own: 5e-5 where all is trained, more where little is."""
    head_lr: float | None = None
    """Peak learning rate of the task heads; the backbone's where not given."""
    layer_decay: float = 1.0
    """Each layer below the top learns at this factor of the one above it (ULMFiT, ELECTRA); 1 switches it off."""
    weight_decay: float = 0.01
    """Decoupled weight decay; never on biases and norms."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's two moments."""
    eps: float = 1e-8
    """Adam's epsilon."""
    momentum: float = 0.95
    """Muon's momentum."""
    schedule: Literal["linear", "cosine", "wsd", "inverse_sqrt", "constant"] = "linear"
    """How lr falls after warm-up; wsd (warm-up, stable, decay) stays and falls over the last `decay` of the steps."""
    warmup: float = 0.1
    """Steps of linear warm-up: a share of all steps if below 1, else a number of steps."""
    decay: float = 0.2
    """wsd alone: share of all steps over which lr falls to 0."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""

    def __post_init__(self) -> None:
        if self.lr < 0:
            raise ConfigError(f"optim.lr is {self.lr}: it must be above 0, or 0 for the method's own")
        if self.warmup < 0:
            raise ConfigError(f"optim.warmup is {self.warmup}: it must be 0 or more")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"optim.layer_decay is {self.layer_decay}: it must lie in (0, 1]")
        if self.schedule == "wsd" and self.warmup < 1 and self.warmup + self.decay > 1:
            raise ConfigError(f"optim.warmup {self.warmup} and optim.decay {self.decay} add up to more than all steps")


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What one optimizer step sees. The cut into steps never depends on the number of processes."""

    examples: int = 32
    """Most examples in one optimizer step, over all processes together."""
    tokens: int = 0
    """Most padded tokens in one optimizer step, over all processes together; 0 for no such bound."""
    seconds: float = 0.0
    """Sound: most padded seconds in one optimizer step, over all processes together; 0 for no such bound. Wherever
    tokens are counted, sound counts 100 a second."""
    micro_tokens: int = 0
    """Most padded tokens in one forward pass of one process; what exceeds it is accumulated. 0 for no such bound (on
    CPU, where little is trained: 4,096). Halved by itself when the device runs out of memory."""
    bucket: bool = True
    """Put inputs of similar length into one batch, so that little is padded. Where labels are numbers, only into one
    forward pass: the labels of a batch of one length are too much alike (docs/LOG.md)."""
    eval_tokens: int = 0
    """Most padded tokens in one forward pass of an evaluation; 0: 4,096 on CPU, 16,384 elsewhere."""

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ConfigError(f"batch.examples is {self.examples}: it must be 1 or more")
        if self.tokens and self.seconds:
            raise ConfigError("batch.tokens and batch.seconds bound the same: give one of them")

    @property
    def budget(self) -> int:
        """Most padded tokens (of sound: frames of 10 ms) in one step; 0 for no bound."""
        return self.tokens or round(100 * self.seconds)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how precise, how often: the loop itself."""

    epochs: float = 3.0
    """Passes over the training split; ignored where `steps` is given."""
    steps: int = 0
    """Optimizer steps; 0 to count by `epochs`."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 autocast where the device has matrix units for it, fp32 elsewhere."""
    compile: bool = False
    """torch.compile the backbone: costs 15-60 s once, pays in long runs."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    ema: float = 0.0
    """Evaluate and save an exponential moving average of the weights with this decay; 0 switches it off."""
    eval_every: int = 0
    """Evaluate on dev every so many steps; 0 for once an epoch (and at the end, always)."""
    select_best: bool = True
    """End with the weights that scored best on dev; otherwise with the last ones."""
    patience: int = 0
    """Stop after so many evaluations without a better dev score; 0 to train to the end."""
    log_every: int = 10
    """Write a line to log.jsonl every so many steps."""
    save_every: int = 0
    """Write a checkpoint every so many steps; 0 for at every evaluation."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also log to these (through accelerate)."""
    progress: bool = True
    """Show progress bars with tokens/s and the time left."""

    def __post_init__(self) -> None:
        if self.steps == 0 and self.epochs <= 0:
            raise ConfigError("train.epochs and train.steps are both 0: give one of them")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"train.ema is {self.ema}: it must lie in [0, 1)")
        if self.keep_checkpoints < 1:
            raise ConfigError(f"train.keep_checkpoints is {self.keep_checkpoints}: it must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What every recipe that trains has in common; a recipe's own config adds its model and its task."""

    seed: int = 0
    """Decides every draw of the run."""
    limit: int = 0
    """Use only so many examples of each split; 0 for all."""
    dev_limit: int = 0
    """Use only so many examples of the dev split, which is answered again and again; 0 for `limit`."""
    strict: bool = False
    """Refuse what is otherwise cut, dropped or counted."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """What one step sees."""
    peft: PeftSettings = field(default_factory=PeftSettings)
    """Which parameters are trained; ``--peft lora`` for LoRA's."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and schedule."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The loop."""

    def __post_init__(self) -> None:
        if self.optim.name == "muon" and self.peft.method != "full":
            raise ConfigError(
                f"optim.name is muon, which is for whole matrices, and peft.method {self.peft.method}: give "
                "--optim.name adamw --optim.lr 0"
            )

    def resolved(self) -> Self:
        """The same with the learning rate that the method brings, where none was given."""
        return self if self.optim.lr else replace(self, optim=replace(self.optim, lr=self.peft.lr))


@dataclass(frozen=True, kw_only=True)
class ExitConfig:
    """How exits are trained, when an input leaves by one, and how the time that this saves is measured."""

    train: Literal["together", "after"] = "together"
    """together: all exits and the backbone at once (PABEE); after: the last exit with the backbone first, as in
    ordinary fine-tuning, then the others on a backbone that stays as it is (DeeBERT)."""
    criteria: tuple[ExitCriterion, ...] = ("entropy", "confidence", "patience", "layer")
    """entropy and confidence: leave when in little doubt; patience: when layers agree; layer: all at the same one,
    which is what the others have to beat."""
    thresholds: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.95)
    """Most doubt in which an input leaves, from 0 (certain) to 1 (a guess among all classes): the entropy, or what the
    largest probability lacks to 1, over that of a guess. Patience and layer try every number of layers."""
    tolerance: float = 0.5
    """Regression: answers of two layers that differ by no more than this agree."""
    give_up: float = 0.01
    """Most that the published threshold may score below the full model on dev."""
    batch: int = 32
    """Inputs in one forward pass, of similar length; those that are done leave it."""
    repeats: int = 5
    """Every threshold is timed so often, each time beside the full model; medians count."""

    def __post_init__(self) -> None:
        for threshold in self.thresholds:
            if not 0 <= threshold <= 1:
                raise ConfigError(f"exits.thresholds holds {threshold:g}: each must lie in [0, 1]")
        if not self.thresholds and {"entropy", "confidence"} & {*self.criteria}:
            raise ConfigError("exits.criteria names entropy or confidence, and exits.thresholds is empty: give some")
        if not self.criteria:
            raise ConfigError("exits.criteria is empty: name one or more")
        if self.batch < 1 or self.repeats < 1:
            raise ConfigError("exits.batch and exits.repeats must be 1 or more")
