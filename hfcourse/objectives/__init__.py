"""How a model and a batch become a loss. One file an objective; `base.Supervised` is the default."""
