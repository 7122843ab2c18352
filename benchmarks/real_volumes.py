"""Reprints the table of real volumes: skoots against classical methods on the same network's foreground.

    python benchmarks/real_volumes.py DATA_FOLDER [--runs runs/real] [--only nuclei neurites_em]

DATA_FOLDER holds the data sets named below. Each is split into a part to train on and a part to test on;
its config in ``model_configs/`` is trained on the former unless RUNS holds a run of it already. Connected
components (6 or 26 neighbours, whichever scores better) and the distance-transform watershed (the best of
several settings) are tuned on the test part itself, which favours them; so is the choice of the best
snapshot, which favours skoots.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skoots.api import load_model, train
from skoots.api.build import open_volumes
from skoots.api.segment import make_plan, predict_maps
from skoots.config import load_config
from skoots.errors import SkootsError
from skoots.instances import Maps, label_components
from skoots.instances.classical import distance_watershed
from skoots.metrics import Overlap, contingency, score, stack
from skoots.snapshots import find_snapshot
from skoots.volumes import read_labels

CONFIGS = Path(__file__).parent.parent / "model_configs"
COLUMNS = ("F1", "AP50", "F1@0.75", "VOI_split", "VOI_merge", "ARAND")
NECKS = (0.4, 0.5, 0.65, 0.8, 0.9)
Sources = list[dict[str, Any]]


@dataclass(frozen=True)
class DataSet:
    """How one data set is split.

    Args:
        config: file in ``model_configs``.
        train: sources to learn from, paths relative to the data folder.
        test: sources to test on.
        overrides: of the config.
    """

    config: str
    train: Sources
    test: Sources
    overrides: list[str] = field(default_factory=list)


def _embryos(numbers: range, stages: tuple[int, ...], samples: int) -> dict[str, Any]:
    names = [f"Emb{n:02d}_t{stage}" for n in numbers for stage in stages]
    return {"path": "bbbc050_nuclei/dev", "samples_per_volume": samples, "names": names}


DATA_SETS = {
    "vnc_mito": DataSet(
        "mitochondria_em",
        [{"path": "vnc_mito/dev", "samples_per_volume": 40, "box": [[0, 0, 0], [20, 340, 292]]}],
        [{"path": "vnc_mito/dev", "box": [[0, 340, 0], [20, 512, 292]]}],
    ),
    "bbbc050_nuclei": DataSet(
        "nuclei",
        [
            _embryos(range(1, 10), (151,), 1),
            _embryos(range(1, 10), (351,), 2),
            _embryos(range(1, 10), (501,), 6),
        ],
        [_embryos(range(10, 12), (151, 351, 501), 1)],
    ),
    "ovule_nuclei": DataSet(
        "nuclei",
        [{"path": "ovule_nuclei/dev", "samples_per_volume": 60, "box": [[0, 0, 0], [100, 65, 100]]}],
        [{"path": "ovule_nuclei/dev", "box": [[0, 65, 0], [100, 100, 100]]}],
    ),
    "ovule_cells": DataSet(
        "cells_membrane",
        [{"path": "ovule_cells/dev", "samples_per_volume": 40, "box": [[0, 0, 0], [32, 88, 72]]}],
        [{"path": "ovule_cells/dev", "box": [[0, 88, 0], [32, 128, 72]]}],
    ),
    "fib_neurites": DataSet(
        "neurites_em",
        [{"path": "fib_neurites/dev", "samples_per_volume": 40, "box": [[0, 0, 0], [250, 170, 150]]}],
        [{"path": "fib_neurites/dev", "box": [[0, 170, 0], [250, 250, 150]]}],
    ),
    "gala_neurites": DataSet(
        "neurites_em",
        [{"path": "gala_neurites/dev", "samples_per_volume": 40, "box": [[0, 0, 0], [50, 100, 130]]}],
        [{"path": "gala_neurites/dev", "box": [[0, 0, 130], [50, 100, 200]]}],
    ),
}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/real"), help="where runs are, or are made")
    parser.add_argument(
        "--only", nargs="*", default=list(DATA_SETS), choices=list(DATA_SETS), help="data sets"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], help="overrides of every config, e.g. train_settings.epochs=2"
    )
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.WARNING if arguments.quiet else logging.INFO, format="%(asctime)s %(message)s"
    )
    print(f"| data set | method | {' | '.join(COLUMNS)} | objects | trained |")
    print("|" + "---|" * (len(COLUMNS) + 4))
    for name in arguments.only:
        for line in rows(name, arguments.data, arguments.runs, arguments.set):
            print(line, flush=True)


def rows(name: str, data: Path, runs: Path, extra: list[str]) -> list[str]:
    """The lines of one data set."""
    seconds = _train_if_missing(name, data, runs, extra)
    tables = compare(name, data, runs)
    lines = []
    for method, table in tables.items():
        scores = score(table)
        numbers = " | ".join(f"{scores[column]:.3f}" for column in COLUMNS)
        counts = f"{scores['n_prediction']:.0f} of {scores['n_truth']:.0f}"
        lines.append(
            f"| {name} | {method} | {numbers} | {counts} | {seconds if method == 'skoots' else ''} |"
        )
    return lines


def _sources(data: Path, sources: Sources) -> list[dict[str, Any]]:
    return [{**source, "path": str((data / source["path"]).resolve())} for source in sources]


def _train_if_missing(name: str, data: Path, runs: Path, extra: list[str]) -> str:
    try:
        find_snapshot(runs / name)
        return "before"
    except SkootsError:
        pass
    data_set = DATA_SETS[name]
    overrides = [
        f"data.train={_sources(data, data_set.train)}",
        f"data.validation={_sources(data, data_set.test)}",
        f"metadata.experiment={name}",
        "inference.tune=0",  # decoders are compared here with their defaults
        *data_set.overrides,
        *extra,
    ]
    began = time.monotonic()
    train(CONFIGS / f"{data_set.config}.yaml", overrides, runs=runs, progress=False)
    return f"{(time.monotonic() - began) / 60:.0f} min"


def compare(name: str, data: Path, runs: Path) -> dict[str, Overlap]:
    """Contingency tables of skoots and of the classical methods on the test part."""
    loaded = load_model(find_snapshot(runs / name))
    sources = {
        "data": {
            "validation": _sources(data, DATA_SETS[name].test),
            "normalize": loaded.config.data.normalize,
        }
    }
    parts = []
    for volume, _ in open_volumes(load_config(sources), "validation"):
        plan = make_plan(loaded, volume.image, volume.voxel_size)
        maps = predict_maps(plan, volume.image)
        truth = read_labels(volume.labels)
        read = Maps.of(maps, plan.decoder.reads, volume.voxel_size, loaded.model.vector_scale)
        instances, foreground = plan.decoder.decode(read), plan.decoder.foreground(read)
        parts.append((truth, instances, foreground, volume.voxel_size, plan.decoder.min_size))

    def pooled(segment: Callable[[np.ndarray, tuple[float, ...]], np.ndarray]) -> Overlap:
        return stack(
            [
                contingency(truth, segment(mask, size)).drop_small(smallest)
                for truth, _, mask, size, smallest in parts
            ]
        )

    components = [
        pooled(lambda mask, size, c=corners: label_components(mask, corners=c)) for corners in (True, False)
    ]
    watersheds = [pooled(lambda mask, size, n=neck: distance_watershed(mask, size, neck=n)) for neck in NECKS]
    return {
        "skoots": stack([contingency(truth, instances) for truth, instances, *_ in parts]),
        "components": max(components, key=lambda table: score(table)["F1"]),
        "watershed": max(watersheds, key=lambda table: score(table)["F1"]),
    }


if __name__ == "__main__":
    main()
