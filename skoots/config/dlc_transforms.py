"""The transforms of DeepLabCut's ``data`` section in our words.

There ``data`` says how images are transformed, and the project says where they lie. Here both stand under
``data``: the transforms of ``train`` become ``data.augment``, what is left of ``train`` is a data set, and
``normalize_images`` decides ``data.normalize``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from skoots.config.arguments import signature_of
from skoots.config.fit import fit_at
from skoots.config.schema import Length, Section, complaint
from skoots.config.words import shown
from skoots.errors import Fault, PluginError
from skoots.ranges import NotNegative, Share

GREY_LEVELS = 255  # of the images that DeepLabCut's numbers are meant for
DEVIATIONS = 4  # standard deviations in these, as the preset `original` takes them
WITHOUT_COUNTERPART = {
    "auto_padding": "Leave it out: a network takes windows of any size.",
    "collate": "Leave it out: all crops have the size data.crop_size.",
    "covering": "Leave it out, or write a plugin.",
    "crop_sampling": "Write data.crop_size, and data.sampling for what crops are drawn around.",
    "grayscale": "Leave it out, or write a plugin.",
    "hist_eq": "Leave it out; data.augment: [Gamma] changes grey values unevenly, too.",
    "longest_max_size": "Leave it out: volumes are not resampled.",
    "motion_blur": "Leave it out; data.augment: [Blur] blurs in all directions alike.",
    "random_bbox_transform": "Leave it out: there are no boxes around objects.",
    "resize": "Leave it out: volumes are not resampled.",
    "top_down_crop": "Leave it out: there are no boxes around objects.",
}


def _as_flip(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    return {"p": value} if isinstance(value, int | float) else value


def _as_deviation(value: Any) -> Any:
    return (GREY_LEVELS * 0.05 if value else None) if isinstance(value, bool) else value


def _no_symmetries(value: Any) -> Any:
    if value:
        raise complaint("names points to be exchanged, which labels do not have", "Leave it out.")
    return []


def _rising(scaling: list[float]) -> list[float]:
    if scaling[0] > scaling[1]:
        raise complaint("must be a smallest and a largest factor", "Exchange them.")
    return scaling


class AffineTransform(Section):
    """Rotation, scale and translation in the plane of the last two axes."""

    p: Share = 0.9
    rotation: NotNegative = 0.0
    scaling: Annotated[list[Length], Field(min_length=2, max_length=2), AfterValidator(_rising)] = Field(
        default=[1.0, 1.0]
    )
    translation: NotNegative = 0.0
    keep_ratio: Literal[True] = True


class FlipTransform(Section):
    """Left and right exchanged."""

    p: Share = 0.5
    symmetries: Annotated[list[Any], BeforeValidator(_no_symmetries)] = Field(default=[])


class Transforms(Section):
    """What ``data.train`` and ``data.inference`` of the page hold."""

    affine: AffineTransform | None = None
    elastic_transform: bool = False
    gaussian_noise: Annotated[NotNegative | None, BeforeValidator(_as_deviation)] = None
    hflip: Annotated[FlipTransform | None, BeforeValidator(_as_flip)] = None
    normalize_images: bool | None = None
    scale_to_unit_range: bool = False

    @property
    def normalize(self) -> str | None:
        """What ``data.normalize`` must be; "" for any but none, None if they do not say."""
        if self.scale_to_unit_range:
            return "dtype"
        return None if self.normalize_images is None else "" if self.normalize_images else "none"

    def augmentations(self, normalize: str) -> list[dict[str, Any]]:
        """The nodes of ``data.augment``, in the order in which DeepLabCut transforms."""
        nodes: list[dict[str, Any]] = []
        if self.hflip is not None:
            nodes.append({"type": "Flip", "rate": self.hflip.p, "axes": ["x"]})
        if self.affine is not None:
            plane = {"degrees": self.affine.rotation, "scale": self.affine.scaling}
            move = {"translate": self.affine.translation}
            nodes.append({"type": "Affine", "rate": self.affine.p, **plane, **move})
        if self.elastic_transform:
            nodes.append({"type": "Elastic", "rate": 0.5})
        if self.gaussian_noise is not None:
            unit = {"none": GREY_LEVELS, "percentile": 1, "dtype": 1}.get(normalize, DEVIATIONS)
            deviation = self.gaussian_noise / GREY_LEVELS * unit
            nodes.append({"type": "Noise", "rate": 0.5, "deviation": deviation})
        return nodes


def translate_transforms(tree: dict[str, Any]) -> list[Fault]:
    """Put our keys in the place of DeepLabCut's in the ``data`` section of a config.

    Args:
        tree: the config as plain values; changed. Plugins are loaded: classes of data sets are looked at.

    Returns:
        What is wrong with the transforms.
    """
    data = tree.get("data")
    if not isinstance(data, dict):
        return []
    faults = list(_colormode(data))
    found = dict(_take_out(data))
    if not found:
        return faults
    known: dict[str, Transforms] = {}
    for path, transforms in found.items():
        known[path], unfit = _fitted(path, transforms)
        faults += unfit
    faults += _normalize(data, known)
    training = [path for path in known if path != "data.inference"]
    for path in training[1:]:
        problem = f"has transforms, and {training[0]} too"
        faults.append(Fault(path, problem, "All data sets are transformed alike: give them once."))
    if training and data.get("augment") is not None:
        problem = f"is given, and transforms under {training[0]} too"
        faults.append(Fault("data.augment", problem, "Keep one of the two."))
    elif training:
        nodes = known[training[0]].augmentations(data.get("normalize") or "zscore")
        data["augment"] = nodes or "none"
    return faults


def _colormode(data: dict[str, Any]) -> Iterator[Fault]:
    """Colour images are read as red, green and blue, grey ones as one channel: that is all that RGB asks."""
    mode = data.pop("colormode", None)
    if mode not in (None, "RGB"):
        remedy = "Colour images are read as red, green and blue."
        yield Fault("data.colormode", f'is {shown(mode)}, must be "RGB"', remedy)


def _take_out(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Transforms under their config paths, taken out of the section."""
    if isinstance(data.get("inference", 0), dict | None):
        yield "data.inference", data.pop("inference") or {}
    train = data.get("train")
    sources = train if isinstance(train, list) else [train]
    left = []
    for i, source in enumerate(sources):
        own, transforms = _parted(source) if isinstance(source, dict) else (source, {})
        if transforms:
            yield f"data.train.{i}" if isinstance(train, list) else "data.train", transforms
        left += [] if transforms and not own else [own]
    if left != sources:
        data["train"] = left


