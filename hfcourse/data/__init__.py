"""Load by name, tokenizers, token shards, noise and batching.

`hfcourse.data.load("pydocs/topic")` is the one call for every source of data.
"""

from hfcourse.data.loading import load

__all__ = ["load"]
