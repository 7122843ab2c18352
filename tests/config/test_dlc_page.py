"""Every YAML block of DeepLabCut's configuration page loads word for word.

The blocks lie in ``dlc_page``, one file for each alternative that the page shows.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from skoots.config import Config, load_config
from skoots.config.yaml12 import parse
from skoots.errors import ConfigError

PAGE = Path(__file__).parent / "dlc_page"
RESUME = (
    "/Users/john/dlc-project-2021-06-22/dlc-models-pytorch/iteration-0/"
    "dlcJun22-trainset95shuffle0/train/snapshot-010.pt"
)
SECTION = {"optimizer": "runner", "scheduler": "runner"}  # what a fragment stands in
ONLY_IN_DEEPLABCUT = {
    "model": {
        "model.heads.bodypart.type", "model.heads.bodypart.predictor.type",
        "model.heads.bodypart.target_generator.type",
    },
    "detector": {"detector.model.type"},
}  # fmt: skip


def block(name: str, tmp_path: Path) -> Path:
    """A config file that holds the block, in the section that it belongs to."""
    text = textwrap.dedent((PAGE / f"{name}.yaml").read_text())
    section = SECTION.get(name.split("_")[0])
    if section:
        text = f"{section}:\n" + textwrap.indent(text, "  ")
    path = tmp_path / "pytorch_config.yaml"
    path.write_text(text)
    return path


def load(name: str, tmp_path: Path) -> Config:
    return load_config(block(name, tmp_path))


@pytest.mark.parametrize("name", sorted(path.stem for path in PAGE.glob("*.yaml")))
def test_blocks_have_no_fault_but_names_that_only_deeplabcut_has(name: str, tmp_path: Path) -> None:
    unknown = ONLY_IN_DEEPLABCUT.get(name, set())
    if not unknown:
        assert isinstance(load_config(block(name, tmp_path)), Config)
        return
    with pytest.raises(ConfigError) as caught:
        load_config(block(name, tmp_path))
    assert {fault.path for fault in caught.value.faults} == unknown
    assert all("is not registered" in fault.problem and fault.remedy for fault in caught.value.faults)


def test_overview(tmp_path: Path) -> None:
    config = load("overview", tmp_path)
    assert config == load_config({"net_type": "resnet_50", "device": "auto", "method": "bu"})
    assert config.logger == [] and config.resume_training_from is None


def test_runner(tmp_path: Path) -> None:
    runner = load("runner", tmp_path).runner
    assert runner.type == "TrainingRunner"  # its second name is the page's PoseTrainingRunner
    assert (runner.key_metric, runner.key_metric_asc, runner.eval_interval) == ("test.mAP", True, 1)
    snapshots = runner.snapshots
    assert (snapshots.max_snapshots, snapshots.save_epochs, snapshots.save_optimizer_state) == (5, 25, False)
    assert runner.gpus == [0, 1]
    assert runner.load_scheduler_state_dict is True  # the page's "true/false" decides nothing
    assert runner.optimizer == {"type": "AdamW", "params": {"lr": 1e-3}} and runner.scheduler is None


def test_optimizers(tmp_path: Path) -> None:
    assert load("optimizer_sgd", tmp_path).runner.optimizer == {
        "type": "SGD", "params": {"lr": 0.001, "momentum": 0.9},
    }  # fmt: skip
    assert load("optimizer_adamw", tmp_path).runner.optimizer == {"type": "AdamW", "params": {"lr": 0.0001}}


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("scheduler_lr_list", {1: 1.0, 160: 1.0, 161: 1e-5, 190: 1e-5, 191: 1e-6}),
        ("scheduler_step", {1: 1.0, 100: 1.0, 101: 0.1, 200: 0.1}),
        ("scheduler_sequential", dict(enumerate([0.01, 0.01, 1, 1, 1, 1, 1, 0.1, 0.1], start=1))),
    ],
)
def test_schedules_do_what_the_page_says(name: str, rates: dict[int, float], tmp_path: Path) -> None:
    import torch

    from skoots.training.schedules import rehearse

    scheduler = load(name, tmp_path).runner.scheduler
    assert scheduler is not None
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    course = rehearse(scheduler, optimizer, max(rates))
    assert {epoch: course[epoch - 1][0] for epoch in rates} == pytest.approx(rates)


def test_train_settings(tmp_path: Path) -> None:
    assert load("train_settings", tmp_path).train_settings.model_dump() == {
        "batch_size": 1, "dataloader_workers": 0, "dataloader_pin_memory": True, "display_iters": 500,
        "epochs": 200, "seed": 42, "deterministic": False,
    }  # fmt: skip


def test_logger(tmp_path: Path) -> None:
    node = {"type": "WandbLogger", "project_name": "my-dlc3-project", "run_name": "dekr-w32-shuffle0"}
    assert load("logger", tmp_path).logger == [node]
    path = tmp_path / "tags.yaml"
    path.write_text((PAGE / "logger.yaml").read_text() + ' tags: ["dekr", "split=0"]\n')
    assert load_config(path).logger == [{**node, "tags": ["dekr", "split=0"]}]  # any argument of wandb.init


def test_resume(tmp_path: Path) -> None:
    assert load("resume", tmp_path).resume_training_from == RESUME


def test_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import Tensor

    from skoots.models.detectors.base import DETECTORS, Detector

    class FasterRCNN(Detector):
        def __init__(self, variant: str, pretrained: bool = False) -> None:
            super().__init__()

        def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
            return []

    DETECTORS.names()
    monkeypatch.setattr(DETECTORS, "_parts", {"FasterRCNN": FasterRCNN})
    detector = load("detector", tmp_path).detector
    assert detector is not None
    assert detector.data["train"]["affine"]["scaling"] == [0.5, 1.25]
    assert detector.model == {
        "type": "FasterRCNN", "variant": "fasterrcnn_mobilenet_v3_large_fpn", "pretrained": True,
    }  # fmt: skip
    assert detector.resume_training_from is None
    resumed = load("detector_resume", tmp_path).detector
    assert resumed is not None
    assert resumed.resume_training_from == RESUME.replace("snapshot-010", "snapshot-detector-020")


def test_model_blocks_with_the_parts_that_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that brings the page's parts is all that these blocks need."""
    from skoots.models.heads.base import HEADS
    from skoots.models.predictors.base import PREDICTORS
    from skoots.models.targets.base import TARGET_GENERATORS

    for registry in (HEADS, PREDICTORS, TARGET_GENERATORS):
        registry.names()
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))  # type: ignore[attr-defined]
    (tmp_path / "pose.py").write_text(POSE_PLUGIN)
    config = load_config(block("model", tmp_path), plugins=[str(tmp_path / "pose.py")])
    assert config.model.backbone == {"type": "HRNet", "model_name": "hrnet_w18"}
    assert config.model.backbone_output_channels == 18
    assert config.model.heads == {
        "bodypart": {
            "type": "HeatmapHead",
            "predictor": {"type": "HeatmapPredictor"},
            "target_generator": {"type": "HeatmapPlateauGenerator"},
        }
    }


