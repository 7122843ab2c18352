from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from skoots.errors import PluginError
from skoots.registry import (
    Registry,
    accepted_facts,
    did_you_mean,
    load_installed_plugins,
    load_plugin,
    near_misses,
    split_node,
)


class Shape(ABC):
    @abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    def __init__(self, edge: float = 1.0, unit: str = "px") -> None:
        self.edge, self.unit = edge, unit

    def area(self) -> float:
        return self.edge**2


@pytest.fixture()
def shapes() -> Registry[Shape]:
    return Registry("shape", Shape)


def test_every_spelling_of_registration(shapes: Registry[Shape]) -> None:
    shapes.register(Square)
    shapes.register("a")(Square)
    shapes.register(name="b")(Square)
    shapes.register()(Square)
    shapes.register_module()(Square)
    shapes.register_module(Square)
    shapes.register_module(name="c")(Square)
    assert shapes.names() == list(shapes) == ["Square", "a", "b", "c"]
    assert "a" in shapes and "d" not in shapes and shapes.get("c") is Square
    assert repr(shapes) == "Registry('shape', ['Square', 'a', 'b', 'c'])"


def test_decorating_gives_the_class_back(shapes: Registry[Shape]) -> None:
    @shapes.register("round")
    class Round(Square): ...

    assert Round.__name__ == "Round" and shapes.get("round") is Round


def test_a_name_is_given_once(shapes: Registry[Shape]) -> None:
    class Other(Square): ...

    shapes.register("one")(Square)
    shapes.register("one")(Square)  # the same class again, as when a module is reloaded
    with pytest.raises(
        PluginError, match=r"shape name 'one' is taken by .*\.Square; register .*Other under another"
    ):
        shapes.register("one")(Other)
    assert shapes.get("one") is Square


def test_case_matters_only_between_names_that_differ_in_nothing_else(shapes: Registry[Shape]) -> None:
    class Other(Square): ...

    shapes.register("Square")(Square)
    assert shapes.get("square") is shapes.get("SQUARE") is Square
    assert shapes.name_of("sQuare") == "Square" and "square" not in shapes
    assert type(shapes.build({"type": "square", "edge": 2.0})) is Square
    shapes.register("square")(Other)
    assert (shapes.get("Square"), shapes.get("square")) == (Square, Other)
    with pytest.raises(PluginError, match=r"shape 'SQUARE' is not registered. Did you mean square\?"):
        shapes.get("SQUARE")


def test_other_names_of_built_in_parts() -> None:
    shapes: Registry[Shape] = Registry("shape", Shape, aliases={"quad_rat": "Square"})
    shapes.register(Square)
    assert shapes.get("quad_rat") is shapes.get("Quad_Rat") is Square
    assert shapes.name_of("quad_rat") == "Square" and shapes.names() == ["Square"]

    class Own(Square): ...

    shapes.register("quad_rat")(Own)  # a plugin's own part of this name
    assert shapes.get("quad_rat") is Own


@pytest.mark.parametrize("stranger", [dict, "text".upper])
def test_only_parts_that_keep_the_contract(shapes: Registry[Shape], stranger: type) -> None:
    with pytest.raises(PluginError, match="cannot be registered as a shape: it does not extend Shape"):
        shapes.register(name="x")(stranger)


def test_unknown_names_have_near_misses(shapes: Registry[Shape]) -> None:
    with pytest.raises(PluginError, match=r"^shape 'x' is not registered. None is registered.$"):
        shapes.get("x")
    shapes.register(Square)
    with pytest.raises(PluginError, match=r"^shape 'sqare' is not registered. Did you mean Square\?$"):
        shapes.get("sqare")
    with pytest.raises(PluginError, match=r"Known: Square.$"):
        shapes.build({"type": "Hexagon"})


def test_near_misses_ignore_case_and_underscores() -> None:
    assert near_misses("vector_head", ["VectorHead", "UNet"]) == ["VectorHead"]
    assert near_misses("zzz", ["VectorHead"]) == []
    assert did_you_mean("lr_", ["lr", "other"]) == "Did you mean lr?"


def test_nodes_in_every_spelling(shapes: Registry[Shape]) -> None:
    shapes.register(Square)
    assert split_node("Square") == ("Square", {})
    assert split_node({"type": "Square", "params": {"edge": 2}, "unit": "nm"}) == (
        "Square",
        {"edge": 2, "unit": "nm"},
    )
    assert split_node({"type": "Square", "params": None}) == ("Square", {})
    for node in ({"type": "Square", "edge": 3}, {"type": "Square", "params": {"edge": 3}}):
        before = {**node}
        assert shapes.build(node).area() == 9
        assert node == before
    assert shapes.build("Square").area() == 1


