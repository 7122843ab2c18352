from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from torch import nn

from skoots.config import load_config
from skoots.errors import ConfigError


def said(source: dict[str, Any]) -> list[str]:
    """The faults of a config."""
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    return [str(fault) for fault in caught.value.faults]


def runner(**keys: Any) -> dict[str, Any]:
    return {"runner": keys}


def head(**keys: Any) -> dict[str, Any]:
    return {"model": {"heads": {"vector": {"type": "VectorHead", **keys}}}}


def test_arguments_of_a_head() -> None:
    assert said(head(scal=3, kernel="3", weight=True, sigma_decay=[[0.5, 10], [1, "x"]], scale=[1, "a"])) == [
        "model.heads.vector.scal: unknown key of VectorHead. Did you mean scale?",
        'model.heads.vector.kernel: is "3", must be an integer of at least 1.',
        "model.heads.vector.weight: is true, must be a number of at least 0.",
        'model.heads.vector.sigma_decay: is [[0.5, 10], [1, "x"]], '
        "must be a list of lists of 2 numbers greater than 0 or integers of at least 0.",
        'model.heads.vector.scale: is [1, "a"], must be a number greater than 0 or '
        'a list of numbers greater than 0 or "auto".',
    ]
    heads = load_config(head(scale=5, sigma=[1, 2, 3], weight=2, kernel=1)).model.heads
    assert heads["vector"] == {"type": "VectorHead", "scale": 5, "sigma": [1, 2, 3], "weight": 2, "kernel": 1}


def test_keys_without_effect_are_said() -> None:
    data: dict[str, Any] = {
        "train": [{"path": "a", "cache_mb": 64}, {"path": "b", "params": {"cache_mb": 9}}]
    }
    assert said({"data": data}) == [
        f"data.train.{at}: is given, but keeps decoded chunks only with store: disk. "
        "Leave it out, or add store: disk."
        for at in ("0.cache_mb", "1.params.cache_mb")
    ]
    load_config({"data": {"train": [{"path": "a", "cache_mb": 64, "store": "disk"}]}})
    assert said({"data": {"background_augment": ["Flip"]}}) == [
        "data.background_augment: is given, but data.background names no images. Leave it out, or name some."
    ]
    load_config(load_config({"data": {"background": "c", "background_augment": ["Flip"]}}).resolved())


def test_params_mean_the_same_and_paths_follow_the_spelling() -> None:
    assert said(head(params={"scal": 3}))[0].startswith("model.heads.vector.params.scal: unknown key")
    assert said(head(params={"weight": 3}, weight=2)) == [
        "model.heads.vector.params.weight: is given twice, also as model.heads.vector.weight. "
        "Keep one of the two.",
    ]
    assert said(head(params=[1]))[0].startswith("model.heads.vector: has params that are no mapping")


def test_empty_arguments_take_the_default() -> None:
    config = load_config(head(sigma=None, criterion=None, voxel_size=None, params={"kernel": None}))
    assert config.model.heads["vector"] == {"type": "VectorHead", "voxel_size": None, "params": {}}


def test_parts_of_a_head_are_checked_whatever_the_head() -> None:
    parts = {
        "criterion": {"type": "Tverski"},
        "predictor": {"type": "IdentityPredictor", "x": 1},
        "target_generator": 5,
    }
    known = said(head(**parts))
    assert known == [
        "model.heads.vector.target_generator: must be a part, is 5. "
        "Write its name, or {type: Name, ...arguments}.",
        "model.heads.vector.predictor.x: unknown key of IdentityPredictor. "
        "IdentityPredictor takes no arguments.",
        "model.heads.vector.criterion.type: criterion 'Tverski' is not registered. Did you mean Tversky?",
    ]
    unknown = said({"model": {"heads": {"vector": {"type": "Vectorhead2", **parts, "scal": 1}}}})
    assert unknown[:3] == known
    assert unknown[3] == (
        "model.heads.vector.type: head 'Vectorhead2' is not registered. "
        "Did you mean VectorHead or SkeletonHead?"
    )


