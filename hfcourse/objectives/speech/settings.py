"""The settings of every way to learn from sound alone. Holds no torch: the command line reads it in milliseconds.

Their values are those with which a tiny net learns from scratch in minutes; where the papers', for weeks on GPUs, are
others, the field says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from hfcourse.errors import ConfigError

if TYPE_CHECKING:
    from hfcourse.objectives.speech.base import SpeechObjective


@dataclass(frozen=True, kw_only=True)
class Mockingjay:
    """Masked frames are drawn again from both sides (arXiv 1910.12638); TERA (2007.06028) masks channels too."""

    kind: ClassVar[str] = "mockingjay"
    mask_rate: float = 0.15
    """Share of the frames that are altered."""
    span: int = 7
    """Consecutive frames that are altered together."""
    channels: float = 0.0
    """Largest share of the channels that are blanked over the whole utterance (TERA: 0.2)."""
    magnitude: float = 0.0
    """Standard deviation of noise that is added to the frames of some utterances (TERA: 0.2)."""

    def __post_init__(self) -> None:
        _share("mask_rate", self.mask_rate)
        if self.span < 1:
            raise ConfigError(f"span is {self.span}: it must be 1 or more")

    def build(self) -> SpeechObjective:
        """The objective."""
        from hfcourse.objectives.speech.masked_frames import MaskedFrames

        return MaskedFrames(self)


@dataclass(frozen=True, kw_only=True)
class Tera(Mockingjay):
    """Frames altered in time, frequency and magnitude are drawn again (arXiv 2007.06028)."""

    kind: ClassVar[str] = "tera"
    channels: float = 0.2
    """Largest share of the channels that are blanked over the whole utterance."""
    magnitude: float = 0.2
    """Standard deviation of noise that is added to the frames of some utterances."""


@dataclass(frozen=True, kw_only=True)
class APC:
    """The frame n steps ahead is foretold (arXiv 1904.03240, 2005.08392)."""

    kind: ClassVar[str] = "apc"
    ahead: int = 3
    """States from what is known to what is foretold."""
    codes: int = 0
    """Entries of a codebook between the layers (VQ-APC, arXiv 2005.08392); 0 for none."""

    def __post_init__(self) -> None:
        if self.ahead < 1:
            raise ConfigError(f"ahead is {self.ahead}: it must be 1 or more")

    def build(self) -> SpeechObjective:
        """The objective."""
        from hfcourse.objectives.speech.autoregressive import Autoregressive

        return Autoregressive(self)


@dataclass(frozen=True, kw_only=True)
class VqApc(APC):
    """APC through a codebook: the last layer is one of a few entries (arXiv 2005.08392)."""

    kind: ClassVar[str] = "vq_apc"
    codes: int = 128
    """Entries of the codebook."""


@dataclass(frozen=True, kw_only=True)
class CPC:
    """What comes next is told from what comes elsewhere (arXiv 1807.03748)."""

    kind: ClassVar[str] = "cpc"
    steps: int = 12
    """States ahead that are told apart, each by a projection of its own."""
    negatives: int = 32
    """Wrong answers to each question, from the same utterance."""

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("negatives", self.negatives)):
            if value < 1:
                raise ConfigError(f"{name} is {value}: it must be 1 or more")

    def build(self) -> SpeechObjective:
        """The objective."""
        from hfcourse.objectives.speech.future import ContrastiveFuture

        return ContrastiveFuture(self)


@dataclass(frozen=True, kw_only=True)
class Wav2Vec(CPC):
    """wav2vec (arXiv 1904.05862): convolutions all the way, ten negatives, right or wrong one by one."""

    kind: ClassVar[str] = "wav2vec"
    negatives: int = 10
    """Wrong answers to each question."""


@dataclass(frozen=True, kw_only=True)
class VqWav2Vec(Wav2Vec):
    """vq-wav2vec (arXiv 1910.05453): the convolutions' states become entries of a codebook before context is added."""

    kind: ClassVar[str] = "vq_wav2vec"
    steps: int = 8
    """States ahead that are told apart."""
    gumbel: tuple[float, float, float] = (2.0, 0.5, 0.997)
    """Temperature of the choice of codes: at first, at least, and by which factor it falls at each step. A codebook
    of k-means (the nets vq_wav2vec_kmeans-*) has none."""


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2:
    """wav2vec 2.0 (arXiv 2006.11477): the code of a masked state is told from those of other masked states."""

    kind: ClassVar[str] = "wav2vec2"
    mask_rate: float = 0.3
    """Share of the states that would be masked if spans never met (the paper: 0.65)."""
    span: int = 4
    """States that are masked together (the paper: 10)."""
    negatives: int = 20
    """Wrong answers to each question, from the same utterance (the paper: 100)."""
    elsewhere: int = 0
    """Wrong answers besides, from other utterances of the pass (the paper: 0): they make the voice worth knowing."""
    temperature: float = 0.1
    """Similarities are divided by it."""
    diversity: float = 0.1
    """Factor of the term that asks for the whole codebook to be used."""
    gumbel: tuple[float, float, float] = (2.0, 0.5, 0.999995)
    """Temperature of the choice of codes: at first, at least, and by which factor it falls at each step."""

    def __post_init__(self) -> None:
        _share("mask_rate", self.mask_rate)
        if min(self.span, self.negatives) < 1:
            raise ConfigError(f"span is {self.span}, negatives {self.negatives}: each must be 1 or more")
        if self.elsewhere < 0:
            raise ConfigError(f"elsewhere is {self.elsewhere}: it must be 0 or more")
        if min(self.temperature, *self.gumbel) <= 0:
            raise ConfigError(f"temperature is {self.temperature}, gumbel {self.gumbel}: all must be above 0")

    def build(self) -> SpeechObjective:
        """The objective."""
        from hfcourse.objectives.speech.contrastive import Contrastive

        return Contrastive(self)


