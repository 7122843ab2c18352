"""The profiling switches: files of a range of steps, and a training that does not notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from skoots.errors import ConfigError
from skoots.training.profiling import ProfileObserver

Make = Callable[..., Any]
quiet = pytest.mark.filterwarnings("ignore::UserWarning")  # torch's about its own profiler


@quiet
@pytest.mark.parametrize("switches", [("trace",), ("autograd_profile",), ("trace", "autograd_profile")])
def test_a_range_of_steps_is_profiled_and_training_is_the_same(
    switches: tuple[str, ...], make_runner: Make, same: Make, tmp_path: Path
) -> None:
    plain = make_runner(folder="plain", samples=10, epochs=1)
    plain.fit()
    profile = ProfileObserver(tmp_path / "profile", trace_steps=(2, 3), **dict.fromkeys(switches, True))
    runner = make_runner(folder="profiled", samples=10, epochs=1, observers=[profile])
    runner.fit()
    assert same(plain.state(), runner.state())
    files = {path.name: path.read_text() for path in (tmp_path / "profile").iterdir()}
    named = {"trace": "trace-000002-000003.json", "autograd_profile": "autograd.txt"}
    assert files.keys() == {named[switch] for switch in switches}
    convolutions = _convolutions_of_a_step(make_runner)
    if "trace" in switches:
        events = json.loads(files[named["trace"]])["traceEvents"]
        assert sum(event.get("name") == "aten::convolution_backward" for event in events) == 2 * convolutions
    if "autograd_profile" in switches:
        lines = files["autograd.txt"].splitlines()
        (row,) = [line.split() for line in lines if " aten::convolution_backward " in line]
        assert int(row[-1]) == 2 * convolutions


def _convolutions_of_a_step(make_runner: Make) -> int:
    model = make_runner(folder="count").model
    return sum(isinstance(layer, torch.nn.Conv2d) for layer in model.modules())


@quiet
def test_a_training_that_ends_within_the_range_leaves_its_files(make_runner: Make, tmp_path: Path) -> None:
    profile = ProfileObserver(tmp_path / "profile", trace=True, trace_steps=(2, 99))
    make_runner(epochs=2, observers=[profile]).fit()
    (path,) = (tmp_path / "profile").iterdir()
    assert json.loads(path.read_text())["traceEvents"]


def test_nothing_is_written_outside_the_range(make_runner: Make, tmp_path: Path) -> None:
    profile = ProfileObserver(tmp_path / "profile", trace=True, autograd_profile=True, trace_steps=(50, 60))
    make_runner(epochs=1, observers=[profile]).fit()
    assert not (tmp_path / "profile").exists()


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.filterwarnings("ignore:Error detected in:UserWarning")
def test_anomalies_are_detected_while_training_and_no_longer(make_runner: Make, tmp_path: Path) -> None:
    observer = ProfileObserver(tmp_path, detect_anomaly=True)
    runner = make_runner(observers=[observer])
    criterion = runner.model.heads["semantic"].criterion
    forward = criterion.forward
    # finite itself, and its derivative is 0 * inf
    criterion.forward = lambda *tensors: forward(*tensors) + (tensors[0] * 0).sqrt().sum()
    with pytest.raises(RuntimeError, match="'MulBackward0' returned nan"):
        runner.fit()
    assert not torch.is_anomaly_enabled()
    plain = make_runner(folder="plain")
    plain.model.heads["semantic"].criterion.forward = criterion.forward
    plain.fit()
    assert plain.nonfinite.total == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="it works there")
def test_nvtx_needs_cuda(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runner\.profile\.emit_nvtx: needs CUDA"):
        ProfileObserver(tmp_path, emit_nvtx=True)
