"""Integers and lengths only: boxes, tiles, and the conversion between physical lengths and voxels."""

from skoots.geometry.box import Box
from skoots.geometry.spacing import relative_spacing, to_voxels
from skoots.geometry.tiling import Tile, tile_volume

__all__ = ["Box", "Tile", "relative_spacing", "tile_volume", "to_voxels"]
