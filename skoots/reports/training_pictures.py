"""What a network in training makes of one window: pictures by name, and all of them on one sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from skoots.reports.figures import (
    blend,
    colour_by_match,
    heat,
    longest_vector,
    overlay,
    semantic_overlay,
    to_rgb,
    vector_wheel,
    write_panels,
)
from skoots.reports.sections import busiest_section, image_section, in_proportion, section
from skoots.skeletons.embedding import offset_to_prob

UNKNOWN = (96, 96, 96)
BESIDE = 2  # white columns between a prediction and the truth beside it
TITLES = {
    "image": ("image",),
    "truth": ("truth",),
    "instances": ("instances, decoded",),
    "semantic": ("hit green, false red, missed blue",),
    "embedding": ("embedding probability",),
    "vectors": ("vectors, predicted", "vectors, true"),
    "skeletons": ("skeletons, predicted", "skeletons, true"),
}
"""Names of the pictures, in the order of the sheet, and the titles of what each holds side by side."""


def training_pictures(
    image: np.ndarray,
    labels: np.ndarray,
    valid: np.ndarray,
    offset: np.ndarray,
    maps: Mapping[str, np.ndarray],
    *,
    voxel_size: Sequence[float],
    threshold: float,
    skeleton: np.ndarray | None = None,
    instances: np.ndarray | None = None,
    scale: Sequence[float] | None = None,
    sigma: Sequence[float] | None = None,
) -> dict[str, np.ndarray]:
    """Pictures of the section of a window that shows most objects.

    - ``image``, and ``truth``: the true objects over it,
    - ``instances``: the decoded objects, those that match a true one in its colour,
    - ``semantic``: foreground that was hit (green), is false (red) or was missed (blue), over the image,
    - ``vectors``: predicted and, beside them, true vectors as a colour wheel, in the same scale,
    - ``embedding``: probability that a vector reaches its skeleton (Buswinka et al. 2023),
    - ``skeletons``: the predicted probability and, beside it, the target.

    A picture whose map is missing is left out. Voxels whose truth is unknown are grey in the truth and in
    what is compared with it.

    Args:
        image: (C, *S).
        labels: (*S) true ids, 0 = background.
        valid: (*S) bool, False where the truth is unknown.
        offset: (D, *S) voxels to the nearest own skeleton point, 0 outside of objects.
        maps: predictions by name, each (channels, *S): ``semantic``, ``skeleton``, ``vector``.
        voxel_size: D edge lengths of a voxel.
        threshold: semantic probability above which a voxel is foreground.
        skeleton: (*S) target of the skeleton map.
        instances: (*S) decoded ids.
        scale: D voxels that a vector of length 1 spans.
        sigma: D voxels, of the embedding probability.

    Returns:
        (H, W, 3) uint8 each, in physical proportion.
    """
    ndim, number = labels.ndim, busiest_section(labels)

    def flat(array: np.ndarray) -> np.ndarray:
        return section(array, number, ndim)

    grey, truth, known = to_rgb(image_section(image, number)), flat(labels), flat(valid)
    pictures = {"image": [grey], "truth": [_known(overlay(grey, truth), known)]}
    if instances is not None:
        pictures["instances"] = [overlay(grey, flat(colour_by_match(labels, instances)))]
    foreground = truth > 0
    if "semantic" in maps:
        found = flat(maps["semantic"])[0] > threshold
        agreement = semantic_overlay(truth, found)
        pictures["semantic"] = [_known(blend(grey, agreement, 0.6 * (found | foreground)), known)]
        foreground = foreground | found
    if "vector" in maps and scale is not None:
        predicted = flat(maps["vector"]) * np.reshape(np.asarray(scale, np.float32), (-1, 1, 1))
        true = flat(offset)
        longest = longest_vector(true)
        wheels = vector_wheel(predicted * foreground, longest), vector_wheel(true, longest)
        pictures["vectors"] = [wheels[0], _known(wheels[1], known)]
        if sigma is not None:
            pictures["embedding"] = [_known(heat(_embedding(predicted, true, sigma) * (truth > 0)), known)]
    if "skeleton" in maps and skeleton is not None:
        pictures["skeletons"] = [heat(flat(maps["skeleton"])[0]), _known(heat(flat(skeleton)), known)]
    return {
        name: beside(*[in_proportion(picture, voxel_size) for picture in pictures[name]])
        for name in TITLES
        if name in pictures
    }


def write_training_sheet(path: str | Path, pictures: Mapping[str, np.ndarray], caption: str = "") -> Path:
    """Write all pictures of a window as one PNG file.

    Args:
        path: the file; its folder is made.
        pictures: of ``training_pictures``.
        caption: a line of text above them.

    Returns:
        The path.

    Raises:
        SkootsError: the file cannot be written.
    """
    panels = [panel for name, picture in pictures.items() for panel in _panels(name, picture)]
    if "vectors" in pictures:
        panels.append(("colour of a direction", colour_wheel(256)))
    return write_panels(path, panels, columns=5, captions=[caption])


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Pictures of one size, (H, W, 3) uint8, with a white line between them."""
    line = np.full((len(pictures[0]), BESIDE, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (line, picture)][1:], axis=1)


def colour_wheel(size: int) -> np.ndarray:
    """The key to ``vector_wheel``: the colour of every direction and length, (size, size, 3) uint8."""
    edge = np.linspace(-1, 1, size)
    directions = np.stack(np.meshgrid(edge, edge, indexing="ij"))
    outside = np.hypot(*directions) > 1
    return np.where(outside[..., None], np.uint8(255), vector_wheel(directions, longest=1.0))


def _panels(name: str, picture: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A picture with its title, or what it holds side by side."""
    titles = TITLES[name]
    if len(titles) == 1:
        return [(titles[0], picture)]
    width = (picture.shape[1] - BESIDE) // 2
    return [(titles[0], picture[:, :width]), (titles[1], picture[:, -width:])]


def _embedding(predicted: np.ndarray, true: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    """(H, W) probability of vectors and offsets of one section, (D, H, W) voxels."""
    vectors, offsets = torch.from_numpy(predicted)[None], torch.from_numpy(np.ascontiguousarray(true))[None]
    return offset_to_prob([1.0] * len(true), vectors, offsets, sigma)[0, 0].numpy()


def _known(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A picture with grey where the truth is unknown."""
    return np.where(known[..., None], picture, np.asarray(UNKNOWN, np.uint8))