def test_criteria_in_all_their_forms() -> None:
    tversky = {"type": "Tversky", "alpha": 0.3}
    for criterion in (
        "Tversky",
        tversky,
        ["Dice", {**tversky, "weight": 2}],
        {"vector": {**tversky, "weight": 0.5}, "other": "BCE"},
    ):
        assert load_config(head(criterion=criterion)).model.heads["vector"]["criterion"]
    assert said(head(criterion={**tversky, "weight": 2})) == [
        "model.heads.vector.criterion.weight: unknown key of Tversky. Known: alpha, beta, eps, over."
    ]
    assert said(
        head(criterion=[{**tversky, "weight": -1}, {"alpha": 1}, {"type": "Dice", "weight": True}])
    ) == [
        "model.heads.vector.criterion.0.weight: is -1, must be a number of at least 0.",
        'model.heads.vector.criterion.1: names no part, is {"alpha": 1}. Add type: Name.',
        "model.heads.vector.criterion.2.weight: is true, must be a number of at least 0.",
    ]
    assert said(head(criterion={"vector": {"type": "BCE", "positive_weight": "much"}}))[0].startswith(
        "model.heads.vector.criterion.vector: positive_weight is a number or 'balanced'"
    )


def test_backbones() -> None:
    frozen = {"type": "UNet", "freeze_bn_stats": True, "freeze_bn_weights": False}
    assert load_config({"model": {"backbone": frozen}}).model.backbone == frozen
    wrong = {"type": "UNet", "freeze_bn_stats": "always", "norm": "instance", "chanels": [4, 8]}
    assert said({"model": {"backbone": wrong}}) == [
        'model.backbone.freeze_bn_stats: is "always", must be true or false.',
        'model.backbone.norm: is "instance", must be "batch" or "layer".',
        "model.backbone.chanels: unknown key of UNet. Did you mean channels or in_channels?",
    ]


def test_case_never_matters_in_the_name_of_a_part() -> None:
    """The resolved config has each name as it is registered, and other programs' names in our words."""
    dice = {"type": "SOFT_cldice", "iter_": 4}
    config = load_config(
        {
            "data": {
                "train": [{"type": "FOLDER", "path": "a"}, {"type": "synthetic", "shape": [8, 8]}],
                "augment": ["flip", {"type": "sequential", "transforms": [{"type": "rotatescale"}]}],
                "normalize": "ZScore",
            },
            "model": {
                "backbone": "unet",
                "neck": "CONVNECK",
                "heads": {
                    "vector": {"type": "vectorhead", "criterion": "tversky"},
                    "semantic": {"type": "semantichead", "criterion": [{"type": "bce", "weight": 2}]},
                    "skeleton": {
                        "type": "SKELETONHEAD",
                        "criterion": dice,
                        "target_generator": "skeletonmasktarget",
                        "predictor": "identitypredictor",
                    },
                },
            },
            "logger": ["csvlogger", {"type": "TENSORBOARDLOGGER"}],
            "runner": {"type": "posetrainingrunner", "scheduler": {"type": "steplr", "step_size": 3}},
        }
    )
    names = [
        value
        for value in re.findall(r"'type': '(\w+)'", str(config.resolved()))
        if value not in ("AdamW", "steplr")
    ]
    assert names == [
        "Folder", "Synthetic", "Flip", "Sequential", "RotateScale", "UNet", "ConvNeck", "VectorHead",
        "Tversky",
        "SemanticHead", "BCE", "SkeletonHead", "SoftDiceClDice", "SkeletonMaskTarget", "IdentityPredictor",
        "TrainingRunner", "CSVLogger", "TensorBoardLogger", "SkeletonDecoder",
    ]  # fmt: skip
    assert config.model.heads["skeleton"]["criterion"] == {"type": "SoftDiceClDice", "iter": 4}
    assert (config.data.normalize, load_config(config.resolved())) == ("zscore", config)


def test_an_argument_under_two_of_its_names() -> None:
    twice = {"type": "SoftDiceClDice", "params": {"iter_": 4}, "iter": 3}
    assert said(head(criterion=twice)) == [
        "model.heads.vector.criterion.params.iter_: is given twice, also as "
        "model.heads.vector.criterion.iter. Keep one of the two."
    ]
    inside = load_config(head(criterion={"type": "SoftClDice", "params": {"iter_": 4}}))
    assert inside.model.heads["vector"]["criterion"] == {"type": "SoftClDice", "params": {"iter": 4}}


