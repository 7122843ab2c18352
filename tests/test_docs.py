"""What the documentation says can be typed, loaded, followed and found."""

from __future__ import annotations

import inspect
import itertools
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main

import skoots
from skoots import api
from skoots.cli.main import app, main
from skoots.config import load_config
from skoots.errors import SkootsError
from skoots.metrics import METRIC_NAMES

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


def test_the_readme_shows_python() -> None:
    assert any(str(block.id).startswith("README.md") for block in runnable())


@pytest.mark.parametrize("text", [*blocks("yaml")])
def test_yaml_loads_as_a_config(text: str, tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(re.sub(r"\./(custom_\w+\.py)", rf"{ROOT}/examples/\1", text), encoding="utf-8")
    load_config(path)


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
