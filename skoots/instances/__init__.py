"""Pure functions of label ids: decoders, components, following vectors, classical baselines."""

from skoots.instances.components import label_components
from skoots.instances.decoders.base import DECODERS, Decoder
from skoots.instances.decoders.skeleton import SkeletonDecoder
from skoots.instances.follow import follow_vectors
from skoots.instances.maps import PROBABILITY, VECTOR, Maps, MapType

__all__ = [
    "DECODERS",
    "PROBABILITY",
    "VECTOR",
    "Decoder",
    "MapType",
    "Maps",
    "SkeletonDecoder",
    "follow_vectors",
    "label_components",
]
