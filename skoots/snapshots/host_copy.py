"""A copy of a training's state in host memory: the only part of a save that stands in training's way."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Path = tuple[Any, ...]


class HostCopy:
    """Copies the tensors of a state, into the same memory each time.

    Fresh memory costs some twenty times the copy itself, because the system hands it out page by page. What
    only the next step of the optimizer changes can be copied meanwhile by another thread. Of CUDA tensors the
    copies are page-locked and asynchronous: they are ordered before whatever the stream does next."""

    def __init__(self) -> None:
        self._buffers: dict[Path, Tensor] = {}
        self._events: list[torch.cuda.Event] = []
        self._left: list[tuple[Tensor, Tensor]] = []
        self._complete = threading.Event()
        self._complete.set()

    def take(self, state: Mapping[str, Any], later: Collection[str] = ()) -> dict[str, Any]:
        """The same state with every tensor copied; dicts, lists and tuples are new, all else is shared.

        The tensors that it returned before are overwritten.

        Args:
            state: nested mappings, lists and tuples.
            later: keys of ``state`` whose tensors ``complete`` copies.
        """
        self._complete.clear()
        devices = {tensor.device for _, tensor in _tensors(state) if tensor.is_cuda}
        copied = {key: self._copied(value, (key,), key in later) for key, value in state.items()}
        self._events = [torch.cuda.current_stream(device).record_event() for device in devices]
        return copied

    def complete(self) -> None:
        """Copy what is left, in whatever thread this is called."""
        try:
            for room, tensor in self._left:
                room.copy_(tensor)
            for event in self._events:
                event.synchronize()
        finally:
            self._left = []
            self._complete.set()

    def wait(self) -> None:
        """Until another thread has completed the copies; then the state may change."""
        self._complete.wait()

    def reserve(self, state: Mapping[str, Any]) -> None:
        """Have the memory for states like this one at hand; reads nothing of the tensors but their shapes."""
        for path, tensor in list(_tensors(state)):
            self._room(tensor, path).zero_()

    def _copied(self, value: Any, path: Path, later: bool) -> Any:
        if isinstance(value, Tensor):
            room, tensor = self._room(value, path), value.detach()
            if later and not tensor.is_cuda:
                self._left.append((room, tensor))
            else:
                room.copy_(tensor, non_blocking=tensor.is_cuda)
            return room
        if isinstance(value, Mapping) and not isinstance(value, Counter):
            return {key: self._copied(item, (*path, key), later) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._copied(item, (*path, index), later) for index, item in enumerate(value))
        return value

    def _room(self, tensor: Tensor, path: Path) -> Tensor:
        """Memory of the tensor's shape, layout and type, the same as the last time if that fits."""
        path = (*path, tensor.shape, tensor.dtype, tensor.stride())
        if path not in self._buffers:
            room = torch.empty_like(tensor, device="cpu", requires_grad=False)
            self._buffers[path] = room.pin_memory() if tensor.is_cuda else room
        return self._buffers[path]


def _tensors(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor of a state with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping) and not isinstance(value, Counter):
        for key, item in value.items():
            yield from _tensors(item, (*path, key))
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            yield from _tensors(item, (*path, index))
