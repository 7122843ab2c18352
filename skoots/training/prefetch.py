"""Batches on their way to the device while the step before is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from skoots.samples import Batch


def on_device(batches: Iterable[Batch], device: torch.device, ahead: bool = True) -> Iterator[Batch]:
    """Every batch, on the device.

    On CUDA the next batch is copied, in a stream of its own, while the one before is used; from page-locked
    memory (``train_settings.dataloader_pin_memory``) this overlaps with the computation.

    Args:
        batches: of the loader.
        device: to compute on.
        ahead: whether the next one is copied ahead.
    """
    if device.type != "cuda" or not ahead:
        for batch in batches:
            yield batch.to(device, non_blocking=True)
        return
    stream = torch.cuda.Stream(device)
    waiting: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            coming = batch.to(device, non_blocking=True)
        if waiting is not None:
            yield waiting
        # The step may use it once it is there, and its memory only once the step is done.
        torch.cuda.current_stream(device).wait_stream(stream)
        for tensor in coming.tensors().values():
            tensor.record_stream(torch.cuda.current_stream(device))
        waiting = coming
    if waiting is not None:
        yield waiting
