"""What snapshots are for: going on with a run, branching off, evaluating any of them, handing one on.

    python examples/snapshots.py [FOLDER]

Trains a tiny network on synthetic 2D data, in some seconds. The same from the command line:

    skoots train mito.yaml
    skoots resume runs/mito train_settings.epochs=6
    skoots train mito.yaml --resume runs/mito:002
    skoots evaluate --snapshot runs/mito:average
    skoots publish runs/mito:average -o mito.pt
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import skoots

SOURCE = {"type": "Synthetic", "shape": [64, 64], "samples_per_volume": 8}
CONFIG: dict[str, Any] = {
    "data": {"train": [SOURCE], "validation": [{**SOURCE, "seed": 1}], "crop_size": [32, 32]},
    "model": {"backbone": {"type": "UNet", "channels": [8, 16]}},
    "runner": {
        "key_metric": "test.loss",
        "eval_interval": 1,
        "ema": True,
        "snapshots": {"save_epochs": 2, "average_best_models": 3},
    },
    "train_settings": {"epochs": 4},
    "metadata": {"experiment": "mito"},
}


def main(folder: Path) -> None:
    """Walk through it all and print what comes out."""
    runs = folder / "runs"
    first = skoots.train(CONFIG, runs=runs, progress=False)
    print(f"trained {first.epochs} epochs; the best was epoch {first.best_epoch}")

    longer = skoots.resume(runs / "mito", ["train_settings.epochs=6"], progress=False)
    print(f"went on to epoch {longer.epochs} in the same folder: {longer.run_folder == first.run_folder}")

    branch = skoots.train(CONFIG, runs=runs, progress=False, resume=f"{first.run_folder}:002")
    parent = skoots.inspect(branch.latest_snapshot).provenance["parent"]
    print(f"branched off after epoch {parent['epoch']} into {branch.run_folder.name}")

    for name in ("best", "latest", "average"):
        found = skoots.evaluate_snapshot(f"{longer.run_folder}:{name}")
        print(f"{name}: loss {found.metrics['test.loss']:.4f}, then {found.stored['test.loss']:.4f}")

    made = skoots.publish(f"{longer.run_folder}:average", folder / "mito.pt", overwrite=True)
    print(f"{made.output.name}: {made.size} bytes, SHA-256 {made.sha256[:12]}...")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("snapshots-example"))
