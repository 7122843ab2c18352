"""Pictures of volumes, labels and curves: arrays in, RGB arrays or PNG files out."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skoots.errors import SkootsError
from skoots.geometry import relative_spacing
from skoots.metrics import METRIC_NAMES, contingency, match
from skoots.refusals import writing
from skoots.unfinished import Unfinished

HIT, FALSE, MISSED = (70, 190, 110), (235, 80, 70), (70, 130, 240)
HEADLINE = ("F1", "F1@0.75", "mAP", "PQ", "foreground_IoU", "VOI_split", "VOI_merge", "ARAND")
COUNTS = ("n_truth", "n_prediction")
Curves = dict[str, tuple[list[float], list[float]]]
_GOLDEN = 0.6180339887498949


def middle_slice(volume: np.ndarray, axis: int = 0) -> np.ndarray:
    """The central section of a volume (*S) as a 2D array; a 2D array is returned as it is."""
    return volume if volume.ndim == 2 else np.take(volume, volume.shape[axis] // 2, axis=axis)


def id_colours(ids: np.ndarray) -> np.ndarray:
    """A lasting colour for each id: the same id looks the same in every picture, consecutive ids differ
    clearly.

    Hues go round in steps of the golden ratio; saturation and brightness change with their own periods.

    Args:
        ids: integers, any shape; 0 is black.

    Returns:
        ids.shape + (3,) uint8.
    """
    ids = np.abs(np.asarray(ids).astype(np.int64))
    hue = (ids * _GOLDEN) % 1.0
    saturation = np.asarray([0.85, 0.6, 0.75])[ids % 3]
    value = np.asarray([1.0, 0.85])[(ids // 3) % 2]
    return np.where((ids != 0)[..., None], hsv_to_rgb(hue, saturation, value), 0).astype(np.uint8)


def overlay(image: np.ndarray, labels: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Labels as colours over an image: tinted inside, solid along the boundary of every object.

    Args:
        image: (H, W) or (H, W, 3).
        labels: (H, W) ids, 0 = background.
        opacity: of the tint, 0 to 1.

    Returns:
        (H, W, 3) uint8.
    """
    opaque = np.where(labels != 0, opacity, 0.0)
    opaque[boundaries(labels)] = 1.0
    return blend(to_rgb(image), id_colours(labels), opaque)


