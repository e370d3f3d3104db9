"""GPT-2's smallest (124 M) at 1,024 tokens on a GPU: tokens/s and model-FLOP utilisation, bf16, plain and compiled.

The model, its vocabulary and the tokens of a pass are those of ``gpt/pretrain gpt2_base``; the yardstick is the GPU's
own rate on an 8192 x 8192 x 8192 bf16 product, measured first.

    python benchmarks/gpu_gpt.py [--rows 32] [--steps 30]
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import causal_lm
from gpu_bert import arguments, matrix_rate, speed

LENGTH, VOCABULARY = 1024, 50_304


def token_flops(config: object) -> float:
    """Multiply-adds of a token, forward and backward, x 2: layers, what it sees of the text, and the vocabulary."""
    layers, hidden = config.n_layer, config.n_embd  # type: ignore[attr-defined]
    attention = LENGTH * hidden  # scores and sums over all tokens are twice as many; a causal kernel leaves half out
    return 6.0 * (layers * (12 * hidden * hidden + attention) + hidden * VOCABULARY)


def main() -> None:
    """Print a line for each set-up."""
    given = arguments(__doc__, 32)
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    rate = matrix_rate()
    print(f"{torch.cuda.get_device_name()}: {rate / 1e12:.0f} TFLOP/s on an 8192^3 bf16 product")
    causal_lm.ROWS, causal_lm.LENGTH, causal_lm.VOCABULARY = given.rows, LENGTH, VOCABULARY
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    for compiled in (False, True):
        with tempfile.TemporaryDirectory() as place:
            os.environ["HFCOURSE_CACHE"] = place
            task = causal_lm.make_task(Path(place) / "corpus", given.steps)
            model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, **dropout))
            found = speed(model, task, Path(place) / "run", rows=given.rows, steps=given.steps, compiled=compiled)
        used = found * token_flops(model.config) / rate
        print(f"compile {compiled!s:<5}  {found:>10,.0f} tokens/s  {used:.1%} of the matrix rate")


if __name__ == "__main__":
    main()
