"""Networks to convert: those of torchvision, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NETWORKS = (
    "squeezenet1_1",
    "mobilenet_v3_small",
    "shufflenet_v2_x1_0",
    "mobilenet_v2",
    "mnasnet1_0",
    "mobilenet_v3_large",
    "regnet_y_400mf",
    "efficientnet_b0",
    "googlenet",
    "densenet121",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "inception_v3",
    "convnext_tiny",
    "alexnet",
    "vgg11_bn",
    "swin_t",
    "vit_b_16",
    "lraspp_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_large",
    "fcn_resnet50",
    "ssdlite320_mobilenet_v3_large",
)
SEGMENTATION = ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50")
DETECTION = "ssdlite320_mobilenet_v3_large"
SIZES_PX = {"inception_v3": 299, DETECTION: 320}


class ClassMaps(nn.Module):
    """The class maps of a segmentation network, without those of its auxiliary head."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)["out"]


class AnchorScores(nn.Module):
    """Backbone and heads of a detector: class logits and box offsets of all anchors.

    What follows, such as the choice of boxes, depends on the values and belongs to no model file.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images: Tensor) -> Tensor:
        heads = self.head(list(self.backbone(images).values()))
        return torch.cat([heads["cls_logits"], heads["bbox_regression"]], dim=2)


def torchvision_network(name: str) -> tuple[nn.Module, int]:
    """Return a network with random weights from seed 0, and the size of its images in pixels."""
    from torchvision import models

    torch.manual_seed(0)
    size = SIZES_PX.get(name, 224)
    if name in SEGMENTATION:
        make = getattr(models.segmentation, name)
        network = ClassMaps(make(weights=None, weights_backbone=None))
        return _with_statistics(network, size) if "deeplab" in name else network.eval(), size
    if name == DETECTION:
        make = getattr(models.detection, name)
        return AnchorScores(make(weights=None, weights_backbone=None)).eval(), size
    inception = name in ("googlenet", "inception_v3")
    settings = {"init_weights": False} if inception else {}
    network = getattr(models, name)(**settings)
    if name == "vit_b_16":
        nn.init.normal_(network.heads[-1].weight, std=0.02)  # else zeros
    return network.eval(), size


def _with_statistics(network: nn.Module, size: int) -> nn.Module:
    """Let batch norms have the statistics of noise: with others DeepLab's maps are constant."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of what it sees
    with torch.no_grad():
        network.train()(torch.randn(2, 3, size, size))
    return network.eval()


def small_network() -> nn.Module:
    """Return a network for images of 32 px, which is converted first to warm up."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()
