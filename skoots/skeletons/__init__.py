"""Pure functions of curves: labels to points, voxels to their nearest point, vectors to probabilities."""

from skoots.skeletons.embedding import baked_embed_to_prob, offset_to_prob, vector_to_embedding
from skoots.skeletons.mask import skeleton_mask, touching_skeletons
from skoots.skeletons.offsets import nearest_offsets
from skoots.skeletons.skeletonize import Skeletons, skeletonize

__all__ = [
    "Skeletons",
    "baked_embed_to_prob",
    "nearest_offsets",
    "offset_to_prob",
    "skeleton_mask",
    "skeletonize",
    "touching_skeletons",
    "vector_to_embedding",
]
