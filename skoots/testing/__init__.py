"""Contract suites for plugin authors; they need pytest."""

from skoots.testing.contracts import (
    BackboneContract,
    CriterionContract,
    HeadContract,
    NeckContract,
    example_batch,
)

__all__ = ["BackboneContract", "CriterionContract", "HeadContract", "NeckContract", "example_batch"]
