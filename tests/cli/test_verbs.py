"""Every verb: what it asks of the api, what it prints, and how it fails; the api is a stand-in."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from configparser import ConfigParser
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skoots import api
from skoots.api import (
    Demo,
    Evaluation,
    Preview,
    Segmentation,
    SkeletonizedVolume,
    SkeletonReport,
    TrainingOutcome,
    Tuning,
)
from skoots.api.planning.decision import Decision
from skoots.cli.list import call, first_sentence
from skoots.cli.main import main
from skoots.cli.skoots_train import main as skoots_train
from skoots.config import load_config
from skoots.config.load import ORIGINAL_SECTIONS
from skoots.config.original_settings import OriginalSettings
from skoots.errors import SkootsError

SCORES = {"F1": 0.91, "F1@0.75": 0.7, "AP50": 0.83, "VOI_split": 0.1, "VOI_merge": 0.2, "ARAND": 0.05}
BASELINE = {**SCORES, "F1": 0.31}
RUN = Path("runs/mito/RUN_1")
OUTCOME = TrainingOutcome(
    run_folder=RUN,
    best_snapshot=RUN / "snapshot-best-004.pt",
    latest_snapshot=RUN / "snapshot-latest.pt",
    epochs=5,
    best_epoch=4,
    metrics={"test.F1": 0.5, "test.AP50": 0.4, "train.loss": 1.0},
    test_scores=SCORES,
    baseline_scores=BASELINE,
    figure=RUN / "figures/test.png",
    test_volume="cell9",
    seconds=200.0,
)

Asked = dict[str, Any]
StandIn = Callable[[str, Any], Asked]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Puts an answer, a function or an exception in the place of a verb; what it was asked comes back."""

    def put(verb: str, answer: Any) -> Asked:
        asked: Asked = {}

        def verb_of_api(*positional: Any, **named: Any) -> Any:
            asked.update(named, positional=positional)
            if isinstance(answer, BaseException):
                raise answer
            return answer() if callable(answer) else answer

        monkeypatch.setattr(api, verb, verb_of_api)
        return asked

    return put


def changed(outcome: TrainingOutcome, **values: Any) -> TrainingOutcome:
    return TrainingOutcome(**{**vars(outcome), **values})


# How commands fail ------------------------------------------------------------------------------------------


