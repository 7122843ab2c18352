"""``skoots import-config``: a config of the original SKOOTS as a config of ours."""

from __future__ import annotations

import os
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skoots.config.load import read_text, write_text
from skoots.config.original import translate
from skoots.config.original_settings import OriginalSettings, parse_settings, read_settings
from skoots.errors import SkootsError
from skoots.snapshots import read_config


@dataclass(frozen=True)
class ImportedConfig:
    """What ``import_config`` wrote.

    Args:
        output: the file.
        config: the new config as a mapping.
        notes: what is to be said about old settings, under headings.
    """

    output: Path
    config: dict[str, Any]
    notes: list[tuple[str, list[str]]]


def import_config(
    source: Path | str, output: Path | str = "pytorch_config.yaml", *, overwrite: bool = False
) -> ImportedConfig:
    """Turn a config of the original SKOOTS into a commented one of ours, which means the same.

    Args:
        source: its YAML file, in which only changed settings need to stand, or one of its model files.
        output: the new YAML file.
        overwrite: replace a file that exists; the old config itself never is.

    Raises:
        SkootsError: the source cannot be read or is wrong, or the output exists or cannot be written.
    """
    old, new = Path(os.path.expanduser(source)), Path(os.path.expanduser(output))
    settings = _settings(old)
    if new.exists() and (new.samefile(old) or not overwrite):
        remedy = (
            "choose another output." if new.samefile(old) else "choose another output or say --overwrite."
        )
        raise SkootsError(f"{new} exists; {remedy}")
    translation = translate(settings, old.stem, torch.cuda.device_count())
    write_text(translation.text(_opening(old, new, settings)), new)
    notes = [(heading, [str(note) for note in notes]) for heading, notes in translation.notes]
    return ImportedConfig(new, translation.config, notes)


def _settings(path: Path) -> OriginalSettings:
    if path.is_file() and _is_model_file(path):
        return read_settings(read_config(path), str(path))
    return parse_settings(read_text(path), str(path))


def _is_model_file(path: Path) -> bool:
    """As torch writes it now, or wrote it before 1.6."""
    with open(path, "rb") as file:
        return zipfile.is_zipfile(path) or file.read(1) == b"\x80"


def _opening(old: Path, new: Path, settings: OriginalSettings) -> list[str]:
    written, folder = shlex.quote(str(new)), shlex.quote(settings.TRAIN.SAVE_PATH)
    return [
        f"{old.name}, a config of the original SKOOTS, as a config of this program.",
        "",
        f"  skoots check {written}",
        f"  skoots train {written} --runs {folder}",
        "",
        "Behind each line stands the old setting; what has no counterpart stands at the end.",
        "Axes are z, y, x: the original's (row, column, section) is [section, row, column] here.",
    ]