def test_what_a_logger_hands_on_is_checked() -> None:
    wandb = {"type": "WandbLogger", "project_name": "mito"}
    assert load_config({"logger": {**wandb, "tags": ["a"], "notes": "b"}}).logger[0]["tags"] == ["a"]
    wrong, misnamed, mistyped = sorted(said({"logger": {**wandb, "mode": "on", "run_nam": "b", "tagz": "c"}}))
    assert wrong.startswith('logger.mode: is "on", must be "online" or "offline"')
    assert misnamed.startswith("logger.run_nam: unknown key of WandbLogger. Did you mean run_name")
    assert mistyped == "logger.tagz: unknown key of WandbLogger. Did you mean tags?"


def test_optimizers_that_cannot_work_are_named_from_the_start() -> None:
    """Of every class of torch: one that a network's parameters cannot be stepped with by hand is refused, and
    no other."""
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2))
    refused, unusable = set(), set()
    for name, part in vars(torch.optim).items():
        if not (inspect.isclass(part) and issubclass(part, torch.optim.Optimizer)) or name == "Optimizer":
            continue
        try:
            model(torch.rand(1, 1, 2, 2, 2)).square().sum().backward()
            part(model.parameters(), lr=1e-3).step()
        except (TypeError, ValueError, RuntimeError):
            unusable.add(name)
        try:
            load_config(runner(optimizer={"type": name, "lr": 1e-3}))
        except ConfigError as error:
            refused.add(name)
            assert "runner.optimizer: Optimizer" in str(error) and "Take AdamW or SGD" in str(error)
    assert refused == unusable == {"LBFGS", "Muon", "SparseAdam"}
    wrong = {"differentiable": "Optimizer AdamW: a leaf Variable", "maximize": "makes the loss larger"}
    for option, sentence in wrong.items():
        assert sentence in said(runner(optimizer={"type": "AdamW", option: True}))[0]
    for option in ("capturable", "fused"):  # a matter of the device that will train
        load_config(runner(optimizer={"type": "AdamW", option: True}))


def test_optimizers() -> None:
    for name in ("AdamW", "adamw", "ADAM_W", "SGD", "rmsprop", "Adagrad"):
        assert load_config(runner(optimizer={"type": name, "lr": 1e-3})).runner.optimizer["type"] == name
    assert said(runner(optimizer={"type": "AdamV", "lr": "1e-3"}))[0].startswith(
        "runner.optimizer.type: optimizer 'AdamV' does not exist. Did you mean Adam"
    )
    assert said(runner(optimizer={"type": "SGD", "params": {"lr": "1e-3", "momentun": 0.9}})) == [
        'runner.optimizer.params.lr: is "1e-3", must be a number.',
        "runner.optimizer.params.momentun: unknown key of SGD. Did you mean momentum?",
    ]
    assert "Invalid learning rate: -1" in said(runner(optimizer={"type": "SGD", "lr": -1}))[0]
    assert "several times a step" in said(runner(optimizer="LBFGS"))[0]
    assert said(runner(optimizer={"type": "SGD", "lr": 1, "params": {"params": []}}))[0].startswith(
        "runner.optimizer.params.params: unknown key of SGD"
    )


def test_parameter_groups() -> None:
    node = {
        "type": "AdamW",
        "params": {"lr": 1e-3, "fused": True, "parameter_groups": {"backbone": {"lr": 1e-5}}},
        "decay_norms_and_biases": False,
    }
    assert load_config(runner(optimizer=node)).runner.optimizer == node
    groups = {"backbone": {"momentun": 0.9, "lr": "x"}, "heads": {"lr": -1.0}, "neck": {"params": []}}
    found = said(runner(optimizer={"type": "SGD", "lr": 1, "parameter_groups": groups}))
    at = "runner.optimizer.parameter_groups"
    assert found[:2] == [
        f"{at}.backbone.momentun: unknown key of SGD. Did you mean momentum?",
        f'{at}.backbone.lr: is "x", must be a number.',
    ]
    assert found[2].startswith(f"{at}.heads: Optimizer SGD: Invalid learning rate: -1.0")
    assert found[3] == f"{at}.neck.params: is no option. Write the options themselves."
    assert said(runner(optimizer={"type": "SGD", "parameter_groups": ["backbone"]})) == [
        f'{at}: is ["backbone"], must be a mapping of parts of the model to options.'
    ]
    assert said(runner(optimizer={"type": "SGD", "decay_norms_and_biases": "no"})) == [
        'runner.optimizer.decay_norms_and_biases: is "no", must be true or false.'
    ]


