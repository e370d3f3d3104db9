"""Load by name, tokenizers, token shards, noise and batching."""
