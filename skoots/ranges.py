"""Ranges of constructor arguments as annotations; the config checks them before anything is built."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

Count = Annotated[int, Field(ge=1)]
Samples = Annotated[int, Field(ge=1, le=10_000_000)]  # their order is drawn for every epoch
Seed = Annotated[int, Field(ge=0, le=2**62)]
Number = Annotated[int, Field(ge=0)]
Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(gt=0, lt=1)]


def check_range(name: str, value: Any, annotation: Any) -> None:
    """Refuse a value that its annotation does not allow.

    Args:
        name: of the argument, for the message.
        value: as given.
        annotation: its type, e.g. ``Share``.

    Raises:
        ValueError: the value is of another type or out of range.
    """
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"{name} is {value!r}: {said[0].lower()}{said[1:]}") from None
