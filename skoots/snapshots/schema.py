"""What a snapshot may hold, key by key: types and ranges, checked whenever one is read.

Only ``format`` and ``net`` are in every snapshot. Keys that are not named here are left to whoever wrote
them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from skoots.errors import SnapshotError


def _real(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        raise ValueError("must be real numbers")
    return tensor


def _one_number(value: Tensor) -> Tensor:
    if value.numel() != 1:
        raise ValueError("must be one number")
    return value


def _data(value: Any) -> Any:
    """What a config consists of: texts, numbers, lists and mappings with texts as keys."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"must have texts as keys, not {key!r:.40}")
            _data(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _data(item)
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(f"must hold texts, numbers, lists and mappings, not a {type(value).__name__}")
    return value


def _decoder(value: Any) -> Any:
    if not isinstance(value.get("type"), str) or "params" in value:
        raise ValueError("must name the type of a decoder, and its settings beside it")
    return value


Count = Annotated[int, Field(ge=0, le=2**53)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Numbers = dict[str, float]
Weights = dict[str, Annotated[Tensor, AfterValidator(_real)]]
Number = float | Annotated[Tensor, AfterValidator(_one_number)]
Data = Annotated[dict[str, Any], AfterValidator(_data)]

_ABSENT: Any = None
"""Of a key that may be missing, but not null."""

_WORDS = {
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "is_instance_of": "must be a tensor",
    "missing": "is missing",
}


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True, extra="ignore")


class _Intensity(_Part):
    shift: Annotated[list[Finite], Field(min_length=1)]
    scale: Annotated[list[NotNegative], Field(min_length=1)]
    compress: bool
    rest: Annotated[list[Finite], Field(min_length=1)] = _ABSENT


class _Pooled(_Intensity):
    scale: Annotated[list[Positive], Field(min_length=1)]


class _NamedIntensity(_Intensity):
    name: str


class _IntensityRecord(_Part):
    kind: str
    pooled: _Pooled
    volumes: list[_NamedIntensity]
    dtypes: list[str]


class _Facts(_Part):
    in_channels: Annotated[int, Field(ge=1, le=65_536)]
    spatial_dims: Literal[2, 3]
    voxel_size: Annotated[list[Positive], Field(min_length=2, max_length=3)]
    intensity: _IntensityRecord = _ABSENT

    @model_validator(mode="after")
    def _agree(self) -> _Facts:
        if len(self.voxel_size) != self.spatial_dims:
            raise ValueError(f"must have {self.spatial_dims} numbers in voxel_size")
        record = self.intensity
        shared = [] if record is _ABSENT else [record.pooled, *record.volumes]
        for each in shared:
            if not len(each.shift) == len(each.scale) == self.in_channels:
                raise ValueError(f"must have shift and scale of intensities for {self.in_channels} channels")
        return self


class _Member(_Part):
    epoch: Count
    value: Finite
    loss: Finite | None = None
    losses: Count = 0


class _Best(_Member):
    metric: str


class _StochasticAverage(_Part):
    net: Weights
    count: Count
    epoch: Count
    scheduler: dict[str, Any]


class _Averaging(_Part):
    pool: list[_Member] = []
    ema_steps: Count = 0
    swa: _StochasticAverage = _ABSENT
    count: Count = 0
    epochs: list[Count] = []
    value: float | None = None


class _Optimizer(_Part):
    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, Any]]
    type: str = ""


class _Sampler(_Part):
    plan: Annotated[list[Count], Field(min_length=3, max_length=3)] = _ABSENT
    samples: Count = 0
    batches: Count = 0
    rates: Numbers = {}
    counted: Number = 0
    sums: dict[str, Number] = {}

    @model_validator(mode="after")
    def _whole(self) -> _Sampler:
        if self.batches and self.plan is _ABSENT:
            raise ValueError("must have a plan")
        return self


class _Generators(_Part):
    python: tuple[int, tuple[int, ...] | list[int], float | None] = _ABSENT
    numpy: tuple[str, Tensor, int, int, float] = _ABSENT
    torch: Tensor = _ABSENT
    cuda: list[Tensor] = []


class _Snapshot(_Part):
    format: Count
    net: Weights
    ema_net: Weights = {}
    acc: float | None = None
    epoch: Count = 0
    step: Count = 0
    metrics: Numbers = {}
    history: list[Numbers] = []
    best: _Best | None = None
    averaging: _Averaging = _ABSENT
    cfg: Data = _ABSENT
    decoding: Annotated[Data, AfterValidator(_decoder)] = _ABSENT
    facts: _Facts = _ABSENT
    provenance: Data = _ABSENT
    optimizer_state_dict: _Optimizer = _ABSENT
    torch_scheduler_state_dict: dict[str, Any] = _ABSENT
    scaler_state_dict: Numbers = _ABSENT
    sampler: _Sampler = _ABSENT
    rng: _Generators = _ABSENT
    rng_of_others: list[_Generators] = []
    gradients: Weights = {}
    statistics_before: list[Tensor] = []
    observers: dict[str, dict[str, Any]] = {}
    warmup_steps: Count = 0
    nonfinite_steps: Count = 0


def check_schema(state: Mapping[str, Any], path: Path) -> None:
    """Whether every value of a snapshot has the type and the range that its key asks for.

    Args:
        state: what was read from the file.
        path: its name, for the message.

    Raises:
        SnapshotError: one has not; names the first of them.
    """
    try:
        _Snapshot.model_validate(state)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))[:100]
        said = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
        problem = _WORDS.get(first["type"], said)
        found = "" if first["type"] == "missing" else f", and is {_shown(first['input'])}"
        raise SnapshotError(
            f"{path} is no snapshot that can be used: {key} {problem}{found}. Use another snapshot."
        ) from error


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    if isinstance(value, dict | list | tuple | set) and len(value) > 3:
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r:.60}"
