"""What the network will see: samples in rows, on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skoots.reports.figures import (
    blend,
    heat,
    id_colours,
    intensity_limits,
    longest_vector,
    overlay,
    to_rgb,
    vector_wheel,
    write_panels,
)
from skoots.reports.sections import busiest_section, image_section, in_proportion, section

COLOURS = "offset: right is red, down green, left cyan, up violet; the brighter, the longer."
Column = tuple[str, Callable[["ShownSample"], np.ndarray]]


@dataclass(frozen=True)
class ShownSample:
    """One sample with the targets that are made of it, of which the section with most objects is shown.

    Args:
        image: (C, *S), as the network sees it.
        labels: (*S) ids, 0 = background.
        valid: (*S) bool, False where the truth is unknown.
        targets: by name, each (channels, *S).
        voxel_size: D edge lengths of a voxel.
        caption: where it comes from.
    """

    image: np.ndarray
    labels: np.ndarray
    valid: np.ndarray
    targets: Mapping[str, np.ndarray]
    voxel_size: tuple[float, ...]
    caption: str

    def flat(self, array: np.ndarray) -> np.ndarray:
        """The section of an array, (..., *S)."""
        return section(array, busiest_section(self.labels), self.labels.ndim)

    @property
    def grey(self) -> np.ndarray:
        """The section of the image, (H, W) or (H, W, 3)."""
        return image_section(self.image, busiest_section(self.labels))

    @property
    def line(self) -> str:
        """The caption with what the section is."""
        objects = len(np.unique(self.labels[self.labels > 0]))
        number = f", section {busiest_section(self.labels) + 1} of {len(self.labels)}"
        where = "" if self.labels.ndim == 2 else number
        return f"{self.caption}{where}; {objects} object{'s' * (objects != 1)}"


def write_contact_sheet(path: str | Path, samples: Sequence[ShownSample]) -> list[str]:
    """Write a sheet with a row for every sample.

    Columns: the image (all in one scale of grey, so that changes of brightness show), the labels over it, the
    targets, and what is valid, if anything is not. A target ``offset`` is shown as a colour wheel,
    ``skeleton`` in the colours of the objects over the image, any other as a map for each of its channels. A
    target that is the foreground of the labels is left out.

    Args:
        path: PNG file; its folder is made.
        samples: of one model, so with the same targets.

    Returns:
        The names of the columns.

    Raises:
        SkootsError: the file cannot be written.
    """
    limits = intensity_limits(np.concatenate([sample.grey.ravel() for sample in samples]))
    columns: list[Column] = [
        ("image", lambda sample: to_rgb(sample.grey, limits)),
        ("labels", lambda sample: overlay(to_rgb(sample.grey, limits), sample.flat(sample.labels))),
    ]
    for name, target in samples[0].targets.items():
        if name == "skeleton":
            columns.append((name, lambda sample: _skeleton(sample, limits)))
        elif name == "offset":
            columns.append((name, _wheel(samples)))
        elif not all(_is_foreground(sample, name) for sample in samples):
            columns += [_map(samples, name, channel) for channel in range(len(target))]
    if not all(sample.valid.all() for sample in samples):
        columns.append(("valid", lambda sample: heat(sample.flat(sample.valid))))
    panels = [
        (name if sample is samples[0] else "", in_proportion(draw(sample), sample.voxel_size))
        for sample in samples
        for name, draw in columns
    ]
    names = [name for name, _ in columns]
    captions = [sample.line for sample in samples]
    write_panels(path, panels, len(columns), captions, COLOURS if "offset" in names else "")
    return names


def _is_foreground(sample: ShownSample, name: str) -> bool:
    target = sample.targets[name]
    return (
        len(target) == 1
        and np.array_equal(target[0] != 0, sample.labels > 0)
        and set(np.unique(target)) <= {0, 1}
    )


def _skeleton(sample: ShownSample, limits: tuple[float, float]) -> np.ndarray:
    """The target in the colours of the objects, over the image."""
    colours = id_colours(sample.flat(sample.labels))
    return blend(to_rgb(sample.grey, limits), colours, sample.flat(sample.targets["skeleton"])[0])


def _wheel(samples: Sequence[ShownSample]) -> Callable[[ShownSample], np.ndarray]:
    """Draws offsets, those of all samples with one measure of brightness."""
    longest = max(longest_vector(sample.flat(sample.targets["offset"])) for sample in samples)
    return lambda sample: vector_wheel(sample.flat(sample.targets["offset"]), longest)


def _map(samples: Sequence[ShownSample], name: str, channel: int) -> Column:
    """A column for one channel of a target; values beyond 0 to 1 are brought there, and the title says so."""

    def values(sample: ShownSample) -> np.ndarray:
        return sample.flat(sample.targets[name])[channel].astype(np.float32)

    low = min(float(values(sample).min()) for sample in samples)
    high = max(float(values(sample).max()) for sample in samples)
    title = name if len(samples[0].targets[name]) == 1 else f"{name} {channel + 1}"
    if low >= 0 and high <= 1:
        return title, lambda sample: heat(values(sample))
    return f"{title}, {low:.3g} to {high:.3g}", lambda sample: heat(
        (values(sample) - low) / (high - low or 1.0)
    )