def _names_beside(source: Mapping[str, Any]) -> set[str]:
    """Names of transforms that are no argument of the data set that they stand beside."""
    from skoots.data.sources import DATASETS

    names = {*Transforms.model_fields, *WITHOUT_COUNTERPART}
    if not isinstance(source.get("type"), str):
        return names
    try:
        return names - signature_of(DATASETS.get(source["type"])).parameters.keys()
    except PluginError:  # a data set that nobody knows is named as that
        return set()


def _parted(source: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A data set, empty if there is none, and the transforms beside it, empty if there are none."""
    names = _names_beside(source)
    if names.isdisjoint(source):
        return dict(source), {}
    alone = not {"path", "type"} & source.keys()
    transforms = {key: value for key, value in source.items() if alone or key in names}
    return {key: value for key, value in source.items() if key not in transforms}, transforms


def _fitted(path: str, transforms: dict[str, Any]) -> tuple[Transforms, list[Fault]]:
    """Transforms with what does not fit left out, and the faults of that."""
    faults, known = [], {}
    for name, value in transforms.items():
        if value is None or (name in WITHOUT_COUNTERPART and value is False):
            continue
        if name in WITHOUT_COUNTERPART:
            faults.append(Fault(f"{path}.{name}", "has no counterpart here", WITHOUT_COUNTERPART[name]))
        elif path == "data.inference" and name in ("affine", "elastic_transform", "gaussian_noise", "hflip"):
            problem = "disturbs images, and inference takes them as they are"
            faults += [Fault(f"{path}.{name}", problem, "Leave it out.")] if value is not False else []
        else:
            known[name] = value
    fitted, unfit = fit_at(path, known, Transforms)
    return fitted, [*faults, *unfit]


def _normalize(data: dict[str, Any], known: Mapping[str, Transforms]) -> Iterator[Fault]:
    """Decide ``data.normalize``, of which there is one for training and inference."""
    wanted = {path: t.normalize for path, t in known.items() if t.normalize is not None}
    for path, transforms in known.items():
        if transforms.scale_to_unit_range and transforms.normalize_images:
            problem = "is true, and normalize_images too"
            yield Fault(f"{path}.scale_to_unit_range", problem, "Keep one of the two.")
    first = next(iter(wanted), None)
    if first is None:
        return
    for path, kind in wanted.items():
        if kind != wanted[first]:
            problem = f"normalises images otherwise than {first}"
            yield Fault(path, problem, "Training and inference normalise alike.")
            return
    given, kind = data.get("normalize"), wanted[first]
    if given is None and kind:
        data["normalize"] = kind
    elif given is not None and (given == "none" if kind == "" else given != kind):
        yield Fault("data.normalize", f"is {shown(given)}, but {first} says otherwise", "Leave it out.")
