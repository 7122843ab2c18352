"""One path from maps to instances: whoever decodes, with whichever decoder, finds the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skoots.api import TrainingOutcome, evaluate_snapshot, load_model, segment, train
from skoots.api.build import decoder_of
from skoots.api.segment import make_plan, predict_maps
from skoots.config import load_config, write_config
from skoots.errors import ConfigError, SkootsError, SnapshotError
from skoots.instances import DECODERS, Decoder, Maps, SkeletonDecoder
from skoots.instances.decoders.landing import LandingDecoder
from skoots.metrics import contingency, score
from skoots.snapshots.files import read_snapshot, write_snapshot
from skoots.volumes import open_volume

Make = Callable[..., Any]
SHAPES = {2: (40, 44), 3: (12, 24, 24)}  # windows of validation take these whole


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Decoder, np.ndarray]]:
    """Everything that is decoded from now on."""
    seen: list[tuple[Decoder, np.ndarray]] = []
    decode = Decoder.decode

    def remember(self: Decoder, *args: Any) -> np.ndarray:
        seen.append((self, decode(self, *args)))
        return seen[-1][1]

    monkeypatch.setattr(Decoder, "decode", remember)
    return seen


@pytest.fixture
def training(make_config: Make, write_pair: Make, tmp_path: Path) -> Make:
    """Trains on, validates on and is scored on the one volume of a folder."""

    def run(dims: int, decoding: dict[str, Any], plugins: Sequence[str] = ()) -> TrainingOutcome:
        if not (tmp_path / "data").exists():
            write_pair(tmp_path / "data", "cell", 7, SHAPES[dims], voxel_size=(2.0, 1.0, 1.0)[-dims:])
        source = {"path": str(tmp_path / "data"), "samples_per_volume": 8}
        config = make_config(
            dims,
            data={"train": [source], "validation": [source], "test": [source], "augment": "none"},
            runner={"image_log_interval": 6, "eval_interval": 6},
            train_settings={"epochs": 6},
            inference={"decoding": decoding},
        )
        return train({**config, "plugins": list(plugins)}, runs=tmp_path / "runs", progress=False)

    return run


LEVELS: dict[int, dict[str, float]] = {}


@pytest.fixture
def hostile_levels(training: Make, tmp_path: Path) -> Callable[[int], dict[str, float]]:
    """Thresholds that are levels of the maps at which many voxels stand; how maps are decoded does not change
    them."""

    def levels(dims: int) -> dict[str, float]:
        if dims not in LEVELS:
            loaded = load_model(training(dims, {}).run_folder, "cpu")
            image = open_volume(tmp_path / "data" / "cell.tif")
            maps = predict_maps(make_plan(loaded, image, loaded.facts.voxel_size), image)
            LEVELS[dims] = {name: float(np.rint(np.median(maps[name]) * 255) / 255) for name in maps}
        return LEVELS[dims]

    return levels


@pytest.mark.parametrize(
    ("dims", "decoding"),
    [
        (3, {"type": "SkeletonDecoder", "reach": 2.0}),
        (2, {"type": "SkeletonDecoder", "min_size": 3}),
        (3, {"type": "LandingDecoder", "votes": 0.7}),
        (2, {"type": "PersistenceDecoder", "votes": 0.1, "min_size": 2}),
        (3, {"type": "WatershedDecoder", "neck": 0.9, "smoothing": 0.0}),
    ],
)
def test_validation_scores_pictures_evaluation_and_segment_agree(
    dims: int,
    decoding: dict[str, Any],
    hostile_levels: Callable[[int], dict[str, float]],
    training: Make,
    made: list[tuple[Decoder, np.ndarray]],
    tmp_path: Path,
) -> None:
    levels, cell = hostile_levels(dims), tmp_path / "data" / "cell.tif"
    decoding = {**decoding, "semantic_threshold": levels["semantic"]}
    if decoding["type"] == "SkeletonDecoder":
        decoding["skeleton_threshold"] = levels["skeleton"]
    made.clear()
    run = training(dims, decoding)
    whole = [labels for _, labels in made if labels.shape == SHAPES[dims]]
    assert len(whole) == 3  # validation, the picture of its window, and the scores at the end
    assert len(made) == 4 and made[1][1].shape != SHAPES[dims]  # the picture of a crop
    result = segment(cell, run.run_folder, progress=False)
    labels = open_volume(result.output).read_all()
    assert result.objects == labels.max() > 0
    for other in whole:
        assert np.array_equal(other, labels)
    truth = open_volume(tmp_path / "data" / "cell.labels.tif").read_all()
    expected = score(contingency(truth, labels))
    made.clear()
    evaluation = evaluate_snapshot(run.run_folder, device="cpu")
    assert [np.array_equal(other, labels) for _, other in made] == [True, True]
    for name in ("F1", "VOI_split", "n_prediction"):
        assert evaluation.scores[name] == pytest.approx(expected[name], nan_ok=True)
    assert evaluation.metrics["test.F1"] == evaluation.stored["test.F1"] == pytest.approx(expected["F1"])

    # Other settings of the same snapshot, for which nothing is trained.
    for threshold in (51 / 255, 1.0):
        changed = {**decoding, "semantic_threshold": threshold}
        segment(cell, run.run_folder, overwrite=True, progress=False, decoding=changed)
        labels = open_volume(result.output).read_all()
        config = load_config(load_model(run.run_folder, "cpu").config.resolved())
        inference = config.inference.model_copy(update={"decoding": changed})
        write_config(config.model_copy(update={"inference": inference}), tmp_path / "changed.yaml")
        made.clear()
        evaluate_snapshot(run.run_folder, config=tmp_path / "changed.yaml", device="cpu")
        assert [np.array_equal(other, labels) for _, other in made] == [True, True]
        assert labels.any() == (threshold < 1)


PLUGIN = '''
from dataclasses import dataclass

import numpy as np

from skoots.instances import DECODERS, Decoder
from skoots.ranges import Count


@DECODERS.register
@dataclass(frozen=True)
class SlicesDecoder(Decoder):
    """So many slices of the foreground along the last axis."""

    slices: Count = 4

    def seeds(self, maps):
        number = np.arange(maps.shape[-1]) * self.slices // maps.shape[-1] + 1
        return np.where(self.foreground(maps), number, 0).astype(np.int32)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    path = tmp_path / "slices.py"
    path.write_text(PLUGIN)
    yield path
    DECODERS._parts.pop("SlicesDecoder", None)


def test_a_decoder_in_a_plugin_file(
    plugin: Path, training: Make, made: list[tuple[Decoder, np.ndarray]], tmp_path: Path
) -> None:
    decoding = {"type": "SlicesDecoder", "slices": 3, "semantic_threshold": 0.1}
    run = training(3, decoding, [str(plugin)])
    assert {type(decoder).__name__ for decoder, _ in made} == {"SlicesDecoder"}
    assert made[0][1].max() == 3  # validation counts what it has found
    result = segment(tmp_path / "data" / "cell.tif", run.run_folder, plugins=[str(plugin)], progress=False)
    labels = open_volume(result.output).read_all()
    assert result.objects == 3 and np.array_equal(labels, made[0][1])
    with pytest.raises(ConfigError, match=r"decoding\.slices: is 0, must be an integer of at least 1"):
        segment(
            tmp_path / "data" / "cell.tif",
            run.run_folder,
            tmp_path / "o.tif",
            plugins=[str(plugin)],
            decoding={"slices": 0},
            progress=False,
        )
    DECODERS._parts.pop("SlicesDecoder")
    with pytest.raises(SkootsError, match=r"slices\.py.*was not loaded. If you trust it, give it yourself"):
        segment(tmp_path / "data" / "cell.tif", run.run_folder, tmp_path / "o.tif", progress=False)


def test_another_decoder_for_one_segmentation(
    trained: TrainingOutcome, write_pair: Make, tmp_path: Path
) -> None:
    write_pair(tmp_path, "cell", 7)
    loaded, image = load_model(trained.run_folder, "cpu"), open_volume(tmp_path / "cell.tif")
    plan = make_plan(loaded, image, (2.0, 1.0, 1.0))
    maps = predict_maps(plan, image)
    for decoder in (LandingDecoder(votes=0.5), LandingDecoder(votes=0.5, smoothing=0.0, min_size=4)):
        decoding = {"type": "LandingDecoder", **{k: v for k, v in vars(decoder).items() if k != "reads"}}
        result = segment(
            tmp_path / "cell.tif", trained.run_folder, overwrite=True, progress=False, decoding=decoding
        )
        read = Maps.of(maps, decoder.reads, (2.0, 1.0, 1.0), loaded.model.vector_scale)
        labels = open_volume(result.output).read_all()
        assert np.array_equal(labels, decoder.decode(read)) and labels.max() > 1


def test_a_model_that_lacks_what_the_decoder_reads(
    make_config: Make, write_pair: Make, tmp_path: Path
) -> None:
    heads = {"vector": {"type": "VectorHead"}, "semantic": {"type": "SemanticHead"}}
    config = make_config(model={"heads": heads})
    run = train(config, runs=tmp_path / "runs", progress=False)
    write_pair(tmp_path, "cell", 7)
    sentence = "gives vector, semantic; SkeletonDecoder also reads skeleton. Choose another decoder"
    with pytest.raises(SnapshotError, match=sentence):
        segment(tmp_path / "cell.tif", run.run_folder, progress=False)
    assert not (tmp_path / "cell.segmentation.tif").exists()
    decoding = {"type": "LandingDecoder", "votes": 0.1, "semantic_threshold": 0.2}
    assert segment(tmp_path / "cell.tif", run.run_folder, progress=False, decoding=decoding).objects > 0
    config = make_config(
        model={"heads": heads},
        data={"validation": config["data"]["train"]},
        runner={"key_metric": "test.F1"},
        inference={"decoding": decoding},
    )
    assert "test.F1" in train(config, runs=tmp_path / "more", progress=False).metrics
    config["inference"] = {}
    with pytest.raises(ConfigError, match=r"test\.F1 needs the maps vector, semantic, skeleton; this model"):
        train(config, runs=tmp_path / "more", progress=False)


@pytest.mark.parametrize("stored", [{"min_size": 5}, {}, {"skeleton_threshold": 0.25, "reach": 4}])
def test_snapshots_from_before_there_was_a_choice(
    stored: dict[str, Any], trained: TrainingOutcome, tmp_path: Path
) -> None:
    state = read_snapshot(trained.latest_snapshot)
    state["cfg"]["inference"]["decoding"] = stored
    write_snapshot(state, tmp_path / "old.pt")
    loaded = load_model(tmp_path / "old.pt", "cpu")
    assert decoder_of(loaded.config) == replace(SkeletonDecoder(), **stored)
