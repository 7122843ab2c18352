"""Whether parts give what they promise, tried on a small image before any data is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import getattr_static
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from skoots.errors import PluginError
from skoots.models.backbones.base import Backbone, Feature
from skoots.models.heads.base import Head
from skoots.models.necks.base import Neck
from skoots.runtime import without_trials

SMALL = 16  # voxels along an axis of the image, at least
MOST_VOXELS = 2**26  # of that image
T = TypeVar("T")


def small_image(in_channels: int, stride: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """(1, C, *S) zeros that ``stride`` divides."""
    return torch.zeros(1, in_channels, *small_shape(stride), device=device)


def small_shape(stride: Sequence[int]) -> list[int]:
    """D voxels: ``SMALL`` or one stride along each axis, and a stride more along the last."""
    shape = [-(-SMALL // s) * s for s in stride]
    shape[-1] += stride[-1]
    return shape


class Rehearsal:
    """A small image that is handed from part to part, as each is built.

    Args:
        in_channels: channels of the image.
        spatial_dims: 2 or 3.
    """

    def __init__(self, in_channels: int, spatial_dims: int) -> None:
        self.in_channels = in_channels
        self.spatial_dims = spatial_dims

    def backbone(self, backbone: Backbone) -> None:
        """Show it the image.

        Raises:
            PluginError: it publishes too little, or gives other features than it promises.
        """
        name = f"Backbone {type(backbone).__name__}"
        _facts(name, backbone, ("spatial_dims", "stride", "receptive_field"))
        _lengths(name, "stride", backbone.stride, self.spatial_dims)
        _features(name, backbone)
        self._possible(name, backbone.stride)
        self.image = small_image(self.in_channels, backbone.stride)
        given = _run(name, backbone, "an image", lambda: backbone(self.image))
        if isinstance(given, Tensor) and len(backbone.features) > 1:
            raise PluginError(
                f"{name} promises {len(backbone.features)} features and gave one tensor; return a dict."
            )
        if not isinstance(given, Tensor | Mapping):
            raise PluginError(
                f"{name} gave a {type(given).__name__}. Return a tensor, or a dict of tensors by name."
            )
        self.features = backbone.named(given)
        for feature in backbone.features:
            self._check(name, feature)

    def _possible(self, name: str, stride: Sequence[int]) -> None:
        shape = small_shape(stride)
        if math.prod(shape) > MOST_VOXELS:
            raise PluginError(
                f"{name} of stride {list(stride)} needs images of {' x '.join(map(str, shape))} voxels at "
                "least, far more than can be tried. Give it fewer levels, or smaller strides."
            )

    def _check(self, name: str, promised: Feature) -> None:
        given = self.features.get(promised.name)
        said = f"{name} promises {promised}"
        if given is None:
            raise PluginError(f"{said}, and gave {', '.join(map(repr, self.features)) or 'nothing'}.")
        size = tuple(n // s for n, s in zip(self.image.shape[2:], promised.stride))
        wanted = (1, promised.channels, *size)
        if given.shape != wanted:
            raise PluginError(
                f"{said}, which is {list(wanted)} for an image of {list(self.image.shape)}, and gave "
                f"{list(given.shape)}. Set features to Feature(name, channels, stride) of what it returns; a "
                "neck brings them to the resolution of the image."
            )

    def neck(self, neck: Neck) -> None:
        """Show it the features.

        Raises:
            PluginError: it publishes too little, or gives other features than it promises.
        """
        name = f"Neck {type(neck).__name__}"
        _facts(name, neck, ("out_channels", "receptive_field"))
        _lengths(name, "receptive_field", neck.receptive_field, self.spatial_dims)
        given = _run(
            name, neck, "the features that it was built for", lambda: neck(self.image, self.features)
        )
        wanted = (1, neck.out_channels, *self.image.shape[2:])
        if not isinstance(given, Tensor) or given.shape != wanted:
            shown = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise PluginError(
                f"{name} promises {neck.out_channels} channels at the image's resolution, {list(wanted)}, "
                f"and gave {shown}."
            )
        self.features = {"features": given}

    def head(self, title: str, head: Head) -> None:
        """Show it what the neck, or a backbone without one, gave.

        Raises:
            PluginError: its outputs or maps are not those of the image.
        """
        name = f"Head {title!r} ({type(head).__name__})"
        (features,) = self.features.values()
        outputs = _run(name, head, f"features of {features.shape[1]} channels", lambda: head(features))
        maps = _run(name, head, "its own outputs", lambda: head.predict(outputs))
        for what, tensors in (("output", outputs), ("map", maps)):
            for key, tensor in tensors.items():
                if tensor.shape[0] != 1 or tensor.shape[2:] != features.shape[2:]:
                    raise PluginError(
                        f"{name} gave {what} {key!r} of shape {list(tensor.shape)}, must be [1, channels, "
                        f"{', '.join(map(str, features.shape[2:]))}] for this image."
                    )


def _facts(name: str, part: Any, wanted: Sequence[str]) -> None:
    missing = [fact for fact in wanted if getattr_static(part, fact, None) is None]
    if missing:
        raise PluginError(f"{name} publishes no {' and no '.join(missing)}. Set it in the constructor.")


def _lengths(name: str, fact: str, values: Sequence[int], dims: int) -> None:
    if len(values) != dims:
        raise PluginError(f"{name} publishes {fact} {list(values)} for {dims} dimensions.")


def _features(name: str, backbone: Backbone) -> None:
    features = backbone.features
    if not features or not all(isinstance(feature, Feature) for feature in features):
        raise PluginError(
            f"{name} publishes features {features!r}, must be Feature(name, channels, stride) each."
        )
    for feature in features:
        _lengths(name, f"{feature.name!r} at stride", feature.stride, backbone.spatial_dims)
        if any(whole % part for whole, part in zip(backbone.stride, feature.stride)):
            raise PluginError(
                f"{name} publishes stride {list(backbone.stride)}, no multiple of that of {feature}."
            )
    strides = [feature.stride for feature in features]
    if len({feature.name for feature in features}) < len(features) or strides != sorted(strides):
        listed = ", ".join(map(str, features))
        raise PluginError(
            f"{name} publishes features {listed}; they need names of their own, the finest first."
        )


def _run(name: str, part: nn.Module, what: str, call: Callable[[], T]) -> T:
    try:
        with _at_rest(part), without_trials(), torch.no_grad():
            return call()
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise PluginError(f"{name} fails on {what}: {type(error).__name__}: {error}") from error


@contextmanager
def _at_rest(part: nn.Module) -> Iterator[None]:
    """In evaluation mode, so that no statistics change; each module gets its own mode back."""
    training = [module for module in part.modules() if module.training]
    part.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
