"""Networks by name, and with trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwnas.architecture.architecture import Architecture
    from hwnas.pretrained.network import PretrainedNetwork

Shape = tuple[int, int, int]


def load_architecture(
    name: str | Path,
    *,
    input_shape: Shape | None = None,
    num_classes: int | None = None,
) -> Architecture:
    """Load an architecture: a published name, a run folder, a JSON, ``.onnx`` or ``.tflite`` file.

    ``name`` may also be a file of weights, a network of timm, or ``module:factory``.
    ``input_shape`` ``(C, H, W)`` is needed for a module, and with ``num_classes`` for a genotype,
    which has no shapes. Raises `UsageError`, with the most similar name, if ``name`` refers to no
    network, and `InvalidFile` for a file with invalid content.

        >>> import hwnas
        >>> network = hwnas.load_architecture("proxyless_mobile")
        >>> f"{network.macs:,} MACs, {network.params:,} parameters"
        '320,427,584 MACs, 4,080,512 parameters'

    """
    from hwnas.networks.resolve import resolve_architecture

    return resolve_architecture(str(name), input_shape=input_shape, num_classes=num_classes)


def load_pretrained(name: str | Path, *, input_shape: Shape | None = None) -> PretrainedNetwork:
    """Load a network with trained weights, rebuilt from blocks; nothing is downloaded.

    ``name`` is a name of `hwnas networks list`, ``timm:NAME`` or ``local-dir:FOLDER`` of timm, a
    file of weights of such a network, or ``module:factory`` with an ``input_shape`` ``(C, H, W)``.
    The result has the ``architecture``, the ``preprocessing`` of images, the method ``network()``
    for the PyTorch module, and ``at(input_shape, classes)`` for other images and classes.

    Raises `UsageError` for a name without weights or a network that is no chain of blocks, and
    `HwnasError`, with the command that downloads them, if the weights are not on this machine.

        >>> import hwnas, torch, torchvision
        >>> source = torchvision.models.mobilenet_v3_small(num_classes=5)
        >>> torch.save(source.state_dict(), "mine.pt")
        >>> trained = hwnas.load_pretrained("mine.pt")
        >>> trained.name, trained.architecture.num_classes
        ('mobilenet_v3_small', 5)

    """
    from hwnas.networks.pretrained import load_pretrained as load

    return load(str(name), input_shape)
