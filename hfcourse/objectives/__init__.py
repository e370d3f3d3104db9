"""How a model and a batch become a loss. One file an objective; `Supervised` is the default."""

from hfcourse.objectives.base import Objective, Output, Supervised

__all__ = ["Objective", "Output", "Supervised"]
