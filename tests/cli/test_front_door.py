"""The package's front door opens quickly and leads where it says."""

from __future__ import annotations

import subprocess
import sys

import pytest

import skoots
from skoots.registry import Registry

HEAVY = ("torch", "numba", "numpy", "scipy", "tensorstore", "matplotlib", "skoots.config", "skoots.api")


def heavy_modules_after(code: str) -> str:
    check = f"import sys; print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, check=True
    )
    return done.stderr.strip()


def test_import_brings_nothing_heavy() -> None:
    assert heavy_modules_after("import skoots; skoots.__version__; skoots.SkootsError; dir(skoots)") == "[]"


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_brings_nothing_heavy(words: list[str]) -> None:
    assert heavy_modules_after(f"from skoots.cli.main import main; assert main({words!r}) == 0") == "[]"


def test_every_public_name_is_there_and_listed() -> None:
    for name in skoots.__all__:
        assert getattr(skoots, name) is not None, name
    assert set(skoots.__all__) <= set(dir(skoots))


def test_names_are_those_of_their_homes() -> None:
    from skoots import api
    from skoots.models.heads.base import HEADS

    assert skoots.HEADS is HEADS and isinstance(skoots.HEADS, Registry)
    assert skoots.train is api.train and skoots.evaluate is api.evaluate
    assert issubclass(skoots.VolumeError, skoots.SkootsError)


def test_every_registry_of_the_api_is_at_the_door() -> None:
    assert {name.upper() for name in skoots.registries()} <= set(skoots.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'skoots' has no attribute 'trian'"):
        _ = skoots.trian