@dataclass(frozen=True, kw_only=True)
class HuBERT:
    """HuBERT (arXiv 2106.07447): the cluster of a masked state is foretold."""

    kind: ClassVar[str] = "hubert"
    mask_rate: float = 0.65
    """Share of the states that would be masked if spans never met."""
    span: int = 5
    """States that are masked together (the paper: 10)."""
    units: str = ""
    """Folder of the clusters of all frames; empty: they are made first, into the run's folder."""
    clusters: int = 100
    """How many are made, up to 65,536 (the paper: 100 of MFCC, then 500 of a layer)."""
    teacher: str = ""
    """A run folder, a folder or a Hub id whose states are clustered; empty: MFCC."""
    cmvn: bool = False
    """Of MFCC: each coefficient gets mean 0 and variance 1 over each recording."""
    layer: int = 0
    """Which of the teacher's layers, from 1; 0 for the one in the middle (the paper: 6 of 12)."""
    unmasked: float = 1.0
    """Factor of the same loss on states that are not masked (the paper: 0). It is what teaches young convolutions."""
    temperature: float = 0.1
    """Similarities are divided by it."""
    code_size: int = 256
    """Width in which states and clusters are compared."""

    def __post_init__(self) -> None:
        _share("mask_rate", self.mask_rate)
        if self.span < 1 or self.code_size < 1:
            raise ConfigError("span and code_size must be 1 or more")
        if not 2 <= self.clusters <= 2**16:
            raise ConfigError(f"clusters is {self.clusters}: it must be 2 to 65536")
        if self.units and self.teacher:
            raise ConfigError("units names clusters that are there, teacher has others made: give one of them")
        if self.cmvn and (self.units or self.teacher):
            raise ConfigError(
                "cmvn is for MFCC that are clustered first, and units or a teacher are given: leave it out"
            )
        if self.layer and not self.teacher:
            raise ConfigError(f"layer is {self.layer}, and no teacher is given whose layer it could be")
        if self.unmasked < 0 or self.temperature <= 0:
            raise ConfigError("unmasked must be 0 or more, temperature above 0")

    def build(self) -> SpeechObjective:
        """The objective."""
        from hfcourse.objectives.speech.clusters import MaskedClusters

        return MaskedClusters(self)


