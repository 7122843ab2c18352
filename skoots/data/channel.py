"""Objects between two processes, over a pair of sockets.

Arrays go as they lie in memory, and no shared memory is needed, of which containers have little (64 MiB in
Docker). Either end sees at once that the other one is gone.
"""

from __future__ import annotations

import io
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        # As an array, which leaves its bytes out of the pickle; torch would put them into shared memory.
        return (torch.from_numpy, (thing.numpy(),)) if type(thing) is Tensor else NotImplemented


def pack(thing: Any) -> list[memoryview]:
    """An object as it is sent: its pickle, and the bytes of its arrays.

    Args:
        thing: anything that can be pickled; tensors lie on the CPU.
    """
    arrays: list[pickle.PickleBuffer] = []
    text = io.BytesIO()
    _Pickler(text, protocol=5, buffer_callback=arrays.append).dump(thing)
    return [text.getbuffer(), *(array.raw() for array in arrays)]


def send(end: socket.socket, parts: Sequence[memoryview]) -> None:
    """Hand a packed object to the process at the other end; waits until it is taken.

    Args:
        end: one of a pair of connected sockets.
        parts: of ``pack``.

    Raises:
        OSError: the other end is gone.
    """
    end.sendall(struct.pack(f"!{len(parts) + 1}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        end.sendall(part)


def receive(end: socket.socket) -> Any:
    """Wait for the next object from the other end.

    Raises:
        EOFError: the other end is gone.
    """
    (count,) = struct.unpack("!Q", _read(end, 8))
    sizes = struct.unpack(f"!{count}Q", _read(end, 8 * count))
    text, *arrays = [_read(end, size) for size in sizes]
    return pickle.loads(text, buffers=arrays)


def _read(end: socket.socket, size: int) -> memoryview:
    data = np.empty(size, np.uint8).data  # a bytearray would be filled with zeros first
    left = data
    while left:
        try:
            count = end.recv_into(left)
        except ConnectionError as error:
            raise EOFError from error
        if not count:
            raise EOFError
        left = left[count:]
    return data
