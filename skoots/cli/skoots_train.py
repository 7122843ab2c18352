"""``skoots-train``: ``skoots train`` under the name that the command has in the original SKOOTS."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from skoots.cli.main import main as skoots


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``skoots train``.

    Args:
        arguments: words after ``skoots-train``; None takes those of the process.
    """
    return skoots(["train", *(sys.argv[1:] if arguments is None else arguments)])