def test_rates_for_each_group_are_left_to_the_model() -> None:
    rates = {"type": "LRListScheduler", "milestones": [3], "lr_list": [[1e-5, 1e-6]]}
    grouped = {"type": "SGD", "parameter_groups": {"backbone": {"lr": 1e-5}}}
    assert load_config(runner(optimizer=grouped, scheduler=rates))
    assert "2 learning rates" in said(runner(optimizer="SGD", scheduler=rates))[0]


PLATEAU = {"type": "ReduceLROnPlateau", "patience": 2}


def test_what_a_schedule_counts_and_watches() -> None:
    for node in (
        {"type": "StepLR", "step_size": 5, "interval": "step"},
        {**PLATEAU, "monitor": "train.loss"},
        {**PLATEAU, "monitor": "test.loss.vector", "interval": "epoch"},
    ):
        assert load_config(runner(scheduler=node)).runner.scheduler == node
    assert said(runner(scheduler={"type": "StepLR", "step_size": 5, "interval": "batch"})) == [
        'runner.scheduler.interval: is "batch", must be epoch or step.'
    ]
    nested = {"type": "SequentialLR", "schedulers": ["ConstantLR", PLATEAU], "milestones": [2]}
    for node in (PLATEAU, nested):
        assert said(runner(scheduler={**node, "interval": "step"})) == [
            "runner.scheduler.interval: is step, but metrics are measured after epochs. Leave it out."
        ]
    assert said(runner(scheduler={"type": "StepLR", "step_size": 5, "monitor": "train.loss"})) == [
        "runner.scheduler.monitor: is given, but only ReduceLROnPlateau watches a metric. Leave it out."
    ]


def test_metrics_that_nothing_measures() -> None:
    assert said(runner(scheduler={**PLATEAU, "monitor": "train.los"}))[0].startswith(
        'runner.scheduler.monitor: no training measures "train.los". Did you mean train.loss'
    )
    assert said(runner(scheduler={**PLATEAU, "params": {"monitor": 3}}))
    assert said(runner(early_stopping={"monitor": "test.f1"}))[0].startswith(
        'runner.early_stopping.monitor: no training measures "test.f1". Did you mean test.F1'
    )


def test_averages_early_stopping_and_profiles() -> None:
    settings = load_config(runner(ema=True, swa={"swa_start": 3}, early_stopping=True)).runner
    assert settings.ema is not None and settings.early_stopping is not None
    assert (settings.ema.decay, settings.early_stopping.patience) == (0.999, 10)
    off = load_config(runner(ema=False, swa=False, early_stopping=False)).runner
    assert off.ema is off.swa is off.early_stopping is None
    assert said(runner(ema={"decay": 1.5}, early_stopping={"patience": 0}))[0].startswith("runner.ema.decay")
    swa = {**runner(swa={"swa_start": 30}), "train_settings": {"epochs": 20}}
    assert said(swa) == ["runner.swa.swa_start: is 30, but the last epoch is 20. Write 20 or less."]
    assert said(runner(profile={"trace_steps": [5, 3]})) == [
        "runner.profile.trace_steps: is [5, 3], whose first step comes after its last."
    ]
    assert said(runner(profile={"trace": "yes"}))[0].startswith("runner.profile.trace: ")


