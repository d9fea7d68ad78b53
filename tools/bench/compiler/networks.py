"""Networks to convert: those of torchvision, with random weights."""

from __future__ import annotations

import torch
from torch import nn

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
)


def torchvision_network(name: str) -> tuple[nn.Module, int]:
    """Return a network with random weights from seed 0, and the size of its images in pixels."""
    from torchvision import models

    torch.manual_seed(0)
    inception = name in ("googlenet", "inception_v3")
    settings = {"init_weights": False} if inception else {}
    return getattr(models, name)(**settings).eval(), 299 if name == "inception_v3" else 224


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
