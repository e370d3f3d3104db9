"""Our own nets for sound, known to `AutoConfig` and `AutoModel` once this module is imported."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel

from hfcourse.backbones.speech.conv import ConvConfig, ConvModel
from hfcourse.backbones.speech.frames import FramesConfig, FramesModel
from hfcourse.backbones.speech.units import UnitsConfig, UnitsModel

for _config, _model in ((FramesConfig, FramesModel), (ConvConfig, ConvModel), (UnitsConfig, UnitsModel)):
    AutoConfig.register(_config.model_type, _config)
    AutoModel.register(_config, _model)
