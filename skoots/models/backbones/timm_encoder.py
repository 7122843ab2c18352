"""Image networks of timm as backbones (Wightman, PyTorch Image Models)."""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from skoots.errors import SkootsError
from skoots.models.backbones.base import BACKBONES, Backbone, Feature
from skoots.models.backbones.receptive_field import measure_receptive_field
from skoots.ranges import Count
from skoots.registry import did_you_mean


@BACKBONES.register
class TimmEncoder(Backbone):
    """Features of any network of timm, at all its resolutions; volumes pass slice by slice.

    A neck brings the features to the resolution of the image, and joins the slices of a volume. Networks with
    attention over the whole image, or squeeze-and-excitation, see the whole tile: then results depend a
    little on the tiling. Plain convolutional ones (``resnet18``, ``convnext_tiny``) do not.

    Args:
        in_channels: channels of the image; timm adapts pretrained weights to them.
        spatial_dims: 2 or 3.
        model_name: any name of ``timm.list_models()`` that offers ``features_only``.
        pretrained: start from weights trained on natural images: true downloads them once, a path names a
            file of them as timm offers it.
        levels: how many of its features are used, finest first; fewer see less far. None uses all.

    Raises:
        SkootsError: no such network, or its weights cannot be had.
    """

    def __init__(
        self,
        in_channels: int = 1,
        spatial_dims: int = 2,
        model_name: str = "resnet18",
        pretrained: bool | str = False,
        levels: Count | None = None,
    ) -> None:
        super().__init__()
        wanted = {} if levels is None else {"out_indices": tuple(range(levels))}
        self._take(make_encoder(model_name, in_channels, pretrained, **wanted), in_channels, spatial_dims)

    def _take(self, encoder: Any, in_channels: int, spatial_dims: int) -> None:
        """Use a network of timm, and publish what it says of itself."""
        self.encoder = encoder
        info = encoder.feature_info
        slices = (1,) * (spatial_dims - 2)
        self.features = tuple(
            Feature(f"stride{step}", channels, (*slices, step, step))
            for channels, step in zip(info.channels(), info.reduction())
        )
        self.in_channels = in_channels
        self.spatial_dims = spatial_dims
        self.stride = (*slices, *(max(info.reduction()),) * 2)

    @cached_property
    def receptive_field(self) -> tuple[int, ...]:  # type: ignore[override]
        """Measured, since networks do not say; they treat both axes of a slice alike."""
        reach = measure_receptive_field(self, self.in_channels, self.spatial_dims - 1)
        return (*(0,) * (self.spatial_dims - 2), reach, reach)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, *S) to features by name; S is divisible by ``stride``."""
        return {fact.name: given for fact, given in zip(self.features, self.by_slice(images))}

    def by_slice(self, images: Tensor) -> list[Tensor]:
        """What the network gives for each slice, back in the dimensions of the images."""
        if self.spatial_dims == 2:
            return list(self.encoder(images))
        batch = images.shape[0]
        slices = images.transpose(1, 2).flatten(0, 1)
        return [given.unflatten(0, (batch, -1)).transpose(1, 2) for given in self.encoder(slices)]


def make_encoder(name: str, in_channels: int, pretrained: bool | str, **arguments: Any) -> Any:
    """A network of timm that gives its features.

    Args:
        name: of the network.
        in_channels: channels of the images.
        pretrained: whether to download weights, or a file of them.
        arguments: all others of ``timm.create_model``.

    Raises:
        SkootsError: there is no such network, it gives no features, or its weights cannot be had.
    """
    import timm

    if not timm.is_model(name):
        raise SkootsError(f"timm has no model {name!r}. {did_you_mean(name, timm.list_models())}")
    file = pretrained if isinstance(pretrained, str) else None
    if file is not None and not Path(file).is_file():
        raise SkootsError(f"The weights {file} for {name} do not exist.")
    if file is not None:
        arguments["pretrained_cfg_overlay"] = {"file": file}

    def create(pretrained: bool) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that in-house names of weights are deprecated
            return timm.create_model(
                name, features_only=True, in_chans=in_channels, pretrained=pretrained, **arguments
            )

    if not pretrained:
        try:
            return create(False)
        except (RuntimeError, TypeError, AttributeError, IndexError, AssertionError) as error:
            raise SkootsError(f"{name} of timm gives no such features: {error}.") from error
    try:
        return create(True)
    except Exception as error:
        raise SkootsError(_no_weights(name, file, error)) from error


def _no_weights(name: str, file: str | None, error: Exception) -> str:
    import timm

    why = f"({type(error).__name__})"
    if file is not None:
        return f"{file} holds no weights of {name} {why}; name another file, or say pretrained: false."
    known = timm.get_pretrained_cfg(name)
    where: Any = known and known.url
    if known and known.hf_hub_id:
        where = f"https://huggingface.co/{known.hf_hub_id}/resolve/main/model.safetensors"
    if not where:
        return f"timm has no pretrained weights for {name}; say pretrained: false."
    return (
        f"The pretrained weights of {name} cannot be had from the internet {why}; fetch {where} on another "
        f"computer, put it on this one, and write pretrained: /path/to/{where.rsplit('/', 1)[-1]}, or false."
    )
