"""Errors carry every fault, and their sentences read well."""

from __future__ import annotations

from skoots.errors import ConfigError, Fault, PluginError, SkootsError, SnapshotError, VolumeError


def test_one_family():
    assert all(
        issubclass(kind, SkootsError) for kind in (ConfigError, VolumeError, SnapshotError, PluginError)
    )
    assert not issubclass(SkootsError, (ValueError, OSError))  # a bug is never taken for one of these


def test_a_fault_says_where_what_and_what_to_do():
    assert str(Fault("a.b", "is wrong")) == "a.b: is wrong."
    assert str(Fault("a.b", "is wrong", "Say c.")) == "a.b: is wrong. Say c."
    assert str(Fault("", "nothing there")) == "nothing there."


def test_one_fault_is_one_sentence():
    assert str(ConfigError("no such file.")) == "no such file."
    error = ConfigError([Fault("a", "is wrong")], source="x.yaml")
    assert str(error) == "The config in x.yaml has a fault: a: is wrong."


def test_all_faults_are_listed():
    error = ConfigError([Fault("a", "is wrong"), Fault("b", "too", "Mend it.")], source="x.yaml")
    assert str(error).splitlines() == [
        "The config in x.yaml has 2 faults:",
        "  - a: is wrong.",
        "  - b: too. Mend it.",
    ]
    assert [fault.path for fault in error.faults] == ["a", "b"]
