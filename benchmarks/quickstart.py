"""Prints what README says of the embedded default: scores over seeds, beside connected components, and the
time taken.

python benchmarks/quickstart.py [--seeds 1 2 3] [--runs runs/quickstart]
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from skoots.api import train

CONFIG = Path(__file__).parent.parent / "model_configs" / "unet3d.yaml"
SHOWN = ("F1", "F1@0.75", "AP50", "VOI_split", "VOI_merge", "ARAND")


def main() -> None:
    """Train once a seed and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--runs", type=Path, default=Path("runs/quickstart"))
    arguments = parser.parse_args()
    print(f"| seed | method | {' | '.join(SHOWN)} | seconds |")
    print("|" + "---|" * (len(SHOWN) + 3))
    seconds = []
    for seed in arguments.seeds:
        outcome = train(CONFIG, [f"train_settings.seed={seed}"], runs=arguments.runs, progress=False)
        seconds.append(outcome.seconds)
        for method, scores in (("skoots", outcome.test_scores), ("components", outcome.baseline_scores)):
            assert scores is not None
            numbers = " | ".join(f"{scores[name]:.3f}" for name in SHOWN)
            print(f"| {seed} | {method} | {numbers} | {outcome.seconds:.0f} |", flush=True)
    print(f"\nmedian time of training: {statistics.median(seconds):.0f} s")


if __name__ == "__main__":
    main()
