"""The order of axes on disk, and the way from there to channels first, then z, y, x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skoots.errors import VolumeError
from skoots.geometry import Box

# what TIFF files call the axis of a stack that says no more; a stack of one section stays one
_SECTIONS = "qi"
_WORDS = {"channel": "c", "channels": "c", "time": "t"}


@dataclass(frozen=True)
class Layout:
    """Where the axes of a stored array lie.

    Args:
        stored_shape: shape on disk.
        spatial: positions on disk of z, y, x (2D: y, x).
        channel: position on disk of the channel axis, or None.
    """

    stored_shape: tuple[int, ...]
    spatial: tuple[int, ...]
    channel: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape."""
        return tuple(self.stored_shape[axis] for axis in self.spatial)

    @property
    def channels(self) -> int | None:
        return None if self.channel is None else self.stored_shape[self.channel]

    @property
    def axes(self) -> str:
        """Axes of what is read, e.g. ``czyx``."""
        return ("" if self.channel is None else "c") + "zyx"[-len(self.spatial) :]

    def index(self, box: Box) -> tuple[slice, ...]:
        """The slices of the stored array that hold a box, all channels of it."""
        index = [slice(0, n) for n in self.stored_shape]
        for axis, part in zip(self.spatial, box.slices):
            index[axis] = part
        return tuple(index)

    def channels_first(self, stored: np.ndarray) -> np.ndarray:
        """A part of the stored array, its axes sorted and those of length one that mean nothing dropped."""
        kept = (() if self.channel is None else (self.channel,)) + self.spatial
        dropped = tuple(axis for axis in range(stored.ndim) if axis not in kept)
        moved = stored.transpose(kept + dropped)
        return moved.reshape(moved.shape[: len(kept)])


def layout_of(path: str, shape: Sequence[int], axes: str, given: str | None = None) -> Layout:
    """Understand the axes of a stored array.

    ``s`` (samples: RGB) counts as channels. Where z is missing, one further axis of unknown meaning counts as
    z: plain stacks are written so. Further axes of length one are dropped.

    Args:
        path: for messages.
        shape: shape on disk.
        axes: one letter an axis, as the file names them.
        given: axes that the user states instead, e.g. ``czyx``.

    Raises:
        VolumeError: several time points, no y and x, no voxels, or axes that cannot be told apart.
    """
    shape = tuple(int(n) for n in shape)
    if given is not None:
        _check_given(path, shape, given)
        axes = given
    axes = axes.lower()
    if 0 in shape:
        raise VolumeError(f"{path} holds no voxels: its shape is {shape}.")
    where: dict[str, int] = {}
    unknown = []
    for position, (letter, length) in enumerate(zip(axes, shape)):
        if letter == "t" and length > 1:
            raise VolumeError(
                f"{path} holds {length} time points; split it and save each one as a volume of its own."
            )
        if letter in "zyxcs" and letter not in where:
            where[letter] = position
        elif length > 1 or letter in _SECTIONS:
            unknown.append(position)
    if unknown and "z" not in where:
        where["z"] = max(unknown, key=lambda position: shape[position])
    unknown = [position for position in unknown if shape[position] > 1 and position != where["z"]]
    if "s" in where and "c" in where:
        samples, channels = where["s"], where["c"]
        if shape[samples] > 1 and shape[channels] > 1:
            raise VolumeError(
                f"{path} has {shape[channels]} channels of {shape[samples]} samples each; save it with one "
                "channel axis."
            )
        where["c"] = samples if shape[channels] == 1 else channels
    elif "s" in where:
        where["c"] = where["s"]
    if unknown or "y" not in where or "x" not in where or len(axes) != len(shape):
        raise VolumeError(
            f"{path} has shape {shape} and axes {axes!r}, which is not an image in 2D or 3D with or without "
            "channels; "
            "save it with its axes named, or open it with axes='czyx' or the like."
        )
    spatial = tuple(where[letter] for letter in "zyx" if letter in where)
    return Layout(shape, spatial, where.get("c"))


def _check_given(path: str, shape: tuple[int, ...], given: str) -> None:
    if (
        len(given) != len(shape)
        or len(set(given)) != len(given)
        or not {"y", "x"} <= set(given) <= set("tczyx")
    ):
        raise VolumeError(
            f"{path}: axes {given!r} do not fit its shape {shape}; name each of its {len(shape)} axes once, "
            "with letters of tczyx."
        )


def guess_axes(shape: Sequence[int]) -> str:
    """The axes of an array that names none.

    ``yx``, ``zyx``; of four axes the channels are the shorter of the first and the last; five are ``tczyx``.
    """
    if len(shape) == 4:
        return "zyxc" if shape[-1] < shape[0] else "czyx"
    return {2: "yx", 3: "zyx", 5: "tczyx"}.get(len(shape), "?" * len(shape))


def named_axes(names: object, shape: Sequence[int]) -> str:
    """The axes of an array from names such as ``["channel", "y", "x"]``, guessed where they say nothing."""
    if not isinstance(names, Sequence) or len(names) != len(shape):
        return guess_axes(shape)
    letters = [_WORDS.get(str(name).lower(), str(name).lower()) for name in names]
    if not {"y", "x"} <= set(letters):
        return guess_axes(shape)
    return "".join(letter if len(letter) == 1 else "?" for letter in letters)
