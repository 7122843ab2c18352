"""What the documentation says can be typed, loaded, followed and found."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import pkgutil
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import skoots
from skoots import api
from skoots.cli.main import app, main
from skoots.config import Config, load_config
from skoots.config.dlc_transforms import Transforms
from skoots.config.overrides import section_of
from skoots.config.yaml12 import parse, scalar
from skoots.data.augment import AUGMENTATIONS, Frame, IntensityAugmentation, default_augmentations
from skoots.data.normalize import NormalizationKind
from skoots.data.sampling import Sampling
from skoots.errors import ConfigError, SkootsError
from skoots.instances import DECODERS
from skoots.metrics import METRIC_NAMES
from skoots.snapshots import read_snapshot
from skoots.testing import HeadContract

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "ARCHITECTURE.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CONFIGS = {path.name: path for path in (ROOT / "model_configs").glob("*.yaml")}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> Iterator[Any]:
    """Fenced blocks of some languages, each with its page and line as name."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match["language"] in languages:
                line = text.count("\n", 0, match.start()) + 1
                yield pytest.param(textwrap.dedent(match["text"]), id=f"{name_of(page)}:{line}")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


# Commands ---------------------------------------------------------------------------------------------------


def typed_commands() -> Iterator[Any]:
    """Every line of a block, or of an example's own words, that calls skoots."""
    texts = [(block.values[0], block.id) for block in blocks("", "bash", "sh", "console")]
    for example in sorted((ROOT / "examples").glob("*.py")):
        texts.append((example.read_text(encoding="utf-8").split('"""')[1], name_of(example)))
    for text, place in texts:
        for command in re.split(r"\n|&&", text):
            command = command.strip().removeprefix("$ ")
            if command.startswith("skoots ") and "..." not in command:
                yield pytest.param(command, id=f"{place} {command}"[:90])


@pytest.mark.parametrize("command", [*typed_commands()])
def test_a_command_of_a_block_is_understood(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command, comments=True)[1:]
    if words[0] == "list":
        assert main(words) == 0
        return

    def reached(*_: Any, **__: Any) -> None:
        raise SkootsError("reached.")

    verb = "compare" if "--against" in words else words[0].replace("-", "_")
    if verb == "evaluate" and "--snapshot" in words:
        verb = "evaluate_snapshot"
    verb = "import_model" if verb == "import" else verb
    monkeypatch.setattr(api, verb, reached)
    assert main(words) == 2
    assert capsys.readouterr().err == "skoots: reached.\n"


