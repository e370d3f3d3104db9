"""SEW's layers under a mix of them: each state twice, beside the last ones."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

from hfcourse import model as models
from hfcourse.headed_model import HeadedModel
from hfcourse.heads.spec import HeadSpec


def test_layers_stand_beside_the_last_states(tmp_path: Path) -> None:
    shape = {"conv_dim": [8, 8], "conv_kernel": [10, 8], "conv_stride": [10, 8], "num_feat_extract_layers": 2}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 4}
    torch.manual_seed(0)
    plain = AutoModel.from_config(AutoConfig.for_model("sew", **shape, **sizes, **more)).eval()
    plain.save_pretrained(tmp_path)
    net = models.build(str(tmp_path), HeadSpec(kind="frame", labels=("a", "b"), layers="mix")).eval()
    assert isinstance(net, HeadedModel)
    samples = torch.randn(2, 1700)  # 21 states of which the layers have 10
    with torch.no_grad():
        theirs = plain(samples, output_hidden_states=True).hidden_states
        found = net.encode({"input_values": samples, "sample_counts": torch.tensor([1700, 1300])})
    assert found.layers is not None and len(found.layers) == 3 and found.states.shape == (2, 21, 32)
    for layer, half in zip(found.layers, theirs, strict=True):
        for state in range(21):
            torch.testing.assert_close(layer[:, state], half[:, min(state // 2, 9)])
