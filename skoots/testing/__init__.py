"""Contract suites for plugin authors; they need pytest."""

from skoots.testing.contracts import (
    AugmentationContract,
    BackboneContract,
    CriterionContract,
    DecoderContract,
    HeadContract,
    NeckContract,
    example_batch,
    example_maps,
    example_window,
)

__all__ = [
    "AugmentationContract",
    "BackboneContract",
    "CriterionContract",
    "DecoderContract",
    "HeadContract",
    "NeckContract",
    "example_batch",
    "example_maps",
    "example_window",
]