def test_a_schedule_that_swa_replaces_need_not_last_longer() -> None:
    one_cycle = {"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 10}
    config = {"runner": {"scheduler": one_cycle, "swa": {"swa_start": 9}}, "train_settings": {"epochs": 50}}
    assert load_config(config)
    config["runner"]["swa"] = {"swa_start": 30}  # type: ignore[index]
    assert said(config)[0].startswith("runner.scheduler: Scheduler OneCycleLR cannot go on")


def test_choices_of_the_runner() -> None:
    assert said(runner(precision="half"))[0].startswith("runner.precision: ")
    assert said(runner(compile="fastest"))[0].startswith("runner.compile: ")
    assert said(runner(channels_last="yes"))[0].startswith("runner.channels_last: ")
    assert said(runner(warmup_steps=-1))[0].startswith("runner.warmup_steps: ")
    for precision in ("float32", "tf32", "bfloat16", "float16"):
        assert load_config(runner(precision=precision)).runner.precision == precision
    for mode in (True, False, "reduce-overhead", "max-autotune"):
        assert load_config(runner(compile=mode)).runner.compile == mode


def test_processes_share_a_batch_evenly() -> None:
    config = {"runner": {"processes": 3}, "train_settings": {"batch_size": 4}}
    assert said(config) == [
        "train_settings.batch_size: is 4, which 3 processes cannot share evenly. "
        "It counts the crops of all: write 6."
    ]
    config["train_settings"]["batch_size"] = 6
    assert load_config(config)
    gpus = {"runner": {"gpus": [0, 1, 2], "processes": 2}, "train_settings": {"batch_size": 3}}
    assert said(gpus) == [
        "runner.processes: is 2, but runner.gpus names 3 GPUs. "
        "Leave it out: there is one process for each GPU."
    ]


def sequential(*schedulers: Any, milestones: Any) -> dict[str, Any]:
    return runner(
        scheduler={"type": "SequentialLR", "schedulers": list(schedulers), "milestones": milestones}
    )


def test_schedulers() -> None:
    for node in (
        {"type": "cosine_annealing_warm_restarts", "T_0": 10},
        {"type": "ReduceLROnPlateau", "params": {"factor": 0.5}},
        {
            "type": "ChainedScheduler",
            "schedulers": [{"type": "ConstantLR"}, {"type": "ExponentialLR", "gamma": 0.9}],
        },
    ):
        assert load_config(runner(scheduler=node)).runner.scheduler == node
    assert said(runner(scheduler={"type": "StepLr2", "step_size": 3}))[0].startswith(
        "runner.scheduler.type: scheduler 'StepLr2' does not exist. Did you mean StepLR"
    )
    assert said(runner(scheduler={"type": "StepLR", "step_siz": 3})) == [
        "runner.scheduler.step_siz: unknown key of StepLR. Did you mean step_size?",
        "runner.scheduler.step_size: is missing. StepLR needs it (an integer).",
    ]
    assert said(runner(scheduler="LambdaLR")) == [
        "runner.scheduler.lr_lambda: is missing. LambdaLR needs it."
    ]


def test_nested_schedulers() -> None:
    constant, step = {"type": "ConstantLR", "factor": 0.1}, {"type": "StepLR", "params": {"step_size": 2}}
    assert load_config(sequential(constant, step, milestones=[5]))
    assert said(
        sequential(constant, {"type": "StepLR", "step_size": 2.5}, {"typ": 1}, milestones=[5, 9])
    ) == [
        "runner.scheduler.schedulers.1.step_size: is 2.5, must be an integer.",
        'runner.scheduler.schedulers.2: names no part, is {"typ": 1}. Add type: Name.',
    ]
    assert said(sequential(constant, step, milestones=[5, 7])) == [
        "runner.scheduler.milestones: has length 2 for 2 entries of schedulers. Give 1."
    ]
    assert said(sequential(constant, step, constant, milestones=[7, 5])) == [
        "runner.scheduler.milestones: is [7, 5], must be rising epochs from 0 on."
    ]
    assert (
        said(sequential(milestones=[]))[0]
        == "runner.scheduler.schedulers: is [], must be a list of schedulers."
    )
    assert said(
        runner(scheduler={"type": "LRListScheduler", "lr_list": [[1e-5], [1e-6]], "milestones": [3]})
    ) == ["runner.scheduler.milestones: has length 1 for 2 entries of lr_list. Give 2."]


def test_schedules_are_rehearsed_to_the_last_epoch() -> None:
    one_cycle = {"scheduler": {"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 10}}
    assert load_config({"runner": one_cycle, "train_settings": {"epochs": 10}})
    assert said({"runner": one_cycle, "train_settings": {"epochs": 50}})[0].startswith(
        "runner.scheduler: Scheduler OneCycleLR cannot go on"
    )
    cyclic = {"type": "CyclicLR", "base_lr": 0.1, "max_lr": 1.0}
    assert "cycle_momentum" in said(runner(optimizer={"type": "Adagrad"}, scheduler=cyclic))[0]


@pytest.mark.parametrize(
    ("metric", "larger_is_better"),
    [
        ("test.F1", True),
        ("test.mAP", True),
        ("test.F1@0.75", True),
        ("test.VOI", False),
        ("test.loss", False),
        ("test.loss.skeleton", False),
    ],
)
def test_key_metrics(metric: str, larger_is_better: bool) -> None:
    assert load_config(runner(key_metric=metric)).runner.key_metric_asc is larger_is_better
    assert load_config(runner(key_metric=metric, key_metric_asc=larger_is_better))
    better = "larger" if larger_is_better else "smaller"
    assert said(runner(key_metric=metric, key_metric_asc=not larger_is_better))[0].startswith(
        f"runner.key_metric_asc: is {str(not larger_is_better).lower()}, but for {metric} {better} is better."
    )


def test_key_metrics_that_no_evaluation_produces() -> None:
    assert said(runner(key_metric="test.map"))[0].startswith(
        'runner.key_metric: no evaluation produces "test.map". Did you mean test.mAP'
    )
    assert "test.loss.vector" in said(runner(key_metric="test.loss.vectr"))[0]
    config = {
        "model": {"heads": {"mine": {"type": "SemanticHead"}}},
        "runner": {"key_metric": "test.loss.vector"},
    }
    assert said(config)[0].startswith('runner.key_metric: no evaluation produces "test.loss.vector"')
    config["runner"]["key_metric"] = "test.loss.mine"  # type: ignore[index]
    assert load_config(config)


def test_sources_and_augmentations() -> None:
    assert said(
        {"data": {"train": [{"samples_per_volume": 3}], "validation": ["a", 5, {"type": "Foldr"}]}}
    ) == [
        "data.validation.1: must be a part, is 5. Write its name, or {type: Name, ...arguments}.",
        "data.train.0.path: is missing. Folder needs it (text).",
    ]
    assert said({"data": {"train": {"path": "a", "params": 1}}}) == [
        'data.train: has params that are no mapping, is {"path": "a", "params": 1}. '
        "Write params: {argument: value}."
    ]
    assert said({"data": {"validation": {"type": "Foldr"}}}) == [
        "data.validation.type: dataset 'Foldr' is not registered. Did you mean Folder?"
    ]
    assert said({"data": {"augment": ["Flip", {"type": "Flip", "rate": "x"}]}}) == [
        'data.augment.1.rate: is "x", must be a number of at least 0 and of at most 1.'
    ]
    assert said({"data": {"augment": "flip"}}) == [
        'data.augment: is "flip", must be "default" or "original" or "none" or a list of parts.'
    ]


def test_only_what_is_drawn_from_stays_on_the_device() -> None:
    on_device = {"path": "a", "store": "gpu"}
    kept = {"train": [on_device], "background": [on_device], "augment_on": "device"}
    load_config({"data": kept})
    nodes = [{"path": "a"}, {"type": "Folder", "params": on_device}]
    assert said({"data": {**kept, "validation": nodes, "test": [on_device]}}) == [
        f"data.{where}: is gpu, but only volumes that crops are drawn from stay on the device. "
        "Write store: memory, or disk."
        for where in ("validation.1.params.store", "test.0.store")
    ]


def test_the_original_disturbs_normalised_grey_values() -> None:
    assert said({"data": {"augment": "original", "normalize": "none"}}) == [
        'data.augment: is "original", whose ranges need normalised grey values, and data.normalize is '
        '"none". Write normalize: zscore, or list the parts.'
    ]
    load_config({"data": {"augment": "original", "normalize": "percentile"}})
    assert said({"data": {"augment": [{"type": "Gamma", "gamma": [1.4, 0.7]}]}}) == [
        "data.augment.0: gamma is [1.4, 0.7], must be a smallest and a largest number. Exchange them"
    ]


def test_sequences_of_augmentations() -> None:
    inner = {"type": "Sequential", "transforms": ["Noise", {"type": "Elastic", "grid": 12, "magnitude": 0.2}]}
    assert said({"data": {"augment": [{"type": "Sequential", "transforms": ["Flip", inner]}]}}) == [
        "data.augment.0.transforms.1.transforms.1: a magnitude of 0.2 with 12 control points folds the "
        "image. With so many points stay at or below 0.0909"
    ]
    assert said({"data": {"augment": [{"type": "Sequential", "transforms": ["Flp"]}]}}) == [
        "data.augment.0.transforms.0.type: augmentation 'Flp' is not registered. Did you mean Flip?"
    ]
    assert said({"data": {"augment": [{"type": "Sequential", "transforms": "Flip"}]}}) == [
        'data.augment.0.transforms: is "Flip", must be a list of augmentations.'
    ]
    assert said({"data": {"augment": [{"type": "Sequential"}]}})[0].startswith(
        "data.augment.0.transforms: is missing. Sequential needs it"
    )
    assert said({"data": {"augment": [{"type": "Rotate", "degrees": [1, "x"]}]}})[0].startswith(
        'data.augment.0.degrees: is [1, "x"], must be'
    )
    assert said({"data": {"augment_on": "gpu"}}) == ['data.augment_on: is "gpu", must be "cpu" or "device".']


def test_loggers_take_any_key_that_they_hand_on() -> None:
    node = {"type": "WandbLogger", "project_name": "p", "tags": ["a"], "entity": "lab"}
    assert load_config({"logger": node}).logger == [node]
    assert said({"logger": [{"type": "WandbLogger", "project_name": 3}]}) == [
        "logger.0.project_name: is 3, must be text."
    ]


def test_arguments_that_a_logger_lacks() -> None:
    assert said({"logger": [{"type": "TensorBoardLogger", "colour": 3}]})[0].startswith(
        "logger.0.colour: unknown key of TensorBoardLogger"
    )
    assert said({"logger": "WandLogger"})[0].startswith("logger.type: logger 'WandLogger'")


def test_decoding() -> None:
    assert load_config({"inference": {"decoding": {"steps": 3, "reach": 4}}}).inference.decoding["reach"] == 4
    assert said({"inference": {"decoding": {"stps": 3, "steps": "3", "reach": [1]}}}) == [
        "inference.decoding.stps: unknown key of SkeletonDecoder. Did you mean steps?",
        'inference.decoding.steps: is "3", must be an integer of at least 0 and of at most 1000.',
        "inference.decoding.reach: is [1], must be a number of at least 0 and of at most 50.",
    ]
    assert said({"inference": {"decoding": {"skeleton_threshold": 3}}}) == [
        "inference.decoding.skeleton_threshold: is 3, must be a number of at least 0 and of at most 1 "
        "(Input should be less than or equal to 1)."
    ]
    assert said({"inference": {"decoding": {"type": "PersistenceDecoder", "steps": 1.5, "neck": -1}}}) == [
        "inference.decoding.steps: is 1.5, must be an integer of at least 0 and of at most 1000.",
        "inference.decoding.neck: is -1, must be a number of at least 0 and of at most 1 "
        "(Input should be greater than or equal to 0).",
    ]
    assert said({"inference": {"decoding": "SkeletonDecodr"}}) == [
        "inference.decoding.type: decoder 'SkeletonDecodr' is not registered. Did you mean SkeletonDecoder?"
    ]
    assert said({"inference": {"decoding": {"type": 3}}}) == [
        'inference.decoding: names no part, is {"type": 3}. Add type: Name.'
    ]
    assert said({"inference": {"decoding": [1]}}) == [
        "inference.decoding: must be a part, is [1]. Write its name, or {type: Name, ...arguments}."
    ]


def test_sections_must_agree() -> None:
    shapes = {"data": {"crop_size": [8, 8, 8], "voxel_size": [1, 1]}, "inference": {"halo": [0, 0]}}
    assert said(shapes) == [
        "data.voxel_size: has 2 axes, but data.crop_size has 3. Both follow the axes of the volumes.",
        "inference.halo: has 2 axes, but data.crop_size has 3. Both follow the axes of the volumes.",
    ]
    assert said({"method": "td"}) == [
        'method: is "td" (top-down), but there is no detector. Add detector.model, or write method: bu.'
    ]
    assert said({"metadata": {"experiment": "../x"}})[0].startswith(
        'metadata.experiment: is "../x", must be a plain name.'
    )
    assert said({"runner": {"gpus": [0, 0]}, "device": "cpu"}) == [
        "runner.gpus: is [0, 0], which names a GPU twice.",
        'runner.gpus: asks for GPUs, but device is "cpu". Write device: auto.',
    ]
    detector = {"runner": {"optimizer": "Adm", "key_metric": "test.loss.vector"}, "model": "Nope"}
    assert [sentence.partition(":")[0] for sentence in said({"detector": detector})] == [
        "detector.model.type",
        "detector.runner.optimizer.type",
        "detector.runner.key_metric",
    ]
