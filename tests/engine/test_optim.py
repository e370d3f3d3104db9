"""Clipping in the optimizer's own pass against torch's clipping before it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hfcourse.engine import optim
from hfcourse.engine.settings import OptimConfig


@pytest.mark.parametrize("limit", [0.1, 3.0, float("inf")])
def test_the_steps_of_a_loop_that_clips_first(limit: float) -> None:
    """Over steps whose gradients lie above and below the limit."""
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), nn.Linear(3, 5))
    mine[3].weight.requires_grad_(False)  # a parameter without a gradient
    theirs = copy.deepcopy(mine)
    optimizers = [
        optim.make_optimizer(optim.parameter_groups(net, [], OptimConfig(lr=0.01)), OptimConfig(lr=0.01))
        for net in (mine, theirs)
    ]
    assert optim.clips_itself(optimizers[0])
    above = 0
    for size in (0.1, 10.0, 1.0, 30.0):
        states = size * torch.randn(16, 6)
        for net, optimizer in zip((mine, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            net(states).square().mean().backward()
            if net is mine:
                norm = optim.clip_in_step(optimizer, limit)
            else:
                expected = nn.utils.clip_grad_norm_(net.parameters(), limit)
            optimizer.step()
        torch.testing.assert_close(norm, expected)
        above += int(norm > limit)
    assert above == {0.1: 4, 3.0: 2}.get(limit, 0)
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["hubert", "data2vec-audio"])
def test_the_layers_of_a_net_without_a_head_are_layers(kind: str) -> None:
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape = {"conv_dim": [8, 8], "conv_kernel": [4, 4], "conv_stride": [2, 2], "num_feat_extract_layers": 2}
    more = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 4, "conv_pos_kernel_size": 3}
    net = AutoModel.from_config(AutoConfig.for_model(kind, **sizes, **shape, **more))
    config = OptimConfig(name="muon", lr=0.1, layer_decay=0.5, head_lr=0.7)
    groups = optim.parameter_groups(net, [nn.Linear(2, 2)], config)
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    scales = {name: found[id(parameter)]["scale"] for name, parameter in net.named_parameters()}
    hidden = {name for name, parameter in net.named_parameters() if found[id(parameter)]["hidden"]}
    assert scales["encoder.layers.1.attention.k_proj.weight"] == 1.0
    assert scales["encoder.layers.0.attention.k_proj.weight"] == 0.5
    assert {scale for name, scale in scales.items() if "pos_conv_embed" in name} == {0.25}
    assert hidden and all(name.startswith("encoder.layers.") for name in hidden)
    # The last is the objective's own module.
    assert sorted({group["scale"] for group in groups}) == pytest.approx([0.25, 0.5, 1.0, 7.0])


def test_muon_is_clipped_before_its_step() -> None:
    net = nn.Sequential(nn.Linear(4, 4))
    groups = [{"params": list(net.parameters()), "hidden": True, "weight_decay": 0.0, "lr": 0.1, "scale": 1.0}]
    groups[0]["params"] = [net[0].weight]
    assert not optim.clips_itself(optim.make_optimizer(groups, OptimConfig(name="muon", lr=0.1)))
