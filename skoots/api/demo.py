"""``skoots demo``: the whole walk on example files that it writes: train, segment, evaluate, and a
picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skoots.api.evaluate import Evaluation, evaluate
from skoots.api.segment import Segmentation, segment
from skoots.api.train import TrainingOutcome, train
from skoots.config.load import write_text
from skoots.config.yaml12 import dump
from skoots.errors import SkootsError, Terminated
from skoots.refusals import writing
from skoots.synthetic import make_volume
from skoots.volumes import write_volume

VOLUMES = {
    "train": (("tubes_1", 1), ("tubes_2", 2)),
    "validation": (("tubes_3", 3),),
    "test": (("tubes_4", 4),),
}
SHAPE = (40, 80, 80)
VOXEL_SIZE = (20.0, 20.0, 20.0)


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Args:
        folder: where everything lies.
        outcome: of the training.
        segmentation: of the test volume.
        evaluation: of the segmentation.
    """

    folder: Path
    outcome: TrainingOutcome
    segmentation: Segmentation
    evaluation: Evaluation


def demo(folder: Path | str = "skoots-demo", *, overwrite: bool = False, progress: bool = True) -> Demo:
    """Write example volumes and a config, then train, segment and evaluate on them, as a user would on their
    own.

    Args:
        folder: where the files go.
        overwrite: go on in a folder that exists.
        progress: show progress bars.

    Raises:
        SkootsError: the folder exists and ``overwrite`` was not said, or cannot be written.
    """
    root = Path(folder)
    if root.exists() and not overwrite:
        raise SkootsError(f"{root} exists; choose another folder or say --overwrite.")
    config = _write_example(root, overwrite)
    outcome = train(config, runs=root / "runs", progress=progress)
    if outcome.stopped_by is not None:
        raise Terminated(outcome.stopped_by)
    image = root / "test" / "tubes_4.tif"
    segmentation = segment(image, outcome.run_folder, overwrite=overwrite, progress=progress)
    return Demo(
        root, outcome, segmentation, evaluate(root / "test" / "tubes_4.labels.tif", segmentation.output)
    )


def _write_example(root: Path, overwrite: bool) -> Path:
    """Three folders of volumes and a config beside them; returns the config."""
    for part, volumes in VOLUMES.items():
        with writing(root / part):
            (root / part).mkdir(parents=True, exist_ok=True)
        for name, seed in volumes:
            image, labels = make_volume(SHAPE, seed)
            grey = (image * 255).round().astype("uint8")
            write_volume(
                root / part / f"{name}.tif", grey, voxel_size=VOXEL_SIZE, unit="nm", overwrite=overwrite
            )
            write_volume(
                root / part / f"{name}.labels.tif",
                labels.astype("uint16"),
                voxel_size=VOXEL_SIZE,
                unit="nm",
                overwrite=overwrite,
            )
    config = {
        "data": {
            "train": [{"path": str((root / "train").resolve()), "samples_per_volume": 8}],
            "validation": [{"path": str((root / "validation").resolve())}],
            "test": [{"path": str((root / "test").resolve())}],
            "crop_size": [24, 48, 48],
        },
        "metadata": {"experiment": "demo"},
        "model": {"backbone": {"type": "UNet", "channels": [12, 24, 48]}},
        "runner": {
            "eval_interval": 5,
            "optimizer": {"type": "AdamW", "params": {"lr": 0.003}},
            "scheduler": {"type": "CosineAnnealingLR", "params": {"T_max": 20}},
            "snapshots": {"save_epochs": 10},
        },
        "train_settings": {"batch_size": 2, "epochs": 20, "display_iters": 1},
    }
    path = root / "demo.yaml"
    write_text(f"# The example of `skoots demo`. Again: skoots train {path}\n{dump(config)}", path)
    return path
