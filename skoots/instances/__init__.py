"""Pure functions of label ids: components, following vectors, renumbering, classical baselines."""

from skoots.instances.components import label_components
from skoots.instances.decoding import Decoding, decode
from skoots.instances.follow import follow_vectors
from skoots.instances.relabel import drop_small, renumber

__all__ = ["Decoding", "decode", "drop_small", "follow_vectors", "label_components", "renumber"]
