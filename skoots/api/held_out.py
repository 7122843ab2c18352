"""Scoring a trained model on volumes that it has not seen, beside connected components of its own
foreground."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from skoots.api.build import LoadedModel
from skoots.api.segment import make_plan, predict_maps
from skoots.data.labelled_volume import LabelledVolume
from skoots.errors import SkootsError
from skoots.geometry import Box
from skoots.instances import Maps, label_components
from skoots.metrics import Overlap, contingency, score, stack
from skoots.reports.figures import write_prediction_figure
from skoots.volumes import read_labels

log = logging.getLogger("skoots")


def compare_with_components(
    loaded: LoadedModel, volumes: Sequence[LabelledVolume], figure: Path | None = None
) -> tuple[dict[str, float], dict[str, float], Path | None]:
    """Scores of a model and of connected components of its own foreground, pooled over whole volumes.

    Args:
        loaded: the model.
        volumes: with labels.
        figure: where the picture of the first volume goes; None draws none.

    Returns:
        The two sets of scores, and the picture; no scores if the model lacks a map that decoding reads.
    """
    ours: list[Overlap] = []
    theirs: list[Overlap] = []
    drawn = None
    for volume in volumes:
        plan = make_plan(loaded, volume.image, volume.voxel_size, measured=volume.intensity)
        maps = predict_maps(plan, volume.image)
        channels = {name: len(values) for name, values in maps.items()}
        if plan.decoder.lacks(channels, volume.image.spatial_dims, loaded.model.vector_scale):
            return {}, {}, None
        truth = read_labels(volume.labels, ignore_label=volume.ignore_label)
        read = Maps.of(maps, plan.decoder.reads, volume.voxel_size, loaded.model.vector_scale)
        prediction = plan.decoder.decode(read)
        components = label_components(plan.decoder.foreground(read), plan.decoder.min_size)
        ours.append(contingency(truth, prediction, volume.ignore_label))
        theirs.append(contingency(truth, components, volume.ignore_label))
        if figure is not None:
            image = volume.read(Box.of_shape(volume.shape)).image
            drawn_maps = {"skeleton": maps["skeleton"][0]} if "skeleton" in maps else {}
            image = image if volume.image.channels else image[0]
            try:
                drawn = write_prediction_figure(
                    figure, image, truth, prediction, drawn_maps, volume.voxel_size
                )
            except SkootsError as error:  # a full disk takes the picture, not the scores
                log.error("%s", error)
            figure = None  # of the first volume only
    return score(stack(ours)), score(stack(theirs)), drawn