def blend(picture: np.ndarray, colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Colours over a picture, each (H, W, 3) uint8, with an opacity of 0 to 1, (H, W), for every pixel."""
    opaque = np.clip(opacity.astype(np.float32), 0, 1)[..., None]
    return np.rint(picture * (1 - opaque) + colours * opaque).astype(np.uint8)


def colour_by_match(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Renumber predicted objects so that those matched to a true one (IoU >= .5) take its id, and its colour.

    Args:
        truth: (*S) ids, 0 = background.
        prediction: (*S) ids, 0 = background.

    Returns:
        (*S) int64; objects without a match have ids above all true ones.
    """
    overlap = contingency(truth, prediction)
    pairs = match(overlap, 0.5).pairs
    ids = np.unique(overlap.prediction)
    twins = overlap.truth.max(initial=0) + 1 + np.arange(ids.size)
    twins[np.searchsorted(ids, overlap.prediction[pairs])] = overlap.truth[pairs]
    twins[ids == 0] = 0
    return twins[np.searchsorted(ids, prediction)]


def boundaries(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of objects with a pixel of another id above, below, left or right."""
    edge = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        differs = np.diff(labels, axis=axis) != 0
        before, after = [slice(None)] * labels.ndim, [slice(None)] * labels.ndim
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        edge[tuple(before)] |= differs
        edge[tuple(after)] |= differs
    return edge & (labels != 0)


def semantic_overlay(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Agreement of two foregrounds: hits green, false foreground red, missed foreground blue, the rest black.

    Args:
        truth: (H, W) bool or ids.
        prediction: (H, W) bool or ids.

    Returns:
        (H, W, 3) uint8.
    """
    kind = (truth != 0).astype(np.uint8) + 2 * (prediction != 0).astype(np.uint8)
    return np.asarray([(0, 0, 0), MISSED, FALSE, HIT], np.uint8)[kind]


def vector_wheel(vectors: np.ndarray, longest: float | None = None) -> np.ndarray:
    """In-plane vectors as colours: the direction is the hue (right is red), the length the brightness.

    Args:
        vectors: (D, H, W), components z, y, x or y, x; the last two are shown.
        longest: length of the brightest; None takes that of ``longest_vector``.

    Returns:
        (H, W, 3) uint8.
    """
    y, x = np.asarray(vectors[-2], np.float32), np.asarray(vectors[-1], np.float32)
    length = np.hypot(y, x)
    longest = longest or longest_vector(vectors)
    hue = (np.arctan2(y, x) / (2 * np.pi)) % 1.0
    return hsv_to_rgb(hue, np.full_like(hue, 0.9), np.clip(length / longest, 0, 1))


def longest_vector(vectors: np.ndarray) -> float:
    """Length in the plane that 99 % of the vectors, (D, H, W), do not exceed, those of length 0 not counted;
    1 if there are no others."""
    length = np.hypot(np.asarray(vectors[-2], np.float32), np.asarray(vectors[-1], np.float32))
    moving = length[length > 0]
    return float(np.percentile(moving, 99)) if moving.size else 1.0


def heat(probability: np.ndarray) -> np.ndarray:
    """A map of values in [0, 1], (H, W), from black over red and yellow to white, as (H, W, 3) uint8."""
    ramp = np.clip(np.nan_to_num(probability.astype(np.float32)), 0, 1)[..., None] * 3
    return np.rint(255 * np.clip(ramp - np.arange(3), 0, 1)).astype(np.uint8)


def to_rgb(image: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """An image as (H, W, 3) uint8; other types than uint8 are stretched.

    Args:
        image: (H, W) of any type, or (H, W, 3).
        limits: values that become black and white; None takes ``intensity_limits``.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        values = np.nan_to_num(image.astype(np.float32))
        low, high = limits or intensity_limits(values)
        scale = 255 / (high - low) if high > low else 0.0
        image = np.rint(np.clip((values - low) * scale, 0, 255)).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)


def intensity_limits(values: np.ndarray) -> tuple[float, float]:
    """The 0.5th and the 99.5th percentile; smallest and largest value where these are one."""
    low, high = np.percentile(values, [0.5, 99.5])
    return (float(low), float(high)) if high > low else (float(values.min()), float(values.max()))


def hsv_to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Hue, saturation and value in [0, 1], each (*S), to (*S, 3) uint8."""
    k = (np.asarray([5.0, 3.0, 1.0]) + 6 * hue[..., None]) % 6
    shade = np.clip(np.minimum(k, 4 - k), 0, 1)
    return np.rint(255 * value[..., None] * (1 - saturation[..., None] * shade)).astype(np.uint8)


def write_panels(
    path: str | Path,
    panels: Sequence[tuple[str, np.ndarray]],
    columns: int = 4,
    captions: Sequence[str] = (),
    footer: str = "",
) -> Path:
    """Write a contact sheet: titled pictures in rows, on white, all equally wide.

    Args:
        path: PNG file; its folder is made.
        panels: title and picture, each (H, W) or (H, W, 3), in reading order.
        columns: pictures a row.
        captions: a line of text above each row, or above the first ones.
        footer: a line of text below all.

    Returns:
        The path.

    Raises:
        SkootsError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    lines = [*captions, *[""] * (len(rows) - len(captions))]
    width = 3.2  # inches of one picture; 150 dots an inch
    heights = [max(width * picture.shape[0] / picture.shape[1] for _, picture in row) for row in rows]
    gap = 0.08
    titles = [0.32 if any(name for name, _ in row) else gap for row in rows]
    text = 0.32
    above = [title + text * bool(line) for title, line in zip(titles, lines)]
    sheet = (columns * (width + gap) + gap, sum(heights) + sum(above) + gap + text * bool(footer))
    figure = Figure(figsize=sheet, dpi=150, facecolor="white")

    def write(line: str, bottom: float) -> None:
        figure.text(2 * gap / sheet[0], bottom / sheet[1], line, fontsize=10, va="bottom")

    top = sheet[1]
    for row, height, line, title in zip(rows, heights, lines, titles):
        if line:
            top -= text
            write(line, top)
        top -= title
        for number, (name, picture) in enumerate(row):
            own = width * picture.shape[0] / picture.shape[1]
            left = gap + number * (width + gap)
            place = (left / sheet[0], (top - own) / sheet[1], width / sheet[0], own / sheet[1])
            axes = figure.add_axes(place)
            axes.imshow(to_rgb(picture), interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            axes.set_title(name, fontsize=11, pad=4)
        top -= height
    if footer:
        write(footer, gap)
    return _save(figure, path)


def write_prediction_figure(
    path: str | Path,
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray,
    maps: Mapping[str, np.ndarray] | None = None,
    voxel_size: Sequence[float] | None = None,
) -> Path:
    """Write what the network saw and made of it: image, truth, skeleton map, prediction.

    The first row is the central section; a volume has a second row with the section across it (x z), in
    physical proportions.

    Args:
        path: PNG file; its folder is made.
        image: (*S) or (C, *S); three channels are shown as RGB, else the first.
        truth: (*S) ids, or None if there is no truth: the column is left out. Predicted objects that match a
            true one have its colour.
        prediction: (*S) ids.
        maps: maps by name, each (*S) or (1, *S) probabilities; ``skeleton`` is shown if it is there.
        voxel_size: edge lengths of a voxel per axis; cubes if not given.

    Returns:
        The path.

    Raises:
        SkootsError: the file cannot be written.
    """
    ndim = prediction.ndim
    image = _channels_last(np.asarray(image), ndim)
    spacing = relative_spacing(voxel_size or (1.0,) * ndim)
    skeleton = (maps or {}).get("skeleton")
    if truth is not None:
        prediction = colour_by_match(truth, prediction)
    panels: list[tuple[str, np.ndarray]] = []
    for axis, suffix in ((0, ""), (1, ", across"))[: ndim - 1]:
        rows, cols = [edge for number, edge in enumerate(spacing) if number != axis or ndim == 2]

        def section(
            volume: np.ndarray, axis: int = axis, rows: float = rows, cols: float = cols
        ) -> np.ndarray:
            flat = volume if ndim == 2 else np.take(volume, volume.shape[axis] // 2, axis=axis)
            return square_pixels(flat, rows, cols)

        grey = to_rgb(section(image))
        panels.append((f"image{suffix}", grey))
        if truth is not None:
            panels.append((f"truth{suffix}", overlay(grey, section(truth))))
        if skeleton is not None:
            panels.append((f"skeleton map{suffix}", heat(section(_channels_last(skeleton, ndim)))))
        panels.append((f"prediction{suffix}", overlay(grey, section(prediction))))
    columns = 2 + (truth is not None) + (skeleton is not None)
    return write_panels(path, panels, columns)


def training_curves(path: str | Path, csv_file: str | Path) -> Path:
    """Plot the losses and the metrics of a run over its epochs.

    Args:
        path: PNG file; its folder is made.
        csv_file: ``learning_stats.csv`` of a run: one row an epoch, a column ``epoch``, empty cells where a
            number was not measured, names as ``train.loss`` and ``test.F1``.

    Returns:
        The path.

    Raises:
        SkootsError: the table is missing or has no column ``epoch``, or the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    groups = _group_curves(_read_curves(Path(csv_file)))
    figure = Figure(figsize=(4.6 * len(groups), 3.6), dpi=120, facecolor="white", layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(1, len(groups)), groups.items()):
        axes.set_title(title)
        for number, (name, (epochs, values)) in enumerate(curves.items(), start=1):
            colour, marker = id_colours(np.asarray(number)) / 255 * 0.85, "." if len(epochs) < 40 else ""
            axes.plot(epochs, values, label=name, color=colour, marker=marker, linewidth=1.5)
        if curves:
            axes.legend(fontsize=7, frameon=False, loc="best", ncols=1 + len(curves) // 10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return _save(figure, path)


def _group_curves(curves: Curves) -> dict[str, Curves]:
    """Curves under the title of their plot; of the many metrics those that say most, and all that plugins
    add."""
    losses: Curves = {}
    scores: Curves = {}
    errors: Curves = {}
    for name, curve in curves.items():
        part, _, metric = name.partition(".")
        if "loss" in metric.lower():
            losses[name] = curve
        elif part in ("train", "test") and (metric in HEADLINE or metric not in (*METRIC_NAMES, *COUNTS)):
            (scores if METRIC_NAMES.get(metric, True) else errors)[name] = curve
    return {"losses": losses, "scores (larger is better)": scores, "errors (smaller is better)": errors}


def _read_curves(file: Path) -> Curves:
    """Epochs and finite values of every column that has some."""
    if not file.is_file():
        raise SkootsError(f"{file} does not exist; a run writes it after its first epoch.")
    with file.open(newline="") as stream:
        table = list(csv.DictReader(stream))
    if not table or "epoch" not in table[0]:
        raise SkootsError(f"{file} has no rows with a column 'epoch'; give the learning_stats.csv of a run.")
    curves = {}
    for name in table[0]:
        points = [(_number(row["epoch"]), _number(row[name])) for row in table]
        points = [(epoch, value) for epoch, value in points if math.isfinite(epoch) and math.isfinite(value)]
        if points and name != "epoch":
            curves[name] = ([epoch for epoch, _ in points], [value for _, value in points])
    return curves


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return math.nan


def _channels_last(volume: np.ndarray, ndim: int) -> np.ndarray:
    """(*S), (1, *S) or (C, *S) to (*S) or, with three channels, (*S, 3)."""
    if volume.ndim == ndim:
        return volume
    return np.moveaxis(volume, 0, -1) if volume.shape[0] == 3 else volume[0]


def square_pixels(picture: np.ndarray, row_edge: float, column_edge: float) -> np.ndarray:
    """A picture, (H, W, ...), of pixels with these edges on a grid of square ones of the finer edge: nearest
    pixels."""
    finest = min(row_edge, column_edge)
    rows = np.arange(round(picture.shape[0] * row_edge / finest)) * finest / row_edge
    cols = np.arange(round(picture.shape[1] * column_edge / finest)) * finest / column_edge
    return picture[np.ix_(rows.astype(int), cols.astype(int))]


def _save(figure, path: str | Path) -> Path:  # type: ignore[no-untyped-def]
    """Write a figure with the Agg canvas, whatever backend the user's session has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Unfinished(path) as file:
            FigureCanvasAgg(figure).print_figure(
                file.temporary, dpi=figure.dpi, format="png", facecolor="white"
            )
    return path