@pytest.mark.parametrize("command", [*typed_commands()])
def test_overrides_of_a_command_are_keys_of_its_config(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    if words[0] not in ("train", "check"):
        return
    given = ROOT / words[1]
    path = given if given.is_file() else CONFIGS.get(words[1], CONFIGS["unet3d.yaml"])
    overrides = [word for word in words[2:] if re.match(r"[\w.]+=", word)]
    plugins = [ROOT / file for option, file in itertools.pairwise(words) if option == "--plugin"]
    load_config(path, overrides, [str(file) for file in plugins if file.is_file()])


def commands_in_prose() -> Iterator[Any]:
    for page in PAGES:
        for words in re.findall(r"`skoots (\w[^`]*)`", prose(page)):
            yield pytest.param(" ".join(words.split()), id=f"{name_of(page)} {words}"[:90])


@pytest.mark.parametrize("words", [*commands_in_prose()])
def test_verbs_and_options_in_prose_exist(words: str) -> None:
    verb, *rest = words.split()
    if verb == "VERB":
        return
    assert verb in VERBS
    known = {name for parameter in VERBS[verb].params for name in parameter.opts} | {"--help"}
    assert {word.split("=")[0] for word in rest if word.startswith("-")} <= known


# Python and YAML --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*blocks("python")])
def test_python_compiles(text: str) -> None:
    compile(text, "block", "exec")


def runnable() -> list[Any]:
    return [block for block in blocks("python") if block.values[0].startswith("import skoots\n")]


@pytest.mark.parametrize("text", runnable())
def test_python_that_calls_a_verb_runs(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With stand-ins that take what the verbs take and return what they return."""
    scores = dict.fromkeys(METRIC_NAMES, 0.5)
    run = Path("runs/a/RUN_1")
    outcome = api.TrainingOutcome(
        run, run / "best.pt", run / "latest.pt", 1, 1, {}, scores, scores, run, "held-out"
    )
    answers = {
        "train": outcome,
        "segment": api.Segmentation(Path("found.tif"), 3, (4, 4, 4), {"vector": Path("found.vector.tif")}),
        "evaluate": api.Evaluation(scores, "truth.tif", "found.tif"),
        "skeletonize": api.SkeletonReport([]),
        "check": api.CheckReport(load_config({}), ["All is well."]),
        "load_model": SimpleNamespace(model=None),
        "load_weights": None,
    }
    for verb, answer in answers.items():
        signature = inspect.signature(getattr(api, verb))

        def stand_in(*given: Any, signature: Any = signature, answer: Any = answer, **named: Any) -> Any:
            signature.bind(*given, **named)
            return answer

        monkeypatch.setattr(skoots, verb, stand_in)
    exec(compile(text, "block", "exec"), {})


IN_EXAMPLES = {
    "class RimTarget": "custom_head.py",
    "class RimDecoder": "custom_decoder.py",
    "class Coarse": "custom_backbone.py",
}


@pytest.mark.parametrize(("name", "example"), IN_EXAMPLES.items())
def test_a_part_that_is_shown_is_that_of_the_example(name: str, example: str) -> None:
    (shown,) = [b.values[0] for b in blocks("python") if name in b.values[0]]
    assert shown in (ROOT / "examples" / example).read_text(encoding="utf-8")


def parts_that_run() -> list[Any]:
    alone = [block for block in blocks("python") if not any(name in block.values[0] for name in IN_EXAMPLES)]
    return [block for block in alone if not block.values[0].startswith("import skoots\n")]


@pytest.mark.parametrize("text", parts_that_run())
def test_parts_that_are_shown_work(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are registered, or keep their contract, as they stand."""
    for registry in api.registries().values():  # without those that other blocks have brought
        own = {name: registry.get(name) for name in registry.names()}
        own = {name: part for name, part in own.items() if part.__module__.startswith("skoots.")}
        monkeypatch.setattr(registry, "_parts", own)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    names: dict[str, Any] = {"__name__": "shown"}
    monkeypatch.setitem(sys.modules, "shown", SimpleNamespace(**names))
    exec(compile(text, "block", "exec"), names)
    for value in [value for value in names.values() if getattr(value, "__module__", "") == "shown"]:
        if issubclass(value, IntensityAugmentation):
            image = torch.ones(1, 4, 4)
            change = value().draw(Frame((4, 4), (1.0, 1.0)), np.random.default_rng(0))
            assert change is not None and (change(image) > image).all()
        elif issubclass(value, HeadContract):
            assert value().make(4, 2)(torch.zeros(1, 4, 8, 8))


def test_the_readme_shows_python() -> None:
    assert any(str(block.id).startswith("README.md") for block in runnable())


@pytest.mark.parametrize("text", [*blocks("yaml")])
def test_yaml_loads_as_a_config(text: str, tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(re.sub(r"\./(custom_\w+\.py)", rf"{ROOT}/examples/\1", text), encoding="utf-8")
    load_config(path)


def written(path: str) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """Section and field of a config path; both None inside what the schema leaves to a part.

    Raises:
        KeyError: no config has this key.
    """
    section: type[BaseModel] | None = Config
    field = None
    for key in path.split("."):
        if section is None:
            return None, None
        field = section.model_fields[key]
        inner = section_of(field.annotation)
        if inner is None and not re.search(r"dict|list|Node|Any", str(field.annotation)):
            assert path.endswith(key), f"{path}: {key} holds no keys"
        section, above = inner, section
    return above, field


def code(page: Path) -> list[str]:
    """What stands between backticks in the prose of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


KEY = re.compile(rf"(?:{'|'.join(Config.model_fields)})(?:\.\w+)+")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_of_a_config_exist(page: Path) -> None:
    for words in code(page):
        if match := re.fullmatch(rf"({KEY.pattern})(?:: .*)?", words):
            written(match[1])


def assignments() -> Iterator[Any]:
    """Each ``key.path: value`` of the prose that has no word in capitals to be filled in."""
    for page in PAGES:
        for words in code(page):
            match = re.fullmatch(rf"({KEY.pattern}|device|method|plugins|logger): (.+)", words)
            if match and not re.search(r"\.\.\.|\b[A-Z]+\b|my_|^td$", match[2]):
                yield pytest.param(f"{match[1]}={match[2]}", id=f"{name_of(page)} {words}"[:90])


@pytest.mark.parametrize("override", [*assignments()])
def test_values_of_keys_are_taken(override: str) -> None:
    load_config({}, [override])


def defaults() -> Iterator[Any]:
    """``key`` ... (5), or a row of a table that says: default 5."""
    for page in PAGES:
        for line in prose(page).replace("\n", " ").split("|"):
            for key, value in re.findall(rf"`({KEY.pattern})`[^`.(]{{0,12}} \(([\d.]+)\)", line):
                yield pytest.param(key, value, id=f"{name_of(page)} {key}")
        for key, row in re.findall(rf"^\| `({KEY.pattern})` \| (.*)$", prose(page), re.MULTILINE):
            match = re.search(r"\b[Dd]efault `?(none\b|true|false|[\w.]*\w)", row)
            if match and key != "model.heads":  # whose default is three heads
                yield pytest.param(key, match[1], id=f"{name_of(page)} {key}")


@pytest.mark.parametrize(("key", "value"), [*defaults()])
def test_defaults_are_those_of_the_schema(key: str, value: str) -> None:
    field = written(key)[1]
    assert field is not None
    assert field.default == (None if value == "none" else scalar(value))


def test_the_faults_that_are_shown_are_those_that_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = [b.values[0] for b in blocks("") if b.values[0].startswith("skoots: The config in t.yaml")]
    monkeypatch.chdir(tmp_path)
    Path("t.yaml").write_text(
        "data: {crop_sizee: auto}\nrunner: {eval_interval: 0}\n"
        "model: {backbone: {type: UNet, chanels: [4]}, heads: {semantic: {type: SemantcHead}}}\n"
    )
    assert main(["check", "t.yaml"]) == 2
    assert capsys.readouterr().err == shown


def test_a_plugin_that_a_snapshot_names_is_refused_in_the_words_that_are_shown() -> None:
    (shown,) = [b.values[0] for b in blocks("") if "code that this config asks for" in b.values[0]]
    with pytest.raises(ConfigError) as caught:
        load_config({"plugins": ["/home/me/custom_head.py"]}, trusted=False)
    assert [str(fault) for fault in caught.value.faults] == [shown.strip()]


# Tables -----------------------------------------------------------------------------------------------------


def table(page: str, heading: str) -> dict[str, list[str]]:
    """The first table below a heading: what stands in backticks in the first column, and the other cells."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    below = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    rows = re.search(r"\n\|[-|]+\|\n((?:\|.*\n)+)", below)
    assert rows is not None
    cells = [re.split(r"(?<!\\)\|", row.strip().strip("|")) for row in rows[1].splitlines()]
    return {
        name: [cell.strip() for cell in row[1:]] for row in cells for name in re.findall(r"`([^`]+)`", row[0])
    }


def test_settings_of_decoders() -> None:
    """A key that two decoders share with different defaults stands in two rows."""
    text = (ROOT / "docs" / "segmenting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\| ([^|]*) \|", text, flags=re.MULTILINE)
    own = [part for part in map(DECODERS.get, DECODERS) if part.__module__.startswith("skoots.")]
    known = {part.__name__.removesuffix("Decoder").lower(): part for part in own}
    rows = [row for row in rows if row[2].startswith("all") or set(row[2].split(", ")) <= set(known)]
    told: dict[str, dict[str, Any]] = {name: {} for name in known}
    for key, default, of in rows:
        named = set(known) if of.startswith("all") else set(of.split(", "))
        for name in named - ({"watershed"} if of == "all but the watershed" else set()):
            told[name][key] = scalar(default.strip()) if default.strip() else None
    for name, decoder in known.items():
        assert told[name] == {field.name: field.default for field in dataclasses.fields(decoder)}


def test_ways_of_normalising() -> None:
    assert set(table("data.md", "Normalisation")) == set(get_args(NormalizationKind))


def test_shares_of_crops() -> None:
    assert list(table("data.md", "Crops")) == [field.name for field in dataclasses.fields(Sampling)]
    (shown,) = [b.values[0] for b in blocks("yaml") if "# the default" in b.values[0]]
    tree, _ = parse(shown)
    assert Sampling(**tree["data"]["sampling"]) == Sampling()


def test_every_augmentation_is_in_the_table_and_on_the_default_list() -> None:
    assert set(table("data.md", "Augmentation")) == set(AUGMENTATIONS.names())
    shown = next(b.values[0] for b in blocks("yaml") if "augment: [Flip, SwapAxes" in b.values[0])
    tree, _ = parse(shown)
    assert tree["data"]["augment"] == [type(part).__name__ for part in default_augmentations()]


def test_transforms_of_deeplabcut() -> None:
    """Each row, with the default that it names: what the transform becomes."""
    rows = table("deeplabcut.md", "Transforms")
    assert set(rows) == {"colormode", *Transforms.model_fields}
    for name in ("hflip", "elastic_transform", "gaussian_noise"):
        made = load_config({"data": {"train": {name: True}}}).data.augment
        node, _ = parse(re.findall(r"`([^`]+)`", rows[name][0])[0])
        assert isinstance(made, list) and node.items() <= made[0].items()


def test_names_of_deeplabcut_s_keys() -> None:
    for words in table("deeplabcut.md", "DeepLabCut's configuration page"):
        if words not in ("target_generator", "predictor", "criterion", "freeze_bn_weights"):
            written(words.replace("logger.", "logger.0."))


def test_extras_and_commands_that_are_named_exist() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"])
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"\.\[(\w+)\]", text) + re.findall(r"extra `(\w+)`", text)
        assert set(named) <= extras
    lines = setup["options.entry_points"]["console_scripts"].split()
    commands = {word for page in PAGES for word in re.findall(r"`(skoots-\w+)", prose(page))}
    assert commands - {"skoots-validate"} <= set(lines)  # the original's own


# What a run leaves ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was asked for everything that leaves a file."""
    source = {"type": "Synthetic", "shape": [32, 32], "samples_per_volume": 4, "radius": [2.0, 3.0]}
    config = {
        "data": {"train": [source], "validation": [{**source, "seed": 1}], "crop_size": [16, 16]},
        "device": "cpu",
        "model": {"backbone": {"type": "UNet", "channels": [4, 8]}},
        "runner": {
            "eval_interval": 1,
            "key_metric": "test.loss",
            "ema": True,
            "swa": {"swa_start": 1},
            "scheduler": {"type": "StepLR", "step_size": 1},
            "warmup_steps": 1,
            "snapshots": {"average_best_models": 2, "save_epochs": 1},
            "profile": {"autograd_profile": True, "trace_steps": [1, 1]},
        },
        "train_settings": {"epochs": 2},
        "inference": {"tune": 0},
    }
    return api.train(config, runs=tmp_path_factory.mktemp("runs"), progress=False).run_folder


def without_numbers(name: str) -> str:
    return re.sub(r"\d{3}", "NNN", name)


def test_files_of_a_run_are_those_that_are_named(run: Path) -> None:
    (tree,) = [b.values[0] for b in blocks("") if b.values[0].startswith("runs/mito/RUN_")]
    named = {without_numbers(line.split()[0].rstrip("/")) for line in tree.splitlines()[1:]}
    found = {without_numbers(path.name) for path in run.iterdir() if not path.name.startswith(".")}
    assert found == named | {"averaging"}  # of which snapshots.md tells
    files = {without_numbers(Path(name).name) for name in table("snapshots.md", "Files of a run")}
    assert files - {"snapshot-post-mortem.pt"} == {name for name in found if name.endswith(".pt")}
    shown = re.search(r"^  figures/ +(.*)$", tree, re.MULTILINE)
    assert shown is not None
    assert all((run / "figures" / name).is_file() for name in shown[1].split(", "))


def test_keys_of_a_snapshot_are_those_that_are_named(run: Path) -> None:
    rows = table("snapshots.md", "What a snapshot holds")
    kept = set(read_snapshot(run / "snapshot-latest.pt"))
    # These need CUDA, a stop, or a decoder that is better than the config's.
    elsewhere = {"scaler_state_dict", "gradients", "statistics_before", "observers", "decoding"}
    assert kept - set(rows) == set()
    assert set(rows) - kept <= elsewhere


def test_columns_and_pictures_are_those_that_are_named(run: Path) -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    sentence = re.search(r"`learning_stats.csv` is always written: (.*?) Others", " ".join(text.split()))
    assert sentence is not None
    named = set(re.findall(r"`([^`]+)`", sentence[1]))
    columns = (run / "learning_stats.csv").read_text(encoding="utf-8").split("\n")[0].strip().split(",")
    plain = {re.sub(r"^test\..*", "test.*", re.sub(r"loss\.\w+$", "loss.HEAD", name)) for name in columns}
    assert {name.replace("test.loss.HEAD", "test.*") for name in plain} == named
    drawn = {without_numbers(path.name) for path in (run / "figures").glob("epoch-*")}
    assert drawn == {"epoch-NNN-train.png", "epoch-NNN-validation.png"} == {
        without_numbers(name) for name in re.findall(r"`(epoch-\d+-\w+\.png)`", text)
    }  # fmt: skip


# Links and names --------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    text = re.sub(r"e\.g\. `[^`]+`", "", page.read_text(encoding="utf-8"))  # a name made up as an example
    rooted = re.findall(r"\b((?:model_configs|examples|benchmarks|docs|tests|skoots)/[\w./-]+\.\w+)\b", text)
    assert [name for name in rooted if not (ROOT / name).is_file()] == []
    modules = re.findall(r"`((?:\w+/)+\w+\.py)`", text)  # below skoots/, as in the tour
    assert [
        name for name in modules if not any((base / name).is_file() for base in (ROOT, ROOT / "skoots"))
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`(\w+/test_\w+\.py)::(\w+)`", page.read_text(encoding="utf-8"))
    tests = [(ROOT / "tests" / file, test) for file, test in named]
    missing = [
        f"{file.name}::{test}"
        for file, test in tests
        if not file.is_file() or f"def {test}(" not in file.read_text(encoding="utf-8")
    ]
    assert missing == []


def python_names() -> Iterator[Any]:
    for page in PAGES:
        for name in re.findall(r"`(skoots(?:\.\w+)+)", prose(page)):
            if name != "skoots.plugins":  # a group of entry points
                yield pytest.param(name, id=f"{name_of(page)} {name}")


@pytest.mark.parametrize("name", [*python_names()])
def test_python_names_exist(name: str) -> None:
    assert pkgutil.resolve_name(name) is not None


def test_every_page_is_on_the_map() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


def test_every_config_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in CONFIGS if f"model_configs/{name}" not in readme} == set()


def test_no_placeholder_is_left() -> None:
    left = {name_of(page): re.findall(r"\b(?:TODO|FIXME|XXX|[A-Z]+_TABLE)\b", prose(page)) for page in PAGES}
    assert {name: words for name, words in left.items() if words} == {}