@pytest.mark.parametrize(("name", "channels"), [("model", 18), ("hrnet", 128)])
def test_the_networks_of_the_page_have_the_channels_of_the_page(
    name: str, channels: int, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    from skoots.api.build import DataFacts, build_model

    model = parse(block(name, tmp_path).read_text())[0]["model"]
    section = {key: model[key] for key in ("backbone", "backbone_output_channels")}
    config = load_config({"model": {**section, "heads": {"semantic": None}}})
    assert config.model.backbone == model["backbone"]
    built = build_model(config, DataFacts(3, 2, (1.0, 1.0)), pretrained=False)
    assert built.backbone.features[0].channels == config.model.backbone_output_channels == channels


POSE_PLUGIN = """
from skoots.models.heads.base import HEADS, Head
from skoots.models.predictors.base import PREDICTORS, Predictor
from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator

@HEADS.register_module
class HeatmapHead(Head):
    pass

@PREDICTORS.register
class HeatmapPredictor(Predictor):
    def __call__(self, outputs):
        return outputs

@TARGET_GENERATORS.register
class HeatmapPlateauGenerator(TargetGenerator):
    def __call__(self, batch):
        return {}
"""


def test_the_page_shows_alternatives_under_one_key() -> None:
    """Why they lie in separate files: in one config the second would be a duplicate, and that is said."""
    both = "\n".join((PAGE / f"optimizer_{name}.yaml").read_text() for name in ("sgd", "adamw"))
    _, faults = parse("runner:\n" + both)
    assert [(fault.path, fault.problem) for fault in faults] == [
        ("runner.optimizer", "is given twice (lines 4 and 12)")
    ]
