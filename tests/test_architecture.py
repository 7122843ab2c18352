"""The layers of ARCHITECTURE.md against the real imports, imports inside functions included."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skoots"
FORBIDDEN = {"utils", "util", "lib", "core", "common", "helpers", "misc"}
# The package's front door belongs to no room; only `python -m skoots` and the installer enter by it.
DOOR = {"__init__", "__main__", "_version"}
# The words in which every room reports a failure of the user; its neighbours in row 0 speak them too.
OPEN_TO_ALL = {"errors"}


def layers() -> dict[str, int]:
    """Room to row, out of the table in ARCHITECTURE.md."""
    table = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    return {room: int(row) for row, rooms in table for room in re.findall(r"`(\w+)`", rooms)}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def dotted_name(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_names(source: str, module: tuple[str, ...], is_package: bool) -> set[str]:
    """Every dotted name that a module imports, relative ones resolved."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if is_package else module[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def rooms_entered(path: Path) -> set[str]:
    """The rooms of the package that a file imports, its own not counted."""
    names = imported_names(path.read_text(), dotted_name(path), path.name == "__init__.py")
    rooms = {name.split(".")[1] for name in names if name.startswith("skoots.")}
    return {room for room in rooms if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file()} - {
        room_of(path)
    }


def test_the_table_is_read():
    rows = layers()
    assert rows["geometry"] == 0 and rows["skeletons"] == 1 and rows["cli"] == 7
    assert sorted(set(rows.values())) == list(range(8))


def test_imports_are_found_wherever_they_hide():
    source = """
import skoots.config.load
from skoots import api
def late():
    from skoots.cli.main import main
    from ..training import runner
    from . import box
"""
    assert imported_names(source, ("skoots", "geometry", "tiling"), is_package=False) == {
        "skoots.config.load",
        "skoots.api",
        "skoots.cli.main.main",
        "skoots.training.runner",
        "skoots.geometry.box",
    }
    assert imported_names("from .box import Box", ("skoots", "geometry"), is_package=True) == {
        "skoots.geometry.box.Box"
    }


def test_every_room_has_its_row():
    rooms = {room_of(path) for path in modules()} - DOOR
    assert rooms <= set(layers()), f"not in the table of ARCHITECTURE.md: {sorted(rooms - set(layers()))}"


@pytest.mark.parametrize("room", sorted(layers()))
def test_a_room_imports_only_rows_above_it(room):
    rows = layers()
    wrong = [
        f"{path.relative_to(ROOT)} (row {rows[room]}) imports {other} (row {rows.get(other, 'none')})"
        for path in modules()
        if room_of(path) == room
        for other in sorted(rooms_entered(path))
        if other not in DOOR | OPEN_TO_ALL and rows.get(other, 99) >= rows[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_room_enters_by_the_front_door():
    """``from skoots import train`` inside would hide which room is meant; only the version is for all."""
    wrong = []
    for path in modules():
        names = imported_names(path.read_text(), dotted_name(path), path.name == "__init__.py")
        for name in sorted(
            n for n in names if re.fullmatch(r"skoots(\.\w+)?", n) and room_of(path) not in DOOR
        ):
            if name.removeprefix("skoots.") not in {*layers(), "_version"}:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is_for():
    silent = [
        str(path.relative_to(ROOT))
        for path in modules()
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


# What writes to the terminal in Python, by the dotted name under which a module can reach it.
WRITERS = {
    "print",
    "tqdm",
    "logging.StreamHandler",
    "logging.basicConfig",
    "logging.lastResort",
    "warnings.showwarning",
}
WRITERS |= {f"sys.{name}" for name in ("stdout", "stderr", "__stdout__", "__stderr__", "displayhook")}
WRITERS |= {
    f"{library}.{name}" for library in ("typer", "click") for name in ("echo", "secho", "progressbar")
}
WRITERS |= {f"traceback.print_{what}" for what in ("exc", "exception", "last", "stack", "tb", "list")}


def writers_in(source: str) -> set[str]:
    """The ways to the terminal that a module takes, whatever it calls them."""
    tree, names = ast.parse(source), {"print": "print"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0]
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    reached = set(names.values()) - {"print"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            reached.add(f"{names.get(node.value.id, '')}.{node.attr}")
        elif isinstance(node, ast.Name) and node.id == "print":
            reached.add("print")
    return {name for name in reached if name in WRITERS or name.partition(".")[0] == "tqdm"}


def test_ways_to_the_terminal_are_found_under_any_name():
    source = """
import sys as system, typer
from sys import stderr as errors
from tqdm.auto import tqdm
def say(text):
    from traceback import print_exc
    print(text)
    system.stdout.write(text)
    typer.echo(text)
"""
    assert writers_in(source) == {
        "print", "sys.stdout", "sys.stderr", "typer.echo", "tqdm.auto.tqdm", "traceback.print_exc",
    }  # fmt: skip
    assert not writers_in("import sys\ndef blueprint(sys_stdout): return sys.path, footprint(blueprint)")


def test_one_module_writes_to_the_terminal():
    """It knows encodings, pipes that close and full disks; whoever writes past it does not."""
    assert writers_in((PACKAGE / "terminal.py").read_text())
    wrong = {
        str(path.relative_to(ROOT)): writers_in(path.read_text())
        for path in modules()
        if path.name != "terminal.py"
    }
    assert not {path: found for path, found in wrong.items() if found}


def test_there_is_no_room_named_other():
    names = {part for path in modules() for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not names & FORBIDDEN


def test_every_test_file_tests():
    empty = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        names = [n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
        if not any(name.startswith("test_") for name in names):
            empty.append(str(path.relative_to(ROOT)))
    assert not empty


@pytest.mark.parametrize("room", sorted(layers()))
def test_every_room_is_tested(room):
    if not any(room_of(path) == room and len(path.read_text().splitlines()) > 1 for path in modules()):
        pytest.skip("an empty room")
    tests = ROOT / "tests"
    assert list((tests / room).rglob("test_*.py")) or list(tests.glob(f"test_{room}*.py")), (
        f"tests/{room} is missing"
    )


def test_test_files_have_names_of_their_own():
    """Without packages under tests/, two files of one name cannot be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})