@dataclass(frozen=True, kw_only=True)
class WavLM(HuBERT):
    """WavLM (arXiv 2110.13900): HuBERT on utterances that others talk into, or noise."""

    kind: ClassVar[str] = "wavlm"
    mixed: float = 0.2
    """Share of the utterances that something is mixed into."""
    noise: float = 0.1
    """Of these, the share into which it is noise, not another utterance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.mixed <= 1 and 0 <= self.noise <= 1):
            raise ConfigError("mixed and noise are shares: they must lie between 0 and 1")

    def build(self) -> SpeechObjective:
        """The objective."""
        from hfcourse.objectives.speech.clusters import MixedClusters

        return MixedClusters(self)


@dataclass(frozen=True, kw_only=True)
class BestRQ:
    """BEST-RQ (arXiv 2202.01855): the entry of a random, frozen codebook that a masked frame is nearest to."""

    kind: ClassVar[str] = "best_rq"
    mask_rate: float = 0.4
    """Share of the states that would be masked if spans never met."""
    span: int = 4
    """States that are masked together (the paper: 10)."""
    codes: int = 256
    """Entries of the codebook (the paper: 8,192)."""
    code_size: int = 16
    """Width of an entry."""

    def __post_init__(self) -> None:
        _share("mask_rate", self.mask_rate)
        if self.codes < 2 or self.code_size < 2 or self.span < 1:
            raise ConfigError("codes and code_size must be 2 or more, span 1 or more")

    def build(self) -> SpeechObjective:
        """The objective."""
        from hfcourse.objectives.speech.random_codes import RandomCodes

        return RandomCodes(self)


@dataclass(frozen=True, kw_only=True)
class Data2Vec:
    """data2vec (arXiv 2202.03555): the mean of the upper layers of a slow copy that hears everything is foretold."""

    kind: ClassVar[str] = "data2vec"
    mask_rate: float = 0.65
    """Share of the states that would be masked if spans never met."""
    span: int = 5
    """States that are masked together (the paper: 10)."""
    layers: int = 0
    """Upper layers whose mean is the target; 0 for two thirds of them."""
    unmasked: float = 0.0
    """Factor of the same loss on states that are not masked."""
    beta: float = 0.0
    """Errors below it count squared, larger ones as they are (smooth L1); 0: all squared, as the paper has speech."""
    slow: Literal["all", "layers"] = "all"
    """What of the teacher follows slowly: all of it, or its layers alone, over the student's convolutions (the paper,
    for speech). Convolutions that start from scratch soon give both only what is easy to foretell."""
    decay: tuple[float, float] | None = None
    """How slowly the teacher follows: at first and at last. Where not given, 0.99 and 0.999 for nets that hear how loud
    a sound is (tiny: convolutions with biases), else the paper's 0.999 and 0.9999, which long trainings should have."""
    ramp: int = 0
    """Steps from the first to the last; 0 for 250 or the paper's 30,000, likewise."""

    def __post_init__(self) -> None:
        _share("mask_rate", self.mask_rate)
        if self.decay is not None and not 0 <= self.decay[0] <= self.decay[1] <= 1:
            raise ConfigError(f"decay is {self.decay}: it must rise, between 0 and 1")
        if self.span < 1 or min(self.ramp, self.layers, self.beta, self.unmasked) < 0:
            raise ConfigError("span must be 1 or more, ramp, layers, beta and unmasked 0 or more")

    def build(self) -> SpeechObjective:
        """The objective."""
        from hfcourse.objectives.speech.teacher import Teacher

        return Teacher(self)


@dataclass(frozen=True, kw_only=True)
class DistilHuBERT:
    """DistilHuBERT (arXiv 2110.01900): two layers foretell several layers of a large model at once."""

    kind: ClassVar[str] = "distilhubert"
    teacher: str = ""
    """A run folder, a folder or a Hub id."""
    layers: tuple[int, ...] = ()
    """Layers of the teacher that are foretold, from 1; empty: three of them, evenly spread to the last."""
    cosine: float = 1.0
    """Factor of the term of directions beside that of distances."""

    def __post_init__(self) -> None:
        if self.cosine < 0:
            raise ConfigError(f"cosine is {self.cosine}: it must be 0 or more")

    def build(self) -> SpeechObjective:
        """The objective."""
        from hfcourse.objectives.speech.distill import Distill

        return Distill(self)


Method = (
    Mockingjay
    | Tera
    | APC
    | VqApc
    | CPC
    | Wav2Vec
    | VqWav2Vec
    | Wav2Vec2
    | HuBERT
    | WavLM
    | BestRQ
    | Data2Vec
    | DistilHuBERT
)
METHODS: dict[str, type[Method]] = {method.kind: method for method in get_args(Method)}


def _share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{name} is {value}: it must lie between 0 and 1")
