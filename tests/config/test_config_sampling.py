"""``data.sampling``, its short form, and background: what loads, and what is said of mistakes."""

from __future__ import annotations

import pytest

from skoots.api.build import build_background_augmentations, sampling_of
from skoots.config import load_config
from skoots.data.augment.turns import Flip
from skoots.data.sampling import Sampling
from skoots.errors import ConfigError


@pytest.mark.parametrize(
    "data, expected",
    [
        ({}, Sampling()),
        ({"object_rate": 0.2}, Sampling(objects=0.2)),
        ({"sampling": {"boundaries": 0.1}}, Sampling(boundaries=0.1)),
        ({"sampling": {"objects": 0, "rare": 1}}, Sampling(objects=0, rare=1)),
        ({"object_rate": 0.7, "sampling": {"foreground": 0.3}}, Sampling(0.7, 0.3)),
    ],
)
def test_shares(data, expected):
    config = load_config({"data": data})
    assert sampling_of(config) == expected
    assert sampling_of(load_config(config.resolved())) == expected


@pytest.mark.parametrize(
    "data, sentence",
    [
        ({"sampling": {"boundaries": 0.6}}, r"data.sampling: the shares add up to more than 1 \(objects 0.5"),
        ({"sampling": {"boundary": 0.1}}, "data.sampling.boundary.*Did you mean boundaries"),
        ({"sampling": {"rare": 1.5}}, "data.sampling.rare.*is 1.5"),
        (
            {"object_rate": 0.5, "sampling": {"objects": 0.5}},
            "data.object_rate: is given, and data.sampling.objects",
        ),
        ({"object_rate": 0.5, "sampling": {"rare": 0.6}}, "data.sampling: the shares add up"),
        ({"object_rate": 2}, "data.object_rate: is 2"),
        ({"samples_per_epoch": 0}, "data.samples_per_epoch: is 0"),
        ({"background": {"type": "Foldr", "path": "x"}}, "data.background.*Foldr"),
        ({"background_augment": [{"type": "Flop"}]}, "data.background_augment.0.*Flop"),
    ],
)
def test_mistakes_are_named(data, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_config({"data": data})


def test_background_is_written_as_training_data_is():
    config = load_config({"data": {"background": "empty"}}, ["data.background_augment=[Flip]"])
    assert config.data.background == [{"type": "Folder", "path": "empty"}]
    assert [type(a) for a in build_background_augmentations(config)] == [Flip]
    without = load_config({"data": {"background": "empty", "background_augment": "none"}})
    assert build_background_augmentations(without) == []
    assert len(build_background_augmentations(load_config({}))) > 1
