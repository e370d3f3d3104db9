"""What training sound may go through. Holds no torch and no numpy: the command line reads it in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from hfcourse.errors import ConfigError

SLOWEST, FASTEST = 0.5, 2.0
"""Beyond these nothing is left of a voice."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Speed perturbation, telephones and SpecAugment; nothing where not asked for, and never in evaluation.

    What a row goes through depends on seed, epoch and row alone.
    """

    speeds: tuple[float, ...] = ()
    """Each row is played at one of these speeds, pitch and all (Ko et al. 2015: 0.9,1.0,1.1); two decimals count."""
    narrow: float = 0.0
    """Share of the rows that are heard as over a telephone, resampled to 8 kHz and back, so that little is left above
    4 kHz: for a net that will meet such recordings. At 8 kHz and below nothing changes."""
    time_masks: int = 0
    """Stretches of time that are masked in each row (SpecAugment, arXiv 1904.08779: 1 or 2): of the features where the
    net reads filterbanks, else of its states. A pretrained net's own masks (mask_time_prob) make way for them."""
    time_width: float = 0.4
    """Longest of them, in seconds."""
    time_share: float = 0.2
    """Longest of them, as a share of the row."""
    channel_masks: int = 0
    """Bands of channels that are masked in each row (SpecAugment: 1 or 2)."""
    channel_width: float = 0.3
    """Widest of them, as a share of all channels (SpecAugment: 27 of 80)."""

    def __post_init__(self) -> None:
        for speed in self.speeds:
            if not SLOWEST <= speed <= FASTEST:
                raise ConfigError(
                    f"augment.speeds has {speed:g}: it must be {SLOWEST:g} to {FASTEST:g} (as recorded: 1)"
                )
        if not 0 <= self.narrow <= 1:
            raise ConfigError(f"augment.narrow is {self.narrow:g}: it is a share and must lie between 0 and 1")
        for name in ("time_masks", "channel_masks"):
            if getattr(self, name) < 0:
                raise ConfigError(f"augment.{name} is {getattr(self, name)}: it must be 0 or more")
        for name in ("time_share", "channel_width"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} is {getattr(self, name)}: it must be above 0 and at most 1")
        if self.time_width <= 0:
            raise ConfigError(f"augment.time_width is {self.time_width}: it must be above 0 seconds")

    @property
    def masks(self) -> bool:
        """Whether anything is masked."""
        return bool(self.time_masks or self.channel_masks)

    @property
    def alters(self) -> bool:
        """Whether a row sounds otherwise in each epoch."""
        return bool(self.masks or self.speeds or self.narrow)
