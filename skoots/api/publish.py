"""``skoots publish``: a snapshot to hand on: what segmenting needs, and nothing else.

A published file holds what is listed here. What is not listed stays behind, whatever its name, so that a key
that comes later, or that somebody else has written, gives nothing away."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skoots.api.build import PRETRAINED, config_in
from skoots.errors import SnapshotError
from skoots.snapshots import check_free, file_sha256, read_reference, trained_weights, write_snapshot

NUMBERS = ("epoch", "step", "acc")
AVERAGE = ("count", "epochs", "value", "statistics")
"""Of an average: what went into it."""

VERSIONS = ("skoots", "torch", "numpy", "python")
"""Of the provenance."""

SECTIONS: dict[str, Collection[str]] = {
    "data": ("voxel_size", "crop_size", "normalize", "normalize_by", "ignore_label"),
    "model": ("backbone", "backbone_output_channels", "neck", "heads"),
    "runner": ("key_metric", "key_metric_asc", "precision", "channels_last"),
    "inference": ("tile", "halo", "decoding"),
}
"""Of the config: how the network is built and fed, how its maps become instances, and what chose it."""

STATED = "publish"
"""Key of the metadata under which stands what its author wants to be handed on, word for word."""

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,79}", re.ASCII)
_FILE = re.compile(
    r".*\.(pt|pth|ckpt|safetensors|bin|pkl|npy|npz|tiff?|zarr|h5|hdf5?|nii|nrrd|mrc|czi|nd2|lif|png|jpe?g|"
    r"trch|json|ya?ml|csv|txt|py)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Publication:
    """What ``publish`` wrote.

    Args:
        output: the file.
        source: the snapshot that it was made of.
        size: bytes.
        sha256: of the file, as ``sha256sum`` prints it.
    """

    output: Path
    source: Path
    size: int
    sha256: str


def publish(
    snapshot: Path | str, output: Path | str, *, weights: str = "auto", overwrite: bool = False
) -> Publication:
    """Write a snapshot without the state of the training, and without what its config says of your files.

    Args:
        snapshot: a file, a run folder or ``runs/mito:best``.
        output: a ``.pt`` file.
        weights: of a snapshot with a moving average (EMA), ``auto`` takes it and ``raw`` does not.
        overwrite: replace a file that exists.

    Raises:
        SnapshotError: there is no such snapshot, the output exists or cannot be written.
    """
    path = Path(output)
    check_free(path, overwrite)
    state, source = read_reference(snapshot)
    write_snapshot({**_public(state, source), "net": trained_weights(state, weights)}, path)
    return Publication(path, source, path.stat().st_size, file_sha256(path))


def _public(state: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """All that may go of a snapshot but its weights."""
    public: dict[str, Any] = {key: state[key] for key in NUMBERS if key in state}
    public["metrics"] = {name: value for name, value in state.get("metrics", {}).items() if _is_word(name)}
    public["averaging"] = {key: value for key, value in state.get("averaging", {}).items() if key in AVERAGE}
    public["provenance"] = {
        key: value
        for key, value in state.get("provenance", {}).items()
        if key in VERSIONS and isinstance(value, str) and _is_word(value)
    }
    if "decoding" in state:
        public["decoding"] = _harmless(state["decoding"], "decoding", source)
    if "facts" in state:
        public["facts"] = _harmless(_public_facts(state["facts"]), "facts", source)
    public["cfg"] = _public_config(config_in(state, source), source)
    return public


def _public_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the network was built for, and the intensities that it was trained on, volumes without their
    names."""
    public = {key: facts[key] for key in ("in_channels", "spatial_dims", "voxel_size")}
    if "intensity" in facts:
        record = facts["intensity"]
        public["intensity"] = {
            "kind": record["kind"],
            "dtypes": record["dtypes"],
            "pooled": _numbers(record["pooled"]),
            "volumes": [
                {"name": str(number), **_numbers(volume)}
                for number, volume in enumerate(record["volumes"], start=1)
            ],
        }
    return public


def _numbers(intensity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: intensity[key] for key in ("shift", "scale", "rest", "compress") if key in intensity}


def _public_config(config: Mapping[str, Any], source: Path) -> dict[str, Any]:
    public: dict[str, Any] = {}
    for name, keys in SECTIONS.items():
        section = config.get(name)
        if isinstance(section, Mapping):
            public[name] = {
                key: _harmless(section[key], f"{name}.{key}", source) for key in keys if key in section
            }
    if "method" in config:
        public["method"] = _harmless(config["method"], "method", source)
    metadata = config.get("metadata")
    if isinstance(metadata, Mapping) and STATED in metadata:
        public["metadata"] = {STATED: metadata[STATED]}
    return public


def _harmless(value: Any, path: str, source: Path) -> Any:
    """A value of numbers and words, less the arguments that say where first weights came from.

    Raises:
        SnapshotError: there is a text in it that could name a file or a folder.
    """
    if isinstance(value, Mapping):
        return {
            _harmless(key, f"{path}.{key}", source): _harmless(item, f"{path}.{key}", source)
            for key, item in value.items()
            if key not in PRETRAINED
        }
    if isinstance(value, list | tuple):
        return [_harmless(item, f"{path}.{number}", source) for number, item in enumerate(value)]
    if isinstance(value, str) and not _is_word(value):
        raise SnapshotError(
            f"{source} is not published: {path} of its config is {value!r:.60}, which could name a file or a "
            "folder of yours. Train with a part that needs no such text."
        )
    return value


def _is_word(text: str) -> bool:
    """Whether a text is a name of something in the program, and not one of a file."""
    return bool(_WORD.fullmatch(text)) and not _FILE.fullmatch(text)
