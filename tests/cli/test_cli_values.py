"""Every flag and argument of every command with odd values: a sentence and status 2, or the result.

The flags are read from the app itself, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import numpy as np
import pytest
import tifffile
import typer
from original_model import random_weights, write_model
from typer.models import ArgumentInfo, CommandInfo, OptionInfo

from skoots.cli.main import app, main
from skoots.cli.options import file_path
from skoots.synthetic import make_volume

PATHS = ["", "a" * 5000, "a/" * 3000, "a\0b", "http://127.0.0.1:1/x", "~no-such-user/x"]
NUMBERS = ["", "nan", "inf", "-inf", "1e20", "1e400", "-1", "9" * 5000]
TEXTS = [
    "",
    "a" * 5000,
    "a\0b",
    "\udcff",
    ".",
    "-1",
    "nan,nan",
    "0,0",
    "1e20,1e20",
    "999999999,999999999",
    "cuda:99",
    "~no-such-user/x",
]
SETTINGS = ["reach=.inf", "reach=.nan", "reach=1e300", "reach=99999999999999999999", "reach=a", "reach=null"]
SETTINGS += ["steps=18446744073709551615", "steps=-1", "min_size=.inf", "semantic_threshold=2", "a" * 5000]
SYNTHETIC = "{type: Synthetic, shape: [32, 32], samples_per_volume: 2, radius: [2.0, 3.0], seed: %d}"
CONFIG = f"""
data: {{train: [{SYNTHETIC % 1}], validation: [{SYNTHETIC % 2}], crop_size: [16, 16]}}
device: cpu
model: {{backbone: {{type: UNet, channels: [4, 8]}}}}
runner: {{image_log_interval: null, eval_interval: 1, key_metric: test.loss}}
train_settings: {{batch_size: 2, epochs: 1}}
"""
SIZE, QUIET = "--voxel-size=1,1", "--quiet"
SOUND: dict[str, tuple[dict[str, str], list[str]]] = {  # arguments and options of a call that works
    "plan": ({"folder": "f"}, ["--output=p.yaml", "--overwrite", "--memory=2", SIZE, QUIET]),
    "train": ({"config": "c.yaml"}, [QUIET]),
    "resume": ({"run": "RUN"}, [QUIET]),
    "segment": ({"volume": "f/v.tif"}, ["-s", "SNAPSHOT", "-o", "o.tif", "--overwrite", SIZE, QUIET]),
    "evaluate": ({"labels": "f/v.labels.tif", "prediction": "f/v.labels.tif"}, []),
    "tune": ({}, ["-s", "SNAPSHOT", "--output=t.pt", "--overwrite", "--seconds=0", QUIET]),
    "inspect": ({"snapshot": "SNAPSHOT"}, []),
    "publish": ({"snapshot": "SNAPSHOT"}, ["--output=p.pt", "--overwrite"]),
    "skeletonize": ({"folder": "f"}, [SIZE, QUIET]),
    "check": ({"config": "c.yaml"}, []),
    "preview": ({"config": "c.yaml"}, []),
    "list": ({"kind": "necks"}, []),
    "view": ({"volume": "f/v.tif"}, []),
    "import": ({"old": "old.trch"}, ["--output=i.pt", "--overwrite"]),
    "import-config": ({"old": "old.yaml"}, ["--output=new.yaml", "--overwrite"]),
    "demo": ({}, ["--overwrite", QUIET]),
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A working folder with data, configs and a run; what RUN and SNAPSHOT stand for."""
    folder, before = tmp_path_factory.mktemp("values"), Path.cwd()
    os.chdir(folder)
    image, labels = make_volume((32, 32), seed=1, radius=(2, 3))
    Path("f").mkdir()
    tifffile.imwrite("f/v.tif", (image * 255).clip(0, 255).astype(np.uint8))
    tifffile.imwrite("f/v.labels.tif", labels.astype(np.uint16))
    Path("c.yaml").write_text(CONFIG)
    Path("old.yaml").write_text("TRAIN: {NUM_EPOCHS: 5}\n")
    write_model(Path("old.trch"), random_weights())
    assert main(["train", "c.yaml", "--quiet"]) == 0
    run = next(Path("runs/c").resolve().iterdir())
    yield {"RUN": str(run), "SNAPSHOT": str(run / "snapshot-latest.pt")}
    os.chdir(before)


def kinds(hint: Any) -> set[Any]:
    return set().union(*map(kinds, get_args(hint))) or {hint}


