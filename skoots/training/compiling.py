"""``torch.compile``, if it works here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

log = logging.getLogger("skoots")


def compiler(
    mode: str | bool, shape: Sequence[int], device: torch.device
) -> Callable[[nn.Module], nn.Module]:
    """What makes of a network its compiled form.

    The form is tried out on one batch of zeros. Where it does not work (no C++ compiler, an operator that it
    does not know), the log says why and the network stays as it is.

    Args:
        mode: of ``torch.compile``; True is its default, False compiles nothing.
        shape: of the batches, (B, C, *S).
        device: where the network lies.
    """

    def compiled(network: nn.Module) -> nn.Module:
        if mode is False:
            return network
        form: Any = torch.compile(network, mode=None if mode is True else str(mode))
        buffers = [buffer.clone() for buffer in network.buffers()]
        try:
            outputs = form(torch.zeros(*shape, device=device))
            sum(value.sum() for head in outputs.values() for value in head.values()).backward()
        except Exception as error:  # whatever the compiler, or the compiler's compiler, raises
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            log.warning("runner.compile does not work here (%s); training goes on without it.", reason)
            torch.compiler.reset()
            return network
        finally:
            network.zero_grad(set_to_none=True)
            with torch.no_grad():
                for buffer, before in zip(network.buffers(), buffers):
                    buffer.copy_(before)
        return form

    return compiled