def test_facts_go_where_they_are_wanted_and_the_node_wins(shapes: Registry[Shape]) -> None:
    shapes.register(Square)
    assert accepted_facts(Square, {"edge": 2, "color": "red"}) == {"edge": 2}
    built = shapes.build({"type": "Square", "edge": 3}, edge=2, unit="nm", color="red")
    assert isinstance(built, Square) and (built.edge, built.unit) == (3, "nm")


def test_homes_are_imported_at_the_first_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home_of_parts.py").write_text("import test_registry_target as t\nt.parts.register(dict)\n")
    (tmp_path / "test_registry_target.py").write_text(
        "from skoots.registry import Registry\nparts = Registry('part', home=['home_of_parts'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    import test_registry_target as target  # type: ignore[import-not-found]

    assert "home_of_parts" not in sys.modules
    assert target.parts.names() == ["dict"] and "home_of_parts" in sys.modules


# Plugins


@pytest.fixture()
def forgotten() -> Iterator[None]:
    """Plugin modules imported by the test are forgotten after it; all others, half imported, would break
    later ones."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "plugin" in name or name.endswith("_skoots_parts"):
            del sys.modules[name]


@pytest.mark.usefixtures("forgotten")
def test_a_plugin_file_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    (tmp_path / "part.py").write_text(
        "from __future__ import annotations\nimport pathlib, dataclasses\n"
        "@dataclasses.dataclass\nclass Settings:\n    size: int = 1\n"  # dataclasses look their module up
        f"with pathlib.Path({str(log)!r}).open('a') as log:\n    log.write('run ')\n"
    )
    load_plugin("./part.py", relative_to=tmp_path)
    load_plugin(str(tmp_path / "part.py"))
    monkeypatch.chdir(tmp_path)
    load_plugin("part.py")
    assert log.read_text() == "run "


@pytest.mark.usefixtures("forgotten")
def test_files_of_one_name_are_two_plugins(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part.py").write_text(f"open({str(tmp_path / folder / 'ran')!r}, 'w').close()\n")
        load_plugin(f"{folder}/part.py", relative_to=tmp_path)
        assert (tmp_path / folder / "ran").exists()


@pytest.mark.usefixtures("forgotten")
def test_a_plugin_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin_module_a.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    load_plugin("plugin_module_a")
    assert sys.modules["plugin_module_a"].value == 3


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("", "'' is neither a module nor a .py file"),
        (".", "'.' is neither a module nor a .py file"),
        ("..", "'..' is neither a module nor a .py file"),
        ("a b", "'a b' is neither"),
        ("\udcff", "is neither a module"),
        ("a" * 5000, "cannot be imported"),
        ("a/" * 3000, "is no .py file"),
        ("a/" * 3000 + "b.py", "does not exist"),
        ("a\0b.py", "does not exist"),
        ("~nobody-of-this-name/b.py", "does not exist"),
        ("./", "is no .py file"),
        ("/dev/null", "is no .py file"),
    ],
)
def test_what_is_no_plugin(reference: str, problem: str) -> None:
    with pytest.raises(PluginError) as caught:
        load_plugin(reference)
    assert problem in str(caught.value)


def test_plugins_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match=f"Plugin file {tmp_path / 'no.py'} does not exist."):
        load_plugin("no.py", relative_to=tmp_path)
    with pytest.raises(PluginError, match=r"'no_such.module' cannot be imported: .* Is it installed\?"):
        load_plugin("no_such.module")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    for _ in range(2):  # a failed one is not taken for loaded
        with pytest.raises(ZeroDivisionError):
            load_plugin("broken.py", relative_to=tmp_path)


def install(folder: Path, name: str, code: str, entry: str) -> None:
    """A real installed distribution: a module and its ``dist-info``."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[skoots.plugins]\n{entry}\n")


@pytest.mark.usefixtures("forgotten")
def test_installed_packages_bring_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skoots.config import load_config
    from skoots.models.predictors.base import PREDICTORS

    PREDICTORS.names()
    monkeypatch.setattr(PREDICTORS, "_parts", dict(PREDICTORS._parts))
    code = (
        "from skoots.models.predictors.base import PREDICTORS, Predictor\n"
        "@PREDICTORS.register('installed')\nclass Installed(Predictor):\n"
        "    def __call__(self, outputs):\n        return outputs\n"
    )
    install(tmp_path, "dummy_skoots_parts", code, "dummy = dummy_skoots_parts")
    head = {"type": "SemanticHead", "predictor": "installed"}
    monkeypatch.syspath_prepend(tmp_path)
    assert "installed" not in PREDICTORS
    config = load_config({"model": {"heads": {"semantic": head}}})
    assert config.plugins == []  # whoever loads it again has the package
    assert "installed" in PREDICTORS and "dummy" in load_installed_plugins()


@pytest.mark.usefixtures("forgotten")
def test_a_broken_installed_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "broken_skoots_parts", "import no_such_module_y\n", "dummy = broken_skoots_parts")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        PluginError, match=r"Installed plugin 'dummy' \(broken_skoots_parts\) cannot be imported"
    ):
        load_installed_plugins()
