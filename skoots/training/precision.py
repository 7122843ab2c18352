"""In which number format the network computes; losses are always in float32."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from torch.amp import GradScaler

from skoots.errors import ConfigError, Fault

Format = Literal["float32", "tf32", "bfloat16", "float16"]
AUTOCAST: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
log = logging.getLogger("skoots")


def choose_format(device: torch.device) -> tuple[Format, str]:
    """What ``runner.precision: auto`` means, and why.

    Args:
        device: where the network lies.
    """
    if device.type != "cuda":
        return "float32", f"no shorter format is known to be faster on {device.type}"
    with torch.cuda.device(device):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "this GPU computes in it, and its range is that of float32"
    return "float32", "this GPU does not compute in bfloat16; float16 has to be asked for"


class Precision:
    """The number format of the forward pass on a device, see ``torch.amp``.

    Args:
        name: ``float32``; ``tf32`` (matrix products and convolutions on CUDA with short mantissas);
            ``bfloat16`` or ``float16`` (autocast, the latter with a scaled loss).
        device: where the network lies.

    Raises:
        ConfigError: ``float16`` without CUDA, where its range is not enough and nothing is faster.
    """

    def __init__(self, name: Format = "float32", device: torch.device | str = "cpu") -> None:
        assert name in get_args(Format)
        self.name, self.kind = name, torch.device(device).type
        if name == "float16" and self.kind != "cuda":
            problem = f"is float16, which needs CUDA; this training is on {self.kind}"
            raise ConfigError([Fault("runner.precision", problem, "Write float32")])

    def autocast(self) -> AbstractContextManager[object]:
        """For the forward pass; a loss outside of it is in float32."""
        if self.name not in AUTOCAST:
            return nullcontext()
        return torch.autocast(self.kind, dtype=AUTOCAST[self.name])

    def scaler(self) -> GradScaler | None:
        """Of the loss, so that small gradients do not vanish; only float16 has so short a range."""
        return GradScaler(self.kind) if self.name == "float16" else None

    def apply(self) -> None:
        """Set what torch keeps for the whole process, and say what is to be expected of the format here."""
        # Torch refuses to read these two, as its compiler does, once their newer names were written.
        torch.set_float32_matmul_precision("high" if self.name == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = self.name == "tf32"
        if self.name == "bfloat16" and self.kind == "cpu":
            log.warning(
                "runner.precision: convolutions in bfloat16 are hundreds of times slower than float32 on "
                "many CPUs."
            )
        if self.name == "tf32" and self.kind != "cuda":
            log.warning("runner.precision: tf32 has no effect without CUDA.")
