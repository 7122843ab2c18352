"""Units of length under one spelling, and what other formats call them."""

from __future__ import annotations

METRES = {
    "pm": 1e-12,
    "angstrom": 1e-10,
    "nm": 1e-9,
    "um": 1e-6,
    "mm": 1e-3,
    "cm": 1e-2,
    "inch": 0.0254,
    "m": 1.0,
}

_SPELLINGS = {
    "picometer": "pm", "picometre": "pm", "å": "angstrom", "nanometer": "nm", "nanometre": "nm",
    "micrometer": "um", "micrometre": "um", "micron": "um", "microns": "um", "µm": "um", "μm": "um",
    "millimeter": "mm", "millimetre": "mm", "centimeter": "cm", "centimetre": "cm", "in": "inch",
    "meter": "m", "metre": "m", "pixel": "px", "pixels": "px", "voxel": "px", "voxels": "px",
}  # fmt: skip

OME_UNITS = {
    "pm": "pm",
    "angstrom": "Å",
    "nm": "nm",
    "um": "µm",
    "mm": "mm",
    "cm": "cm",
    "inch": "in",
    "m": "m",
}

NGFF_UNITS = {
    "pm": "picometer", "angstrom": "angstrom", "nm": "nanometer", "um": "micrometer", "mm": "millimeter",
    "cm": "centimeter", "inch": "inch", "m": "meter",
}  # fmt: skip


def plain_unit(unit: object) -> str | None:
    """A unit as skoots spells it (``um``, ``nm``, ``px``), or None where the file names none.

    Args:
        unit: whatever stood in the file: ``µm``, ``micron``, ``\\\\u00B5m`` (ImageJ), ``micrometer`` (NGFF).
    """
    if not isinstance(unit, str) or not unit.strip():
        return None
    text = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").lower()
    if text in ("none", "null", "reference frame", "reference_frame"):
        return None
    return _SPELLINGS.get(text, text)


def convert(length: float, unit: str | None, into: str | None) -> float | None:
    """A length in another unit, or None where one of the two is not a unit of length."""
    if unit == into:
        return length
    if unit not in METRES or into not in METRES:
        return None
    return length * (METRES[unit] / METRES[into])
