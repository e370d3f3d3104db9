"""Backbones that hear. Importing this package makes their configs known to `AutoConfig` and `AutoModel`."""
