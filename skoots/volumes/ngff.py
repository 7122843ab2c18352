"""What OME-NGFF metadata (0.1 to 0.5) say of an image: levels, axes and voxel size, by one schema."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator

from skoots.errors import VolumeError
from skoots.volumes.layout import named_axes
from skoots.volumes.units import plain_unit


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Transformation(_Part):
    """One step from voxels to the world; only scales matter here."""

    type: str
    scale: list[FiniteFloat] | None = None


class Axis(_Part):
    """An axis in the order of the array."""

    name: str
    unit: str | None = None


class _Scaled(_Part):
    transformations: list[Transformation] = Field(default=[], alias="coordinateTransformations")

    @field_validator("transformations", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value

    def factors(self, ndim: int) -> np.ndarray:
        """Product of its scales, one number an axis."""
        factors = np.ones(ndim)
        for step in self.transformations:
            if step.type == "scale" and step.scale is not None and len(step.scale) == ndim:
                factors *= step.scale
        return factors


class Level(_Scaled):
    """One resolution of an image."""

    path: str = Field(min_length=1)


class Multiscale(_Scaled):
    """An image in several resolutions, the finest first."""

    levels: list[Level] = Field(min_length=1, alias="datasets")
    axes: list[Axis] = []

    @field_validator("axes", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        """Up to 0.3 an axis is a name, and 0.1 has none."""
        if not isinstance(value, list):
            return [] if value is None else value
        return [{"name": axis} if isinstance(axis, str) else axis for axis in value]

    def axes_of(self, shape: tuple[int, ...]) -> str:
        """One letter an axis."""
        return named_axes([axis.name for axis in self.axes], shape)

    def scale_of(self, level: Level, ndim: int) -> tuple[tuple[float, ...] | None, tuple[str | None, ...]]:
        """Edge length and unit of a level's voxels along each axis; no lengths where it states none."""
        units = tuple(plain_unit(axis.unit) for axis in self.axes)
        if len(units) != ndim:
            units = (None,) * ndim
        scale = self.factors(ndim) * level.factors(ndim)
        # a scale is obligatory there, so 1 without a unit is what those write who know none
        known = any(units) or bool((scale != 1).any())
        return (tuple(float(s) for s in scale) if known else None), units


def multiscales_of(path: str, attributes: dict[str, Any]) -> list[Multiscale]:
    """The images that the attributes of a group describe.

    Raises:
        VolumeError: they are damaged.
    """
    ome = attributes.get("ome", attributes)
    described = ome.get("multiscales") if isinstance(ome, dict) else None
    if not described:
        return []
    if not isinstance(described, list):
        raise _damaged(path, "multiscales is no list")
    try:
        return [Multiscale.model_validate(one) for one in described]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in ("multiscales", *first["loc"]))
        raise _damaged(path, f"{where}: {first['msg']}") from None


def _damaged(path: str, what: str) -> VolumeError:
    return VolumeError(f"{path} has damaged OME-Zarr metadata ({what}). Write it again.")
