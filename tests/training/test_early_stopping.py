"""The end of a training that no longer gets better."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable

import pytest

from skoots.snapshots import find_snapshot, read_newest, read_snapshot
from skoots.training.early_stopping import EarlyStopping

Make = Callable[..., object]


def by_looking_back(values: list[float | None], larger: bool, min_delta: float) -> int:
    """Measurements since the last one that was better than all before it."""
    measured = [value for value in values if value is not None]
    best, place = None, -1
    for index, value in enumerate(measured):
        if math.isnan(value):
            continue
        if best is None or (value - best if larger else best - value) > min_delta:
            best, place = value, index
    return len(measured) - 1 - place


@pytest.mark.parametrize("larger", [False, True])
@pytest.mark.parametrize("min_delta", [0.0, 0.15])
def test_waiting_is_counted_in_measurements(larger: bool, min_delta: float) -> None:
    draw = random.Random(3)
    stopping = EarlyStopping(3, "test.F1", larger, min_delta)
    for _ in range(200):
        values = [draw.choice([None, math.nan, draw.random(), 0.5]) for _ in range(draw.randrange(8))]
        history = [{} if value is None else {"test.F1": value} for value in values]
        assert stopping.waited(history)[0] == by_looking_back(values, larger, min_delta)


def test_while_the_metric_stays_equal_a_lower_validation_loss_is_better() -> None:
    stopping = EarlyStopping(3, "test.F1", larger_is_better=True, min_delta=0.01)

    def waited(scores: list[float], losses: list[float], heads: int = 1) -> int:
        parts = {f"test.loss.{head}": 0.0 for head in range(heads)}
        history = [{"test.F1": f, "test.loss": loss, **parts} for f, loss in zip(scores, losses)]
        return stopping.waited(history)[0]

    assert waited([0.0] * 6, [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]) == 0
    assert waited([0.0] * 6, [9.0, 4.0, 7.0, 6.0, 5.0, 4.0]) == 4
    assert waited([0.0, 0.5, 0.5, 0.5], [9.0, 1.0, 2.0, 2.0]) == 2
    assert waited([0.5, 0.4, 0.4], [9.0, 1.0, 0.5]) == 2  # a worse value is no better for its loss
    begun_late = [
        {"test.F1": 0.0, "test.loss": 1.0, "test.loss.a": 1.0},
        {"test.F1": 0.0, "test.loss": 2.0, "test.loss.a": 1.0, "test.loss.b": 1.0},
    ]
    assert stopping.waited(begun_late)[0] == 0


def test_it_ends_the_training_and_the_last_epoch_is_a_regular_snapshot(
    make_runner: Make, scripted: Make, caplog: pytest.LogCaptureFixture
) -> None:
    script = scripted([5.0, 3.0, 4.0, 3.0, 2.0, 1.0])
    stopping = EarlyStopping(2, "test.loss")
    runner = make_runner(epochs=6, evaluate=script.evaluate, observers=[stopping])
    with caplog.at_level(logging.INFO, "skoots"):
        result = runner.fit()
    reason = "test.loss has not become better than 3 in 2 validations"
    assert (result.epochs, result.best_epoch, result.ended_early, result.interrupted) == (4, 4, reason, False)
    assert f"Training ends after epoch 4: {reason}." in [record.getMessage() for record in caplog.records]
    assert read_snapshot(find_snapshot(f"{runner.snapshots.folder}:004"))["epoch"] == 4

    again = make_runner(epochs=6, evaluate=script.evaluate, observers=[EarlyStopping(2, "test.loss")])
    again.load_state(read_newest(runner.snapshots.folder)[0])
    caplog.clear()
    with caplog.at_level(logging.INFO, "skoots"):
        ended = again.fit()
    assert (ended.epochs, ended.ended_early, again.step) == (4, reason, runner.step)
    assert [record.getMessage() for record in caplog.records] == [f"Training ends after epoch 4: {reason}."]

    patient = make_runner(epochs=6, evaluate=script.evaluate, observers=[EarlyStopping(3, "test.loss")])
    patient.load_state(read_newest(runner.snapshots.folder)[0])
    assert patient.fit().epochs == 6


def test_larger_is_better_where_it_is(make_runner: Make, scripted: Make) -> None:
    script = scripted([0.1, 0.2, 0.3, 0.25, 0.3, 0.9], "test.F1")
    stopping = EarlyStopping(2, "test.F1", larger_is_better=True)
    result = make_runner(
        epochs=6, key_metric="test.F1", key_metric_asc=True, evaluate=script.evaluate, observers=[stopping]
    ).fit()
    assert result.epochs == 5 and "better than 0.3 in 2" in result.ended_early


def test_epochs_without_a_measurement_do_not_count(make_runner: Make, scripted: Make) -> None:
    script = scripted([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    stopping = EarlyStopping(2, "test.loss")
    runner = make_runner(epochs=8, eval_interval=2, evaluate=script.evaluate, observers=[stopping])
    assert runner.fit().epochs == 6  # measured in 2, 4, 6


def test_a_training_loss_can_be_watched(make_runner: Make) -> None:
    still = {"type": "SGD", "lr": 1e-12}
    stopping = EarlyStopping(2, "train.loss", min_delta=10.0)
    assert make_runner(epochs=9, optimizer=still, observers=[stopping]).fit().epochs == 3


def test_the_last_epoch_is_validated_whatever_is_watched(make_runner: Make, scripted: Make) -> None:
    script = scripted([1.0] * 9)
    stopping = EarlyStopping(1, "train.loss", min_delta=100.0)  # which no epoch reaches
    runner = make_runner(epochs=9, eval_interval=3, evaluate=script.evaluate, observers=[stopping])
    result = runner.fit()
    assert result.epochs == 3 and result.metrics["test.loss"] == 1.0

    unvalidated = make_runner(epochs=9, observers=[EarlyStopping(1, "train.loss", min_delta=100.0)])
    assert unvalidated.fit().epochs == 2
