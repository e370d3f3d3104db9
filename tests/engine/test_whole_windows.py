"""Strided convolutions that hear whole windows alone: the same values, and no memory read that nobody wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hfcourse.backbones.speech.conv import ConvBlock, ConvConfig
from hfcourse.engine.whole_windows import whole_windows_in

NAN_MALLOC = """
#include <stddef.h>
#include <string.h>
#include <errno.h>
extern void *__libc_malloc(size_t);
extern void *__libc_memalign(size_t, size_t);
static void *filled(void *place, size_t size) { if (place && size >= 512) memset(place, 0xFF, size); return place; }
void *malloc(size_t size) { return filled(__libc_malloc(size), size); }
void *memalign(size_t to, size_t size) { return filled(__libc_memalign(to, size), size); }
void *aligned_alloc(size_t to, size_t size) { return memalign(to, size); }
int posix_memalign(void **place, size_t to, size_t size) { return (*place = memalign(to, size)) ? 0 : ENOMEM; }
"""
"""Fresh memory holds nan, whether read as fp32 or bf16."""
LEARN = """
import torch
from hfcourse.backbones.speech.conv import ConvBlock, ConvConfig
from hfcourse.engine.whole_windows import whole_windows_in
for kernel, stride in ((8, 4), (4, 2)):
    plain = torch.nn.Conv1d(64, 64, kernel, stride, bias=False)
    own = ConvBlock(ConvConfig(), 64, 64, kernel, stride, norm="none")
    for width in range(1600, 1600 + stride):
        with whole_windows_in([plain]), torch.autocast("cpu", torch.bfloat16):
            loss = plain(torch.ones(4, 64, width)).sum() + own(torch.ones(4, width, 64), None)[0].sum()
        loss.backward()
        print(bool(plain.weight.grad.isfinite().all()), bool(own.conv.weight.grad.isfinite().all()))
        plain.weight.grad = own.conv.weight.grad = None
"""


def step(conv: nn.Conv1d, states: Tensor) -> list[Tensor]:
    states = states.clone().requires_grad_()
    out = conv(states)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), [states, *conv.parameters()])]


@pytest.mark.parametrize("width", [50, 51, 52, 53, 8, 9])
def test_the_same_values_and_gradients(width: int) -> None:
    conv, states = nn.Conv1d(3, 5, 8, 4).double(), torch.randn(2, 3, width, dtype=torch.double)
    plain = step(conv, states)
    with whole_windows_in([nn.Sequential(conv)]):
        inside = step(conv, states)
    for mine, theirs in zip(inside, plain, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert not conv._forward_pre_hooks


def test_which_convolutions_are_concerned() -> None:
    hit = [nn.Conv1d(1, 1, 4, 2), nn.Conv1d(1, 1, 10, 5)]
    spared = [nn.Conv1d(1, 1, 3, 2), nn.Conv1d(1, 1, 4, 1), nn.Conv1d(1, 1, 4, 2, padding=1), nn.Conv2d(1, 1, 4, 2)]
    with whole_windows_in([nn.ModuleList(hit), nn.ModuleList(spared)]):
        assert all(conv._forward_pre_hooks for conv in hit) and not any(conv._forward_pre_hooks for conv in spared)


@pytest.mark.parametrize("width", [40, 41, 42, 43])
def test_our_own_blocks_are_torchs_convolution(width: int) -> None:
    block = ConvBlock(ConvConfig(), 3, 5, 8, 4, norm="none").double()
    states = torch.randn(2, width, 3, dtype=torch.double)
    theirs = block.conv(states.transpose(1, 2)).relu().transpose(1, 2)
    torch.testing.assert_close(block(states, None)[0], theirs)


@pytest.mark.skipif(not shutil.which("cc") or sys.platform != "linux", reason="needs a C compiler, and glibc")
def test_no_gradient_is_made_of_unwritten_memory(tmp_path: Path) -> None:
    (tmp_path / "malloc.c").write_text(NAN_MALLOC)
    library = str(tmp_path / "malloc.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(tmp_path / "malloc.c")], check=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LEARN],
        env=os.environ | {"LD_PRELOAD": library},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True"] * 2 * (4 + 2), done.stdout + done.stderr[-500:]
