"""YAML with comments: what is written reads back, and comments stand where they belong."""

from __future__ import annotations

from skoots.config.commented import WIDTH, dump_commented
from skoots.config.yaml12 import parse

TREE = {
    "data": {
        "train": [
            {"path": "a folder: with signs #", "names": [f"volume_{i:03d}" for i in range(40)]},
            {"path": "b"},
        ],
        "validation": [],
        "crop_size": [16, 64, 64],
        "ratio": 1e-5,
    },
    "model": {
        "heads": {"vector": {"type": "VectorHead", "scale": [3.5, 2.0]}, "semantic": {"type": "SemanticHead"}}
    },
    "runner": {
        "scheduler": {"type": "A" * 60, "params": {"schedulers": [{"type": "B" * 60}], "milestones": [3]}}
    },
    "seed": 4,
}
COMMENTS = {
    "data.crop_size": "Follows the memory. " * 12,
    "model.heads.vector.scale": "Of the vectors: 99 % # of them.",
    "seed": "Of all draws.",
}


def test_what_is_written_reads_back() -> None:
    value, faults = parse(dump_commented(TREE, COMMENTS, "Planned.\n\n  a command"))
    assert value == TREE and faults == []
    assert parse(dump_commented(TREE, {}))[0] == TREE


def test_comments_stand_above_their_keys() -> None:
    lines = dump_commented(TREE, COMMENTS, "Planned.\n\n  a command --with words").splitlines()
    assert lines[:3] == ["# Planned.", "#", "#   a command --with words"]
    assert lines[lines.index("seed: 4") - 1] == "# Of all draws."
    scale = lines.index("      scale: [3.5, 2.0]")
    assert lines[scale - 1] == "      # Of the vectors: 99 % # of them."
    assert lines[scale - 2] == "      type: VectorHead"
    crop = lines.index("  crop_size: [16, 64, 64]")
    above = [line for line in lines[crop - 3 : crop] if line.startswith("  # ")]
    assert len(above) == 3 and "Follows the memory." in above[0]


def test_lines_are_short_and_small_parts_stay_on_one() -> None:
    lines = dump_commented(TREE, COMMENTS).splitlines()
    assert max(map(len, lines)) <= WIDTH + 10
    assert "    semantic: {type: SemanticHead}" in lines
    assert "    - {path: b}" in lines
