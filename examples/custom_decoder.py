"""A decoder of your own in a plugin file: the rim that ``custom_head.py`` learns parts the objects.

skoots train examples/custom_head.yaml --plugin examples/custom_decoder.py inference.decoding=RimDecoder
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from skoots.instances import DECODERS, PROBABILITY, Decoder, Maps, MapType, label_components
from skoots.ranges import Share


@DECODERS.register
@dataclass(frozen=True)
class RimDecoder(Decoder):
    """Objects are the pieces of the foreground between predicted rims."""

    rim_threshold: Share = 0.5

    @property
    def reads(self) -> Mapping[str, MapType]:
        return {**super().reads, "rim": PROBABILITY}

    def seeds(self, maps: Maps) -> np.ndarray:
        return label_components(self.foreground(maps) & ~maps.above("rim", self.rim_threshold))
