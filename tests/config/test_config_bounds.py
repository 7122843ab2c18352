"""Configs that are hostile, odd or in another encoding: a sentence, or what they mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from skoots.config import load_config
from skoots.config.load import read_text
from skoots.config.original_settings import parse_settings
from skoots.config.plain import MAX_BYTES, MAX_DEPTH, MAX_VALUES
from skoots.errors import ConfigError

TEN = ",".join(["x"] * 10)
ALIASES = [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)]
MERGES = [f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 9)]
CHAIN = [f"     - &b{i} {{<<: *b{i - 1}}}\n" for i in range(1, 2000)]
HOSTILE = {
    f"a0: &a0 [{TEN}]\n" + "".join(ALIASES): "more than 20,000 values, with aliases written out",
    "a0: &a0 {k: 1, l: 2}\n" + "".join(MERGES): "more than 20,000 values",
    "x:\n - - - &b0 {k: 1}\n" + "".join(CHAIN) + "top: {<<: *b1999}": "is nested deeper than 64 levels",
    "data: " + "[" * 3000 + "]" * 3000: "line 1, column 70: is nested deeper than 64 levels",
    "data: " + "{a: " * 2000 + "1" + "}" * 2000: "is nested deeper than",
    "".join(" " * i + "a:\n" for i in range(1200)) + " " * 1201 + "a: 1": "is nested deeper than",
    "".join(f"k{i}: 1\n" for i in range(20_000)): "more than 20,000 values",
    "[" + "a, " * 30_000 + "]": "more than 20,000 values",
    "".join(f"- &a{i} x\n" for i in range(30_000)): "more than 20,000 values",
    "- &a x\n- &a y": "line 2, column 3: found duplicate anchor 'a'",
    "a: &a [*a]": "an alias stands inside what it repeats",
    "a: &a {<<: [*a]}": "an alias stands inside what it repeats",
    "? &a [*a]\n: 1": "an alias stands inside what it repeats",
    "train_settings: {epochs: " + "1" * 5000 + "}": "111...' is too long for a number",
    "train_settings: {epochs: 0x" + "f" * 5000 + "}": "is an integer of more than 64 bits",
    "train_settings: {seed: 18446744073709551616}": "616' is an integer of more than 64 bits",
    "train_settings: {epochs: !!int abc}": "'abc' is tagged !!int, which it is not",
    "train_settings: {epochs: !!int ''}": "'' is tagged !!int, which it is not",
    "train_settings: {epochs: !!int 1.5}": "'1.5' is tagged !!int, which it is not",
    "train_settings: {epochs: !!float abc}": "'abc' is tagged !!float, which it is not",
    "train_settings: {epochs: !!bool abc}": "'abc' is tagged !!bool, which it is not",
    "device: !!null abc": "'abc' is tagged !!null, which it is not",
    "device: !!seq abc": "expected a sequence node, but found scalar",
    "device: !!map abc": "expected a mapping node, but found scalar",
    "device: !!timestamp 2020-99-99": "a config knows no tag !!timestamp",
    "device: !!binary YWJj": "a config knows no tag !!binary",
    "device: !!set {a}": "a config knows no tag !!set",
    "device: !!omap [a: 1]": "a config knows no tag !!omap",
    "device: !!python/object/apply:os.system [true]": "a config knows no tag !!python/object/apply:os.system",
    "device: !mine 5": "a config knows no tag !mine",
    "!" * 100_000: "a config knows no tag !!!!",
    '"\\U99999999": 1': "a number in it is too large",
    "%YAML " + "1" * 6000 + ".1\n---\na: 1": "a number in it is too large",
    'metadata: {a: "x\\0y"}': "metadata.a: holds a character that no file name or text can hold",
    'metadata: {a: "\\ud800"}': "metadata.a: holds a character that",
    "metadata: {.nan: 1}": "metadata: has a key that is nan",
    "device: cpu\n---\ndevice: cpu": "line 2, column 1: but found another document",
    "device: cpu\ndevice: cpu": "device: is given twice (lines 1 and 2)",
    "? [a, b]\n: 1": "found unhashable key",
    "data: {<<: 5}": "expected a mapping or list of mappings for merging",
    "k" * 100_000 + ": 1": "line 1, column 100001: mapping values are not allowed",
    "? " + "k" * 100_000 + "\n: 1": "kkk...: unknown key",
    "device: " + "v" * 100_000: 'device: is "vvv',
    "runner: {optimizer: {type: AdamW, params: {lr: .nan}}}": "runner.optimizer.params.lr: is nan",
    "runner: {optimizer: {type: AdamW, params: {lr: 1e999}}}": "runner.optimizer.params.lr: is infinite",
    "train_settings: {epochs: 2020-01-01}": 'epochs: is "2020-01-01", must be an integer',
    "train_settings: {epochs: 1:30}": 'epochs: is "1:30", must be an integer',
    "data: {resample: yes}": "data.resample",
    "device: <<": 'device: is "<<"',
    "a:\n\tb: 1": "line 2, column 1: found character '\\t' that cannot start any token. Indent with spaces",
    "plugins: [" + "".join(f"no.such{i}, " for i in range(5000)) + "]": "perhaps more: the check ends here",
    "model: {heads: {" + "".join(f"h{i}: L{i}, " for i in range(5000)) + "}}": "perhaps more",
    "logger: [" + "".join(f"L{i}, " for i in range(5000)) + "]": "perhaps more: the check ends here",
    "model: {backbone: {type: UNet, " + "".join(f"k{i}: 1, " for i in range(5000)) + "}}": "perhaps more",
    "".join(f"k{i}: 1\n" for i in range(5000)): "has 51 faults",
}


def sentence(text: str | bytes, tmp_path: Path) -> str:
    path = tmp_path / "my.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.source == str(path) or str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:40])
def test_what_is_no_config_is_said_in_few_words(text: str, tmp_path: Path) -> None:
    found = sentence(text, tmp_path)
    assert HOSTILE[text] in found
    assert len(found) < 20_000


@pytest.mark.parametrize("text", [text for text in HOSTILE if len(text) > 1000], ids=lambda text: text[:40])
def test_the_bounds_hold_for_a_config_of_the_original(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, "old.yaml")
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("tag", ["!!int abc", "!!bool abc", "!!float abc", "!!timestamp abc", "1" * 5000])
def test_tags_must_fit_in_a_config_of_the_original(tag: str) -> None:
    with pytest.raises(ConfigError):
        parse_settings(f"TRAIN: {{NUM_EPOCHS: {tag}}}", "old.yaml")


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_unicode_is_read_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes("device: cpu\nmetadata: {名: é}\n".encode(encoding))
    config = load_config(path)
    assert (config.device, config.metadata) == ("cpu", {"名": "é"})


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    for content in (
        bytes(range(256)) * 8,
        "é: 1".encode("latin-1"),
        "device: cpu".encode("utf-16")[:-1],
        b"a\0",
    ):
        assert "text. Is it a YAML file?" in sentence(content, tmp_path) or content == b"a\0"


def test_tabs_are_spaces_but_where_they_indent(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    text = "data:\n  crop_size:\n  -\t8\n  - 16\t# wide\n\t\ndevice:\tcpu\t\n\t# end\n"
    path.write_text(text + "metadata: {a: [1,\t2],\tb:\tx}")
    config = load_config(path)
    assert (config.data.crop_size, config.device) == ([8, 16], "cpu")
    assert config.metadata == {"a": [1, 2], "b": "x"}


def test_sound_aliases_and_merges_are_what_they_stand_for(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("metadata:\n  a: &a {x: 1, y: [&b 2, *b]}\n  c: {<<: *a, x: 3}\n  d: [*a, *a]\n")
    a = {"x": 1, "y": [2, 2]}
    assert load_config(path).metadata == {"a": a, "c": {"x": 3, "y": [2, 2]}, "d": [a, a]}


def test_a_large_config_is_no_hostile_one(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("metadata: {n: [" + "1, " * (MAX_VALUES - 10) + "]}")
    assert len(load_config(path).metadata["n"]) == MAX_VALUES - 10


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    places = {
        tmp_path / "pipe": "is a device or a pipe. Give a YAML file.",
        Path("/dev/zero"): "is a device or a pipe. Give a YAML file.",
        tmp_path: "is a folder. Give a YAML file.",
        Path("a" * 5000): "cannot be read: File name too long",
        tmp_path / "a\0b": "cannot be read: embedded null byte",
        tmp_path / "no.yaml": "does not exist. Check the path.",
    }
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)
    places[tmp_path / "huge"] = f"is larger than {MAX_BYTES >> 10} KiB. Is it a YAML file?"
    for path, problem in places.items():
        for read in (load_config, read_text):
            with pytest.raises(ConfigError) as caught:
                read(path)
            assert problem in str(caught.value)


def nested(depth: int) -> Any:
    tree: Any = 1
    for _ in range(depth):
        tree = [tree]
    return tree


ITSELF: list[Any] = []
ITSELF.append(ITSELF)
BOMB: Any = [1]
for _ in range(9):
    BOMB = [BOMB] * 10
MAPPINGS = {
    "a list in itself": ({"metadata": {"a": ITSELF}}, "metadata: is nested deeper than 64 levels"),
    "a bomb": ({"metadata": {"a": BOMB}}, "metadata: holds more than 20,000 values"),
    "a tower": ({"metadata": {"a": nested(MAX_DEPTH)}}, "metadata: is nested deeper than 64 levels"),
    "an integer": ({"train_settings": {"seed": 10**6000}}, "seed: is an integer of more than 64 bits"),
    "an integer as a key": ({"metadata": {10**6000: 1}}, "metadata: has a key that is an integer of"),
    "NUL": ({"data": {"train": "a\0b"}}, "data.train: holds a character that no file name"),
    "infinity": ({"inference": {"decoding": {"reach": float("inf")}}}, "decoding.reach: is infinite"),
}


@pytest.mark.parametrize("kind", MAPPINGS)
def test_the_bounds_hold_for_mappings(kind: str) -> None:
    mapping, problem = MAPPINGS[kind]
    with pytest.raises(ConfigError) as caught:
        load_config(mapping)
    assert problem in str(caught.value)


OVERRIDES = {
    "train_settings.seed=!!int abc": "'abc' is tagged !!int, which it is not",
    "train_settings.seed=" + "1" * 5000: "is too long for a number",
    "train_settings.seed=" + "[" * 3000 + "]" * 3000: "is nested deeper than 64 levels",
    "train_settings.seed=18446744073709551616": "is an integer of more than 64 bits",
    "train_settings.seed=\udcff": "is not allowed in YAML",
    "device=!!timestamp 2020-01-01": "a config knows no tag !!timestamp",
    "runner.optimizer.params.lr=.nan": "runner.optimizer.params.lr: is nan",
    "runner.optimizer.params.lr=1e999": "runner.optimizer.params.lr: is infinite",
    "device=" + "x" * 100_000: 'device: is "xxx',
    "x" * 100_000: "names no key and value",
    "x" * 100_000 + "=1": "unknown key",
    "a." * 5000 + "a=1": "unknown key",
}


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda override: override[:40])
def test_the_bounds_hold_for_overrides(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({}, [override])
    assert OVERRIDES[override] in str(caught.value)
    assert len(str(caught.value)) < 2000