def parameters() -> Iterator[tuple[str, str, Any, Any]]:
    """Verb, name, type and typer's description of everything that takes a value."""
    for command in app.registered_commands:
        assert command.name is not None and command.callback is not None
        for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
            assert get_origin(parameter.annotation) is Annotated, f"{command.name} {parameter.name}"
            taken, told = parameter.annotation.__origin__, parameter.annotation.__metadata__[0]
            if bool not in kinds(taken):
                yield command.name, parameter.name, taken, told


def values(name: str, taken: Any) -> list[str]:
    if Path in kinds(taken):
        return PATHS
    if kinds(taken) & {int, float}:
        return NUMBERS
    return SETTINGS if name == "decoding" else TEXTS


def call(verb: str, name: str, told: Any, value: str, words: dict[str, str]) -> list[str]:
    arguments, flags = dict(SOUND[verb][0]), list(SOUND[verb][1])
    more = []
    if isinstance(told, OptionInfo):
        names = [told.default, *(told.param_decls or ())]
        flags.append(f"{next(n for n in names if n.startswith('--'))}={value}")
    elif name in arguments:
        arguments[name] = value
    else:
        more = [value]
    return [words.get(word, word) for word in (verb, *flags, "--", *arguments.values(), *more)]


@pytest.mark.parametrize(
    ("verb", "name", "taken", "told"), list(parameters()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_no_value_ends_in_a_traceback(
    verb: str, name: str, taken: Any, told: Any, words: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(told, OptionInfo | ArgumentInfo)
    there = sorted(os.listdir())
    for value in values(name, taken):
        status = main(call(verb, name, told, value, words))
        said = capfd.readouterr()
        assert status == 2 or (status == 0 and value not in PATHS), f"{value[:40]!r}: {status}"
        assert status == 0 or 0 < len(said.err) < 12_000, f"{value[:40]!r}: {said.err}"
        if Path in kinds(taken):
            assert status == 2 and "Invalid value for" in said.err and sorted(os.listdir()) == there


def test_every_command_is_tried() -> None:
    assert {command.name for command in app.registered_commands} == set(SOUND)
    assert all(isinstance(command, CommandInfo) for command in app.registered_commands)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("data.crop_size=[1000000000, 1000000000]", "of which a batch of 2 does not fit into memory"),
        ("data.train.0.shape=[1000000000, 1000000000]", "more than 1,073,741,824 voxels"),
        ("data.train.0.volumes=2000000", "more than 1,073,741,824 voxels"),
        ("data.train.0.radius=[1.0e+308, 1.0e+308]", "must rise from 0.5"),
        ("data.train.0.seed=-1", "must be an integer of at least 0"),
        ("data.train.0.samples_per_volume=99999999999", "of at most 10000000"),
        ("model.backbone.channels=[1000000000, 1000000000]", "are more than 4,096 at a level"),
        ("train_settings.epochs=99999999999", "must be less than 2147483648, is 99999999999"),
        ("train_settings.batch_size=99999999999", "must be less than 2147483648"),
        ("train_settings.seed=18446744073709551615", "must be less than 4611686018427387904"),
        ("data.voxel_size=[1e300, 1e-300]", "at most 200 times each other"),
        ("data.train=" + "a" * 5000, "does not exist"),
        ("plugins=" + "a/" * 3000 + "x.py", "does not exist"),
        ("plugins=a.b-c", "is neither a module nor a .py file"),
        ("inference.decoding.reach=51", "must be a number of at least 0 and of at most 50"),
        ("inference.decoding.steps=1001", "must be an integer of at least 0 and of at most 1000"),
    ],
)  # fmt: skip
def test_no_number_takes_all_memory(
    override: str, problem: str, words: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "c.yaml", override]) == 2
    assert problem in " ".join(capfd.readouterr().err.split())


def test_a_path_is_no_pipe_and_no_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", os.devnull):
        with pytest.raises(typer.BadParameter, match="is a device or a pipe"):
            file_path(path)
    for path in (tmp_path, tmp_path / "new" / "name.tif", "~/x"):
        assert file_path(str(path)) == Path(path)


def test_outputs_that_cannot_be_named(words: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    problems = {
        ("segment", "f/v.tif", "-s", words["SNAPSHOT"], "-o", "x" * 240 + ".tif"): "File name too long",
        ("plan", "f", "--output=.", "--overwrite", "--memory=2", SIZE): "cannot be written: Is a directory",
        ("import-config", "old.yaml", "--output=.", "--overwrite"): "cannot be written: Is a directory",
        ("publish", words["SNAPSHOT"], "--output=.", "--overwrite"): "is a folder; name a file",
        ("import", "old.trch", "--output=.", "--overwrite"): "is a folder; name a file",
    }
    there = sorted(os.listdir())
    for argv, problem in problems.items():
        assert main(list(argv)) == 2
        assert problem in capfd.readouterr().err
    assert sorted(os.listdir()) == there
