"""Parameters and MACs of the published cells, counted from the definitions of the operations.

Counted independently of hwnas, without running a network. Convolutions, batch norms and the linear
layer; no auxiliary head. The MACs of AmoebaNet are `None`: that count strides both convolutions of
its ``conv_7x1_1x7`` in both directions, the published code strides each along its length only.
"""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    cifar: int
    """Parameters at 36 channels, 20 cells, 32 px, 10 classes."""
    cifar_macs: int | None
    cifar_pool_norm: int
    """The same with an affine batch norm after pools, as in the code of pt.darts."""
    cifar_all_norm: int
    """… after pools and skips, as in ISTA-NAS's one-stage search."""
    imagenet: int
    """Parameters at 48 channels, 14 cells, 224 px, 1000 classes."""
    imagenet_macs: int | None
    small: int
    """Parameters at 8 channels, 5 cells, 32 px, 10 classes."""


_ROWS: dict[str, tuple[int | None, ...]] = {
    "DARTS_V1": (3169414, 500987520, 3171574, 3181942, 4510432, 505864704, 35058),
    "DARTS_V2": (3349342, 528359040, 3351502, 3358846, 4718752, 529911552, 37018),
    "NASNet": (3830950, 603452448, 3841750, 3848230, 5564320, 604031616, 67282),
    "AmoebaNet": (3145078, None, 3159334, 3165382, 4627360, None, 69698),
    "PDARTS": (3433798, 532174464, 3434662, 3440710, 4944352, 542819328, 53490),
    "PC_DARTS_cifar": (3634678, 556670592, 3638134, 3641158, 5270560, 571137408, 66770),
    "PC_DARTS_image": (3721510, 570466944, 3721942, 3727990, 5342464, 581627328, 61482),
    "ISTA_twostage": (3316726, 515226240, 3317590, 3323638, 4820608, 528208704, 56538),
    "ISTA_onestage": (3363598, 532257408, 3368782, 3371806, 4783168, 535076544, 46850),
    "ISTA_ImageNet": (4017862, 618519168, 4017862, 4021750, 5651392, 621084480, 60250),
    "GDAS_V1": (3368782, 519428736, 3368782, 3380878, 4969216, 537597888, 70290),
    "MdeNAS": (3783286, 599110272, 3786742, 3790198, 5325760, 595513536, 61770),
    "SNAS": (2661382, 422218368, 2663542, 2676502, 3939328, 438042432, 31754),
    "FairDARTS_a": (2646046, 419232384, 2650798, 2650798, 3975040, 438287040, 39490),
    "FairDARTS_b": (3407878, 536487552, 3408742, 3409174, 4865248, 541201152, 47730),
    "FairDARTS_c": (2884078, 447765120, 2887102, 2890126, 4362304, 471628992, 56546),
    "FairDARTS_d": (3365542, 532506240, 3370294, 3370726, 4785760, 535330560, 47282),
    "FairDARTS_e": (2929006, 462473856, 2931598, 2931598, 4276864, 474940608, 39762),
    "FairDARTS_f": (3151054, 497614464, 3156238, 3156238, 4542112, 505714176, 42122),
    "FairDARTS_g": (3184318, 501153408, 3185614, 3189070, 4597984, 510230016, 45034),
    "darts_pt_s5_0": (2851246, 449119872, 2855566, 2865070, 4228576, 465805440, 42586),
    "darts_pt_s5_1": (3053206, 471680640, 3057526, 3063574, 4510816, 490962432, 49442),
    "darts_pt_s5_2": (2658142, 413149824, 2662462, 2671966, 4035712, 438098880, 42178),
    "darts_pt_s5_3": (3328174, 517714560, 3329470, 3339406, 4779712, 527456064, 47938),
    "blank_pt_s5_0": (3039598, 477569664, 3049966, 3053422, 4448128, 490953024, 46418),
    "blank_pt_s5_1": (3148030, 496204416, 3158398, 3161422, 4594240, 507567552, 52594),
    "blank_pt_s5_2": (2581894, 411435648, 2595718, 2598742, 3922624, 431814336, 45338),
    "blank_pt_s5_3": (3404854, 533003904, 3411766, 3415654, 4871968, 539752320, 51538),
    "ptdarts_cifar10": (2833750, 452437632, 2835910, 2846278, 4115296, 461985792, 32034),
    "ptdarts_fashionmnist": (3427750, 549758592, 3435094, 3436390, 4836448, 546620160, 47666),
    "ptdarts_mnist": (3975094, 629025408, 3976390, 3976822, 5493760, 618864192, 55226),
}

COUNTS = {name: Counts(*row) for name, row in _ROWS.items()}  # type: ignore[arg-type]
