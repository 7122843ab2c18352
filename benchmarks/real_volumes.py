"""Prints the table of real volumes: what each form of the method reaches, beside classical methods.

    python benchmarks/real_volumes.py DATA_FOLDER [--runs runs/real] [--only ovule_cells rods2d]
                                      [--forms published shipped] [--seeds 1 2]

DATA_FOLDER holds the data sets named below. Each is cut into three parts: one to train on, one to validate on
(decoders and their settings are chosen by it), and one that chooses nothing and is reported. A form is the
data set's config in ``model_configs/`` with some changes; each is trained once for every seed, unless RUNS
holds the run already, and the snapshot after the last epoch is taken. Components (6 or 26 neighbours) and the
distance-transform watershed see the same network's foreground; their settings are chosen on the validation
part too. With several seeds the mean is printed, and the extremes in brackets.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skoots.api import load_model, train
from skoots.api.build import LoadedModel, decoder_of, open_volumes
from skoots.api.segment import make_plan, predict_maps
from skoots.api.tune import choose
from skoots.config import load_config
from skoots.data.labelled_volume import LabelledVolume
from skoots.errors import SkootsError
from skoots.instances import Decoder, Maps, label_components
from skoots.instances.decoders.watershed import WatershedDecoder
from skoots.metrics import Overlap, contingency, score, stack
from skoots.snapshots import find_snapshot
from skoots.volumes import read_labels

CONFIGS = Path(__file__).parent.parent / "model_configs"
COLUMNS = ("F1", "F1@0.75", "PQ", "VOI_split", "VOI_merge")
NECKS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SMOOTHINGS = (0.0, 1.0, 2.0)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
SECONDS = 600.0  # of a search for a decoder, which is seldom so long
Sources = list[dict[str, Any]]

FORMS: dict[str, list[str]] = {
    # a thin mask for a skeleton, and no other heads
    "published": [
        "model.heads.skeleton.target_generator={type: SkeletonMaskTarget, radius: RADIUS}",
        "model.heads.boundary.weight=0",
    ],
    "shipped": [],
    "core": ["model.heads.boundary.weight=0"],
    "depth": [
        "model.heads.skeleton={type: SkeletonHead, target_generator: RelativeDepthTarget, criterion: BCE}",
        "model.heads.boundary.weight=0",
    ],
    "depth, boundary": [
        "model.heads.skeleton={type: SkeletonHead, target_generator: RelativeDepthTarget, criterion: BCE}",
    ],
}


@dataclass(frozen=True)
class Predicted:
    """What a network says of a volume, and the truth.

    Args:
        maps: (C, *S) each, by name.
        truth: (*S) true ids.
        voxel_size: D edge lengths of a voxel.
        scale: D voxels that its vectors span.
    """

    maps: dict[str, np.ndarray]
    truth: np.ndarray
    voxel_size: tuple[float, ...]
    scale: tuple[float, ...] | None


Segment = Callable[[Predicted], np.ndarray]


@dataclass(frozen=True)
class DataSet:
    """How one data set is cut.

    Args:
        config: file in ``model_configs``.
        train: sources to learn from, paths relative to the data folder.
        validation: sources that choose decoders and their settings.
        test: sources that choose nothing.
        overrides: of the config.
        radius: of the published form's mask.
    """

    config: str
    train: Sources
    validation: Sources
    test: Sources
    overrides: list[str] = field(default_factory=list)
    radius: str = "auto"


def _part(folder: str, start: Sequence[int], stop: Sequence[int], samples: int = 40, **more: Any) -> Any:
    return {
        "path": f"{folder}/dev",
        "samples_per_volume": samples,
        "box": [list(start), list(stop)],
        **more,
    }


def _whole(folder: str, names: Sequence[str], samples: int = 1) -> Any:
    return {"path": f"{folder}/dev", "samples_per_volume": samples, "names": list(names)}


def _nuclei(remainder: int, samples: int = 1) -> Any:
    """Every ninth of the 89 images, which makes thirds of a third of them."""
    return _whole("dsb2018", [f"dsb_{n:03d}" for n in DSB_THIRD[remainder::3]], samples)


DSB_THIRD = (8, 28, 56, 76, 92, 112, 128, 152, 184, 208, 232, 248, 280, 308, 332, 356, 392, 416, 448, 464)
DSB_THIRD += (484, 508, 524, 544, 560, 580, 596, 616, 632, 652)

DATA_SETS = {
    "rods2d": DataSet(
        "bacteria2d",
        [
            _part("rods2d", [0, 0], [287, 180], 20, names=["rods_0"]),
            _part("rods2d", [0, 0], [783, 480], 10, names=["rods_2"]),
            _whole("rods2d", ["rods_3"], 4),
            _whole("rods2d", ["rods_4"], 6),
        ],
        [
            _part("rods2d", [0, 180], [287, 235], names=["rods_0"]),
            _part("rods2d", [0, 480], [783, 600], names=["rods_2"]),
        ],
        [
            _part("rods2d", [0, 235], [287, 377], names=["rods_0"]),
            _part("rods2d", [0, 600], [783, 908], names=["rods_2"]),
        ],
    ),
    "dsb2018": DataSet("nuclei2d", [_nuclei(0, 4)], [_nuclei(1)], [_nuclei(2)]),
    "ovule_cells": DataSet(
        "cells_membrane",
        [_part("ovule_cells", [0, 0, 0], [32, 66, 72])],
        [_part("ovule_cells", [0, 66, 0], [32, 84, 72])],
        [_part("ovule_cells", [0, 84, 0], [32, 128, 72])],
    ),
    "gala_neurites": DataSet(
        "neurites_em",
        [_part("gala_neurites", [0, 0, 0], [50, 100, 110])],
        [_part("gala_neurites", [0, 0, 110], [50, 100, 140])],
        [_part("gala_neurites", [0, 0, 140], [50, 100, 200])],
        radius="3.0",  # calibre changes along a neurite
    ),
    "vnc_mito": DataSet(
        "mitochondria_em",
        [_part("vnc_mito", [0, 0, 0], [20, 280, 292])],
        [_part("vnc_mito", [0, 280, 0], [20, 370, 292])],
        [_part("vnc_mito", [0, 370, 0], [20, 512, 292])],
        ["data.crop_size=[16, 96, 96]"],  # half of the time
    ),
    "urocell_sim_vesicles": DataSet(
        "mitochondria_em",
        [_part("urocell_sim_vesicles", [0, 0, 0], [128, 256, 150])],
        [_part("urocell_sim_vesicles", [0, 0, 150], [128, 256, 190])],
        [_part("urocell_sim_vesicles", [0, 0, 190], [128, 256, 256])],
        ["data.crop_size=[48, 64, 64]"],
    ),
}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/real"), help="where runs are, or are made")
    parser.add_argument("--only", nargs="*", default=list(DATA_SETS), choices=list(DATA_SETS))
    parser.add_argument("--forms", nargs="*", default=["published", "shipped"], choices=list(FORMS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="overrides of every config")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.WARNING if arguments.quiet else logging.INFO, format="%(asctime)s %(message)s"
    )
    print(f"| data set | form | method | {' | '.join(COLUMNS)} | objects |")
    print("|" + "---|" * (len(COLUMNS) + 4))
    for name in arguments.only:
        for form in arguments.forms:
            runs = [
                _train_if_missing(name, form, seed, arguments.data, arguments.runs, arguments.set)
                for seed in arguments.seeds
            ]
            for line in rows(name, form, [compare(name, arguments.data, run) for run in runs]):
                print(line, flush=True)


def rows(name: str, form: str, by_seed: Sequence[dict[str, dict[str, float]]]) -> list[str]:
    """The lines of one form on one data set: means over the seeds, and extremes."""
    lines = []
    for method in by_seed[0]:
        cells = []
        for column in COLUMNS:
            values = [scores[method][column] for scores in by_seed]
            spread = f" ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
        objects = f"{by_seed[0][method]['n_truth']:.0f}"
        lines.append(f"| {name} | {form} | {method} | {' | '.join(cells)} | {objects} |")
    return lines


def _sources(data: Path, sources: Sources) -> list[dict[str, Any]]:
    return [{**source, "path": str((data / source["path"]).resolve())} for source in sources]


def _train_if_missing(name: str, form: str, seed: int, data: Path, runs: Path, extra: list[str]) -> Path:
    folder = f"{name}-{form}-{seed}"
    try:
        find_snapshot(runs / folder)
        return runs / folder
    except SkootsError:
        pass
    data_set = DATA_SETS[name]
    overrides = [
        f"data.train={_sources(data, data_set.train)}",
        f"data.validation={_sources(data, data_set.validation)}",
        f"metadata.experiment={folder}",
        f"train_settings.seed={seed}",
        "inference.tune=0",  # what it would choose is chosen below, for the last snapshot
        "runner.eval_interval=1000",
        *data_set.overrides,
        *(override.replace("RADIUS", data_set.radius) for override in FORMS[form]),
        *extra,
    ]
    began = time.monotonic()
    train(CONFIGS / f"{data_set.config}.yaml", overrides, runs=runs, progress=False)
    logging.info("%s: trained in %.1f minutes.", folder, (time.monotonic() - began) / 60)
    return runs / folder


def compare(name: str, data: Path, run: Path) -> dict[str, dict[str, float]]:
    """Scores on the test part, by method."""
    loaded = load_model(f"{run}:latest")
    validation, test = (
        _volumes(loaded, _sources(data, sources))
        for sources in (DATA_SETS[name].validation, DATA_SETS[name].test)
    )
    own = decoder_of(loaded.config)
    tuning = choose(loaded, validation, SECONDS)
    logging.info("%s: %s", run.name, tuning.sentence())
    known, asked = ([_predict(loaded, volume) for volume in part] for part in (validation, test))
    methods = {
        "config's decoder": _of_decoder(own),
        "chosen decoder": _of_decoder(decoder_of(loaded.config, tuning.decoding)),
        "watershed": _best(watersheds(own.min_size), known),
        "components": _best(components(own.min_size), known),
    }
    return {method: score(_pooled(segment, asked)) for method, segment in methods.items()}


def _volumes(loaded: LoadedModel, sources: Sources) -> list[LabelledVolume]:
    section = {"validation": sources, "normalize": loaded.config.data.normalize}
    return [volume for volume, _ in open_volumes(load_config({"data": section}), "validation")]


def _predict(loaded: LoadedModel, volume: LabelledVolume) -> Predicted:
    maps = predict_maps(make_plan(loaded, volume.image, volume.voxel_size), volume.image)
    return Predicted(maps, read_labels(volume.labels), volume.voxel_size, loaded.model.vector_scale)


def _of_decoder(decoder: Decoder) -> Segment:
    return lambda given: decoder.decode(Maps.of(given.maps, decoder.reads, given.voxel_size, given.scale))


def watersheds(min_size: int) -> list[Segment]:
    """Watersheds of the foreground's distance transform, with every setting that is tried."""
    settings = itertools.product(THRESHOLDS, NECKS, SMOOTHINGS)
    return [
        _of_decoder(WatershedDecoder(threshold, min_size, neck, smoothing))
        for threshold, neck, smoothing in settings
    ]


def components(min_size: int) -> list[Segment]:
    """Connected components of the foreground, with every setting that is tried."""
    return [
        lambda given, threshold=threshold, corners=corners: label_components(
            given.maps["semantic"][0] > threshold, min_size, corners
        )
        for threshold, corners in itertools.product(THRESHOLDS, (True, False))
    ]


def _best(tried: Sequence[Segment], known: Sequence[Predicted]) -> Segment:
    """By panoptic quality, the mean over the volumes, as decoders are chosen."""
    return max(tried, key=lambda segment: np.mean([score(_pooled(segment, [each]))["PQ"] for each in known]))


def _pooled(segment: Segment, given: Sequence[Predicted]) -> Overlap:
    return stack([contingency(each.truth, segment(each)) for each in given])


if __name__ == "__main__":
    main()
