"""Validation: losses and instance metrics over windows that cover the validation volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from skoots.instances import Decoding, decode
from skoots.metrics import METRIC_NAMES, Overlap, contingency, score, stack
from skoots.models.segmentation_model import SegmentationModel
from skoots.samples import Batch


class Evaluator:
    """Scores a model on validation windows.

    Every window is decoded by itself, so an object that is cut by a window's border counts once on either
    side.

    Args:
        loader: batches of windows.
        decoding: how maps become instances.
        device: where the model lies.
        heed: called after every window, see ``TrainingRunner.heed``; raises if the training is to stop.
    """

    def __init__(
        self,
        loader: Iterable[Batch],
        decoding: Decoding,
        device: torch.device,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        self.loader, self.decoding, self.device, self.heed = loader, decoding, device, heed

    @torch.no_grad()
    def __call__(self, model: SegmentationModel, epoch: int) -> dict[str, float]:
        """``test.loss``, ``test.loss.HEAD`` and ``test.METRIC``; losses are means over windows weighted by
        voxels that count."""
        model.eval()
        sums: dict[str, float] = {}
        voxels, overlaps = 0, []
        for batch in self.loader:
            batch = batch.to(self.device)
            outputs = model(batch.images)
            total, parts = model.loss(outputs, model.targets(batch), batch, epoch)
            size = int(batch.valid.sum())
            for name, value in {
                "test.loss": total,
                **{f"test.loss.{k}": v for k, v in parts.items()},
            }.items():
                sums[name] = sums.get(name, 0.0) + float(value) * size
            voxels += size
            overlaps += self._overlaps(model, outputs, batch)
            self.heed()
        metrics = {name: value / max(voxels, 1) for name, value in sums.items()}
        if overlaps:
            scores = score(stack(overlaps))
            metrics |= {f"test.{name}": scores[name] for name in METRIC_NAMES}
        return metrics

    def _overlaps(self, model: SegmentationModel, outputs: dict, batch: Batch) -> list[Overlap]:
        maps = model.predict(outputs)
        scale = model.vector_scale
        if scale is None or not {"vector", "semantic", "skeleton"} <= set(maps):
            return []
        host = {name: maps[name].float().cpu().numpy() for name in ("vector", "semantic", "skeleton")}
        truths = torch.where(batch.valid, batch.labels, -1).cpu().numpy()
        overlaps = []
        for i, truth in enumerate(truths):
            prediction = decode(
                host["vector"][i],
                host["semantic"][i, 0],
                host["skeleton"][i, 0],
                scale,
                batch.voxel_size,
                self.decoding,
            )
            overlaps.append(contingency(truth, np.asarray(prediction), ignore=-1))
        return overlaps