def test_a_mendable_failure_is_one_sentence_and_status_2(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("check", SkootsError("a.yaml: no such thing."))
    assert main(["check", "a.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "skoots: a.yaml: no such thing.\n"
    assert captured.out == ""


@pytest.mark.parametrize("words", [["--debug", "check", "a.yaml"], ["check", "a.yaml", "--debug"]])
def test_debug_shows_the_traceback(
    words: list[str], stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("check", SkootsError("no such thing."))
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback") and error.endswith("SkootsError: no such thing.\n")


def test_a_bug_keeps_its_traceback(stand_in: StandIn) -> None:
    stand_in("check", ZeroDivisionError("oops"))
    with pytest.raises(ZeroDivisionError, match="oops"):
        main(["check", "a.yaml"])


def test_ctrl_c_is_one_line_and_status_130(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in("evaluate", KeyboardInterrupt())
    assert main(["evaluate", "a", "b"]) == 130
    assert capsys.readouterr().err == "skoots: stopped by Ctrl-C.\n"


def test_usage_errors_are_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "a.tif"]) == 2
    assert "--snapshot" in capsys.readouterr().err
    assert main(["trian"]) == 2


def test_quiet_shows_warnings_and_results_only(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    def answer() -> TrainingOutcome:
        logging.getLogger("skoots").info("epoch 1")
        logging.getLogger("skoots").warning("odd")
        return OUTCOME

    stand_in("train", answer)
    assert main(["train", "a.yaml"]) == 0
    assert capsys.readouterr().err == "epoch 1\nwarning: odd\n"
    assert main(["train", "a.yaml", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "warning: odd\n"
    assert "Run folder" in captured.out


def test_a_broken_pipe_is_quiet() -> None:
    code = "import sys; from skoots.cli.main import main; sys.exit(main(['train', '--help']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # as `head` does, before anything was written
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


# train ------------------------------------------------------------------------------------------------------


def test_train_asks_and_reports(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    asked = stand_in("train", OUTCOME)
    words = ["train", "mito.yaml", "a.b=1", "c=x", "--plugin", "./p.py", "--plugin", "q", "--device", "cpu"]
    assert main(words) == 0
    assert asked.pop("positional") == (Path("mito.yaml"), ["a.b=1", "c=x"])
    assert asked == {
        "plugins": ["./p.py", "q"], "runs": Path("runs"), "device": "cpu", "progress": False, "resume": None
    }  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Trained 5 epochs in 3 min 20 s; the best was epoch 4."
    assert "On the validation data, which chose the snapshot (cell9):" in lines
    assert ["skoots", "0.910", "0.700", "0.830", "0.100", "0.200", "0.050"] in [
        line.split() for line in lines
    ]
    assert ["connected", "components", "0.310"] in [line.split()[:3] for line in lines]
    assert "Best snapshot  runs/mito/RUN_1/snapshot-best-004.pt" in lines
    assert "Picture        runs/mito/RUN_1/figures/test.png" in lines
    assert lines[-1] == "Next: skoots segment VOLUME --snapshot runs/mito/RUN_1 --plugin ./p.py --plugin q"


def test_train_says_which_decoder_it_chose_and_which_data_chose_nothing(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = Tuning(
        snapshot=RUN / "snapshot-best-004.pt",
        own="SkeletonDecoder",
        own_score=0.7123,
        best="PersistenceDecoder(neck=0.4)",
        best_score=0.8311,
        decoding={"type": "PersistenceDecoder", "neck": 0.4},
        volumes=("cell8", "cell9"),
        windows=2,
        objects=41,
        trials=74,
        complete=True,
        seconds=12.3,
    )
    stand_in("train", changed(OUTCOME, tuning=tuning))
    assert main(["train", "mito.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "Decoder: PersistenceDecoder(neck=0.4) reaches PQ 0.831 on 2 validation volumes with 41 objects; "
        "the SkeletonDecoder of the config 0.712 (74 trials, 12 s)." in lines
    )
    assert "On the validation data, which chose the snapshot and its decoder (cell9):" in lines
    stays = dataclasses.replace(tuning, decoding=None, best_score=0.715, windows=4, complete=False)
    stand_in("train", changed(OUTCOME, tuning=stays, held_out=True))
    assert main(["train", "mito.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "Decoder: SkeletonDecoder of the config stays: PQ 0.712 on 4 windows of 2 validation volumes with 41 "
        "objects; the best, PersistenceDecoder(neck=0.4), reaches 0.715, a gain below 0.01 (74 trials, 12 s; "
        "the time was up)." in lines
    )
    assert "On held-out data (cell9):" in lines


def test_train_without_held_out_data_shows_the_validation(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("train", changed(OUTCOME, test_scores=None, baseline_scores=None, figure=None))
    assert main(["train", "mito.yaml"]) == 0
    text = capsys.readouterr().out
    assert "On the validation data, in the last epoch:" in text
    assert "Picture" not in text and "connected components" not in text
    assert ["skoots", "0.500", "-", "0.400", "-", "-", "-"] in [line.split() for line in text.splitlines()]


def test_train_without_any_scores(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {
        "test_scores": {},
        "baseline_scores": {},
        "metrics": {"train.loss": 1.0},
        "best_epoch": None,
        "epochs": 1,
    }
    stand_in("train", changed(OUTCOME, **nothing))
    assert main(["train", "mito.yaml"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Trained 1 epoch in 3 min 20 s.\n\nRun folder")


@pytest.mark.parametrize(
    ("words", "overrides", "resume"),
    [
        (["mito.yaml", "--resume"], (), "latest"),
        (["mito.yaml", "--resume", "--quiet"], (), "latest"),
        (["mito.yaml", "--resume", "a.b=1", "c=2"], ["a.b=1", "c=2"], "latest"),
        (["--resume", "mito.yaml", "a.b=1"], ["a.b=1"], "latest"),
        (["mito.yaml", "--resume", "RUN_1"], (), "RUN_1"),
        (["--resume=runs/mito:best", "mito.yaml"], (), "runs/mito:best"),
    ],
)
def test_resume_may_stand_without_a_value(
    words: list[str], overrides: Sequence[str], resume: str, stand_in: StandIn
) -> None:
    asked = stand_in("train", OUTCOME)
    assert main(["train", *words]) == 0
    assert asked["positional"] == (Path("mito.yaml"), overrides) and asked["resume"] == resume


@pytest.mark.parametrize("command", [main, skoots_train])
def test_the_flags_of_the_original_s_command(
    command: Callable[[list[str]], int],
    stand_in: StandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked, verb = stand_in("train", OUTCOME), ["train"] if command is main else []
    for words in (["--config-file", "mito.yaml", "a.b=1"], ["--config-file=mito.yaml", "a.b=1"]):
        assert command([*verb, *words]) == 0
        assert asked["positional"] == (Path("mito.yaml"), ["a.b=1"])
    folder = stand_in("train_all", [])
    assert command([*verb, "--config-file", str(tmp_path), "--batch"]) == 0
    assert folder["positional"][0] == tmp_path
    capsys.readouterr()
    assert command([*verb, "--config-file", "mito.yaml", "--batch"]) == 2
    assert capsys.readouterr().err == "skoots: --batch goes with a folder of configs, and none is named.\n"


def test_both_commands_are_installed() -> None:
    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    names = dict(re.split(r"\s*=\s*", line) for line in lines if line)
    for name, function in (("skoots", main), ("skoots-train", skoots_train)):
        assert EntryPoint(name, names[name], "console_scripts").load() is function


def test_a_config_of_the_original_is_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("TRAIN: {NUM_EPOCHS: 3}\nMODEL: {}\n")
    assert skoots_train(["--config-file", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"skoots: {path} is a config of the original SKOOTS. Translate it: skoots import-config {path} "
        "-o new.yaml.\n"
    )
    assert set(OriginalSettings.model_fields) == ORIGINAL_SECTIONS


@pytest.mark.parametrize(("number", "name"), [(2, "Ctrl-C"), (15, "SIGTERM")])
def test_a_training_that_a_signal_ended_says_how_to_go_on(
    number: int, name: str, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("train", changed(OUTCOME, stopped_by=number, epochs=3))
    words = ["train", "mito.yaml", "a=[1, 2]", "--runs", "elsewhere", "--plugin", "p", "--device", "cpu"]
    assert main(words) == 128 + number
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"skoots: stopped by {name} after 3 epochs; latest snapshot runs/mito/RUN_1/snapshot-latest.pt; "
        "go on with: skoots resume runs/mito/RUN_1 --plugin p --device cpu\n"
    )


def test_snapshots_that_could_not_be_written_show_in_the_exit_status(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("train", changed(OUTCOME, failed_saves=2))
    assert main(["train", "mito.yaml"]) == 3
    captured = capsys.readouterr()
    assert captured.out.startswith("Trained 5 epochs")
    assert captured.err == ("skoots: 2 snapshots could not be written; runs/mito/RUN_1/train.log says why.\n")


def test_sigterm_ends_any_verb_with_its_status(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    def terminated() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    stand_in("segment", terminated)
    assert main(["segment", "v.tif", "-s", "x.pt"]) == 143
    assert capsys.readouterr().err == "skoots: stopped by SIGTERM.\n"


TRAINING = ["train", "mito.yaml"]
SEGMENTING = ["segment", "v.tif", "-s", "x.pt"]


@pytest.mark.parametrize(
    ("words", "error", "sentence"),
    [
        (TRAINING, MemoryError(), "Memory ran out. Take a smaller data.crop_size or"),
        (["resume", "r"], RuntimeError("CUDA out of memory."), "Take a smaller data.crop_size"),
        (SEGMENTING, RuntimeError("DefaultCPUAllocator: not enough memory"), "Take smaller tiles (--tile)"),
        (["skeletonize", "d"], MemoryError(), "Memory ran out. Take fewer --threads."),
        (["publish", "r", "-o", "p"], MemoryError(), "Memory ran out. Close other programs"),
        (SEGMENTING, OSError(errno.EMFILE, "Too many open files"), "Too many open files. Raise the limit"),
        (TRAINING, PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: Permission denied."),
        (["demo"], OSError(errno.ENOSPC, "No space left on device"), "No space left on device. Make room"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    words: list[str],
    error: Exception,
    sentence: str,
    stand_in: StandIn,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stand_in(words[0], error)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("skoots: ") and sentence in told and told.count("\n") == 1
    assert main([*words, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--snapshot", "runs/a", "t.tif", "p.tif"], "not both"),
        (["--snapshot", "runs/a", "--min-size", "5"], "--min-size and --ignore-label belong to LABELS"),
        (["t.tif", "p.tif", "--weights", "raw"], "--weights, --device and --plugin belong to --snapshot"),
        (["t.tif", "p.tif", "--data", "d"], "belong to --snapshot"),
        (["t.tif"], "Give LABELS and PREDICTION, or a model: --snapshot runs/mito."),
    ],
)
def test_options_of_evaluate_that_do_not_go_together(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *words]) == 2
    assert sentence in capsys.readouterr().err


# resume -----------------------------------------------------------------------------------------------------


def test_resume_asks_and_reports(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    asked = stand_in("resume", OUTCOME)
    assert main(["resume", "runs/mito:RUN_1", "train_settings.epochs=9", "--plugin", "p"]) == 0
    assert asked == {
        "positional": ("runs/mito:RUN_1", ["train_settings.epochs=9"]),
        "plugins": ["p"],
        "device": None,
        "progress": False,
    }
    assert "Best snapshot" in capsys.readouterr().out


# segment ----------------------------------------------------------------------------------------------------


def test_segment_asks_and_reports(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    maps = {"vector": Path("o.vector.tif")}
    asked = stand_in("segment", Segmentation(Path("o.tif"), 1, (16, 32, 32), maps, 2.0))
    words = ["segment", "v.tif", "--snapshot", "runs/mito:best", "-o", "o.tif", "--maps", "--overwrite"]
    words += [
        "--voxel-size",
        "0.5,.1,1e-1",
        "--tile",
        "8,16,16",
        "--set",
        "min_size=50",
        "--set",
        "type=LandingDecoder",
        "--set",
        "votes=2.5",
        "--normalize-by",
        "training",
    ]
    assert main(words) == 0
    assert asked == {
        "positional": (Path("v.tif"), "runs/mito:best", Path("o.tif")),
        "maps": True,
        "overwrite": True,
        "device": None,
        "voxel_size": (0.5, 0.1, 0.1),
        "tile": (8, 16, 16),
        "decoding": {"min_size": 50, "type": "LandingDecoder", "votes": 2.5},
        "normalize_by": "training",
        "weights": "auto",
        "plugins": (),
        "progress": False,
    }
    text = capsys.readouterr().out
    assert text == (
        "1 object in 16 x 32 x 32 voxels, found in 2.0 s.\n\n"
        "Labels      o.tif\nMap vector  o.vector.tif\n\nNext: skoots evaluate LABELS o.tif\n"
    )


def test_segment_leaves_to_the_api_what_was_not_said(stand_in: StandIn) -> None:
    asked = stand_in("segment", Segmentation(Path("o.tif"), 0, (4, 4)))
    assert main(["segment", "v.tif", "-s", "x.pt"]) == 0
    assert asked["positional"] == (Path("v.tif"), "x.pt", None)
    assert asked["decoding"] is asked["voxel_size"] is asked["tile"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--tile", "8,x"],
            "--tile '8,x' is not understood. Write positive whole numbers in the order z,y,x",
        ),
        (["--tile", "8,0,8"], "--tile '8,0,8' is not understood."),
        (["--voxel-size", "1,nan,1"], "--voxel-size '1,nan,1' is not understood. Write positive numbers"),
        (["--voxel-size", ""], "--voxel-size '' is not understood."),
        (["--set", "min_size"], "--set 'min_size' names no key and value. Write --set key=value."),
    ],
)
def test_segment_names_words_that_it_does_not_understand(
    words: list[str], sentence: str, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in("segment", AssertionError("must not be reached"))
    assert main(["segment", "v.tif", "-s", "x.pt", *words]) == 2
    assert capsys.readouterr().err.startswith(f"skoots: {sentence}")


# evaluate ---------------------------------------------------------------------------------------------------

EVALUATION = Evaluation(
    {"F1": 0.5, "VOI_split": float("nan"), "n_truth": 12.0, "n_prediction": 1.0}, "truth.tif", "found.tif"
)


def test_evaluate_prints_a_table(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    asked = stand_in("evaluate", EVALUATION)
    assert main(["evaluate", "truth.tif", "found.tif", "--min-size", "5", "--ignore-label", "255"]) == 0
    assert asked == {
        "positional": (Path("truth.tif"), Path("found.tif")),
        "min_size": 5,
        "ignore_label": 255,
    }
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Truth       truth.tif  12 objects", "Prediction  found.tif    1 object"]
    assert lines[3] == "F1         0.500  objects matched one to one at IoU 0.5"
    assert lines[4].split()[:2] == ["VOI_split", "-"]
    assert "the true background is not counted" in lines[-1]


def test_evaluate_says_that_folders_are_pooled(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = (("a/x.labels.tif", "b/x.segmentation.tif"), ("a/y.labels.tif", "b/y.tif"))
    left_out = ("z.tif: it looks like a grey image",)
    stand_in("evaluate", Evaluation(EVALUATION.scores, "a", "b", 2, pairs, left_out))
    assert main(["evaluate", "a", "b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:6] == [
        "Pooled over 2 volumes",
        "a/x.labels.tif with b/x.segmentation.tif",
        "a/y.labels.tif with b/y.tif",
        "Left out: z.tif: it looks like a grey image",
    ]
    assert main(["evaluate", "a", "b", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["pairs"] == [list(pair) for pair in pairs] and value["left_out"] == list(left_out)


def test_evaluate_prints_one_json_object(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in("evaluate", EVALUATION)
    assert main(["evaluate", "truth.tif", "found.tif", "--json"]) == 0
    value = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert value["truth"] == "truth.tif" and value["prediction"] == "found.tif"
    assert value["scores"] == {"F1": 0.5, "VOI_split": None, "n_truth": 12.0, "n_prediction": 1.0}


def test_every_metric_is_explained() -> None:
    from skoots.cli.evaluate import MEANINGS
    from skoots.metrics import METRIC_NAMES

    assert set(MEANINGS) == set(METRIC_NAMES)


# plan -------------------------------------------------------------------------------------------------------


class StandInPlan:
    """What the command needs of a plan."""

    facts = ("2 volumes.",)
    warnings = ("No voxel size.",)
    decisions = (
        Decision("data.crop_size", [16, 32, 32], "Takes 1 GB."),
        Decision("data.train", [{"path": "a" * 90}], "Two of three."),
        Decision("train_settings.seed", 42),
    )

    def write(self, path: Path, overwrite: bool) -> None:
        path.write_text(f"overwrite {overwrite}")


def test_plan_writes_and_says_why(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = stand_in("plan", StandInPlan())
    words = ["--validation", "v", "--test", "t", "--memory", "8", "--epochs", "3", "--voxel-size", "2,1,1"]
    assert main(["plan", "d", "-o", "mine.yaml", *words]) == 0
    assert asked == {
        "positional": (Path("d"),),
        "validation": Path("v"),
        "test": Path("t"),
        "memory": 8.0,
        "epochs": 3,
        "voxel_size": (2.0, 1.0, 1.0),
        "ignore_label": None,
        "device": None,
    }
    assert Path("mine.yaml").read_text() == "overwrite False"
    assert capsys.readouterr().out.splitlines() == [
        "2 volumes.",
        "",
        "data.crop_size: [16, 32, 32]. Takes 1 GB.",
        "data.train: Two of three.",
        "",
        "Note: No voxel size.",
        "",
        "Written: mine.yaml",
        "",
        "Next: skoots check mine.yaml",
        "Then: skoots train mine.yaml",
    ]
    assert main(["plan", "d", "--quiet"]) == 0
    assert "Takes 1 GB" not in capsys.readouterr().out and Path("plan.yaml").is_file()


def test_plan_refuses_before_it_measures(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("mine")
    asked = stand_in("plan", StandInPlan())
    assert main(["plan", "d", "-o", str(path)]) == 2
    assert "exists" in capsys.readouterr().err and asked == {} and path.read_text() == "mine"
    assert main(["plan", "d", "-o", str(path), "--overwrite"]) == 0
    assert path.read_text() == "overwrite True"
    for wrong in (["--memory", "-1"], ["--epochs", "0"], ["--memory", "much"]):
        assert main(["plan", "d", "-o", str(tmp_path / "b.yaml"), *wrong]) == 2


# skeletonize, check, list, demo -----------------------------------------------------------------------------


def test_skeletonize_reports_volumes_and_touching_skeletons(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    volumes = [
        SkeletonizedVolume("a", Path("d/a.skeletons.trch"), 7, True, 0, 1.5),
        SkeletonizedVolume("bb", Path("d/bb.skeletons.trch"), 120, False, 2, 0.1),
    ]
    asked = stand_in("skeletonize", SkeletonReport(volumes))
    words = ["--voxel-size", "2,1,1", "--algorithm", "kimimaro", "--overwrite", "--threads", "3"]
    assert main(["skeletonize", "d", *words]) == 0
    assert asked == {
        "positional": (Path("d"),),
        "ignore_label": None,
        "voxel_size": (2.0, 1.0, 1.0),
        "algorithm": "kimimaro",
        "overwrite": True,
        "threads": 3,
        "progress": False,
    }
    assert capsys.readouterr().out.splitlines() == [
        "volume  objects   time  skeletons",
        "a             7  1.5 s  d/a.skeletons.trch",
        "bb          120      -  d/bb.skeletons.trch",
        "",
        "1 volume traced, 1 up to date already.",
        "",
        "The skeletons of 2 pairs of objects touch (2 in bb); decoding would merge them.",
    ]


def test_skeletonize_knows_two_algorithms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skeletonize", "d", "--algorithm", "magic"]) == 2
    error = capsys.readouterr().err
    assert "thinning" in error and "kimimaro" in error


def test_check_reports_or_prints_the_config(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config({"data": {"train": ["somewhere"]}})
    asked = stand_in("check", SimpleNamespace(config=config, lines=["All is well."]))
    assert main(["check", "c.yaml", "train_settings.epochs=3"]) == 0
    assert asked == {
        "positional": (Path("c.yaml"), ["train_settings.epochs=3"]),
        "plugins": (),
        "device": None,
    }
    assert capsys.readouterr().out == (
        "All is well.\n\nNo fault found. Next: skoots train c.yaml train_settings.epochs=3\n"
    )
    assert main(["check", "c.yaml", "--print-config"]) == 0
    from skoots.config.yaml12 import parse

    assert load_config(parse(capsys.readouterr().out)[0]) == config


def test_preview_asks_and_reports(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    asked = stand_in("preview", Preview(Path("a.png"), ["here", "there"], ["image", "labels"]))
    words = ["mito.yaml", "data.augment=none", "--samples", "2", "-o", "a.png", "--epoch", "3", "--seed", "7"]
    assert main(["preview", *words, "--source", "validation", "--plugin", "p"]) == 0
    settings = ["data.augment=none", "train_settings.seed=7"]
    assert asked.pop("positional") == (Path("mito.yaml"), settings)
    assert asked == {
        "plugins": ["p"], "output": Path("a.png"), "samples": 2, "source": "validation", "epoch": 3
    }  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 samples: image, labels."
    assert "Picture  a.png" in lines
    assert lines[-1] == f"Next: skoots train mito.yaml {' '.join(settings)} --plugin p"
    assert main(["preview", "mito.yaml", "--source", "elsewhere"]) == 2


def test_list_names_all_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert {"VectorHead", "SkeletonHead"} <= set(rows["heads"].replace(",", "").split())
    assert set(api.registries()) <= set(rows)


@pytest.mark.parametrize("kind", ["heads", "head", "HEADS"])
def test_list_describes_the_parts_of_a_kind(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    text = capsys.readouterr().out
    assert "SemanticHead(in_channels, spatial_dims=3," in text
    assert "probability of being inside any object." in text
    assert max(map(len, text.splitlines())) <= 120


def test_list_understands_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("target-generators", "target generator"):
        assert main(["list", kind]) == 0
        assert "OffsetTarget" in capsys.readouterr().out


def test_list_offers_near_misses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "hedas"]) == 2
    assert capsys.readouterr().err == "skoots: There are no parts called 'hedas'. Did you mean heads?\n"


def test_list_shows_what_a_plugin_adds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from skoots.models.criteria.base import CRITERIA

    CRITERIA.names()
    monkeypatch.setattr(
        CRITERIA, "_parts", dict(CRITERIA._parts)
    )  # what the plugin adds goes away with the test
    plugin = tmp_path / "my_loss.py"
    plugin.write_text(
        "from skoots.models.criteria.base import CRITERIA, Criterion\n"
        "@CRITERIA.register\n"
        "class MyLoss(Criterion):\n"
        "    '''The mean of it. And more.'''\n"
        "    def __init__(self, power: float = 2.0, *names: str) -> None: ...\n"
    )
    assert main(["list", "criteria", "--plugin", str(plugin)]) == 0
    assert "MyLoss(power=2.0, *names)\n    The mean of it.\n" in capsys.readouterr().out
    assert main(["list", "--plugin", str(tmp_path / "nothing.py")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_signatures_and_sentences() -> None:
    class Part:
        """Does `this`,
        over two lines. And that.

        Args: none.
        """

        def __init__(self, a, b: str = "x", *, c=(1, 2), **rest) -> None: ...  # type: ignore[no-untyped-def]

    class Mute(Part):
        pass

    assert call("Part", Part) == "Part(a, b='x', c=(1, 2), **rest)"
    assert first_sentence(Part) == "Does `this`, over two lines."
    assert first_sentence(Mute) == ""


def test_demo_asks_and_reports(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("d")
    segmentation = Segmentation(folder / "test/a.segmentation.tif", 30, (8, 8, 8), {}, 4.0)
    evaluation = Evaluation(SCORES, "d/test/a.labels.tif", str(segmentation.output))
    asked = stand_in("demo", Demo(folder, OUTCOME, segmentation, evaluation))
    assert main(["demo", "d", "--overwrite"]) == 0
    assert asked == {"positional": (folder,), "overwrite": True, "progress": False}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Trained 5 epochs and found 30 objects in a volume that was held out, in 3 min 24 s."
    assert "True labels       d/test/a.labels.tif" in lines
    assert ["connected", "components", "0.310"] in [line.split()[:3] for line in lines]
    assert lines[-1] == "Next: skoots segment VOLUME --snapshot runs/mito/RUN_1"


VERBS = [
    "plan",
    "train",
    "resume",
    "segment",
    "evaluate",
    "tune",
    "inspect",
    "publish",
    "skeletonize",
    "check",
    "preview",
    "list",
    "import",
    "import-config",
    "demo",
]


def called(words: Sequence[str]) -> str:
    """The function of the api that a command calls."""
    if words[0] == "evaluate" and "--snapshot" in words:
        return "evaluate_snapshot"
    if words[0] == "import":
        return "import_model"
    return "compare" if "--against" in words else words[0].replace("-", "_")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_examples_that_parse(
    verb: str, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """The examples in the help are tried with a stand-in, up to the call of the api."""
    import shlex

    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    examples = [line.strip() for line in text.split("Examples:")[1].splitlines() if line.strip()]
    assert examples and all(example.startswith(f"skoots {verb}") for example in examples)
    if verb == "list":
        return
    for example in examples:
        words = shlex.split(example.split(" > ")[0])[1:]
        stand_in(called(words), SkootsError("reached."))
        assert main(words) == 2
        assert capsys.readouterr().err == "skoots: reached.\n"
