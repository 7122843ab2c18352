"""Model files of the original SKOOTS, written without its library, and its network written out plainly."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


class CfgNode(dict):  # type: ignore[type-arg]
    """As of yacs, which the original keeps its config in."""


CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"


class Pickled:
    """A pickle module that takes our word for where a class is from."""

    Unpickler, load, loads = pickle.Unpickler, pickle.load, pickle.loads

    class Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
        def save_global(self, obj: Any, name: str | None = None) -> None:
            if obj is CfgNode:
                self.write(b"cyacs.config\nCfgNode\n")
                self.memoize(obj)
            else:
                super().save_global(obj, name)

        dispatch = {**pickle._Pickler.dispatch, type: save_global}  # type: ignore[attr-defined]  # noqa: RUF012


def save(content: Any, path: Path) -> Path:
    """Write a file as the original did."""
    torch.save(content, path, pickle_module=Pickled, pickle_protocol=2)
    return path


def config_node(sections: Mapping[str, Any]) -> CfgNode:
    """A config as yacs pickles it, with the attributes of its nodes."""
    node = CfgNode(
        {key: config_node(value) if isinstance(value, Mapping) else value for key, value in sections.items()}
    )
    node.__dict__.update({"__immutable__": False, "__deprecated_keys__": set(), "__renamed_keys__": {}})
    return node


def write_model(path: Path, weights: Weights, sections: Mapping[str, Any] | None = None, **more: Any) -> Path:
    """A model file after two epochs.

    Args:
        path: the file.
        weights: of the network.
        sections: of the config.
        more: keys that differ; None leaves one out.
    """
    content = {
        "cfg": config_node(sections or {}),
        "model_state_dict": weights,
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "avg_epoch_loss": [9999999999.9999999999, 1.5, 1.1],
        "dataset_mean": 90.0,
        "dataset_std": 30.0,
        **more,
    }
    return save({key: value for key, value in content.items() if value is not None}, path)


def random_weights(
    dims: Sequence[int] = (3, 5, 3),
    depths: Sequence[int] = (1, 2, 1),
    kernel: int = 3,
    out_channels: int = 4,
    in_channels: int = 1,
    factors: bool = True,
) -> Weights:
    """Weights under the names of the original."""
    weights: Weights = {}
    levels = len(dims) // 2 + 1

    def conv(name: str, inputs: int, outputs: int, edge: int) -> None:
        weights[f"{name}.weight"] = torch.randn(outputs, inputs, *(edge,) * 3) / (inputs * edge**3) ** 0.5
        weights[f"{name}.bias"] = torch.randn(outputs) / 3

    def linear(name: str, inputs: int, outputs: int) -> None:
        weights[f"{name}.weight"] = torch.randn(outputs, inputs) / inputs**0.5
        weights[f"{name}.bias"] = torch.randn(outputs) / 3

    def norm(name: str, channels: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.rand(channels) + 0.5, torch.randn(channels)

    def block(name: str, channels: int) -> None:
        if factors:
            weights[f"{name}.gamma"] = torch.rand(channels) + 0.5
        conv(f"{name}.dwconv", 1, channels, kernel)
        norm(f"{name}.norm", channels)
        linear(f"{name}.pwconv1", channels, 4 * channels)
        linear(f"{name}.pwconv2", 4 * channels, channels)

    def resize(name: str, inputs: int, outputs: int) -> None:
        norm(f"{name}.norm", inputs)
        conv(f"{name}.compress", inputs, outputs, 3)

    conv("backbone.init_stage.0", in_channels, dims[0], 7)
    block("backbone.init_stage.1", dims[0])
    for i in range(levels):
        above = dims[max(i - 1, 0)]
        conv(f"backbone.downsample_layers.{i}.{int(i > 0)}", above, dims[i], 2)
        norm(f"backbone.downsample_layers.{i}.{int(i == 0)}", above)
        norm(f"backbone.down_norms.{i}", dims[i])
        for j in range(depths[i]):
            block(f"backbone.down_stages.{i}.{j}", dims[i])
    for i, (below, here) in enumerate(itertools.pairwise(dims[levels - 1 :])):
        resize(f"backbone.upsample_layers.{i}", below, here)
        conv(f"backbone.concat.{i}.conv", 2 * here, here, 1)
        for j in range(depths[levels + i]):
            block(f"backbone.up_stages.{i}.{j}", here)
        norm(f"backbone.up_norms.{i}", here)
    resize("backbone.upscale_out", dims[-1], dims[-1])
    conv("backbone.final_concat.conv", 2 * dims[-1], dims[-1], 1)
    conv("backbone.out_conv", dims[-1], out_channels, 1)
    for name, channels in (("out_embed", 3), ("out_prob", 1), ("out_skeleton", 1)):
        conv(name, out_channels, channels, 3)
    return weights


def plain_network(weights: Weights, images: Tensor, activation: Any = F.gelu) -> dict[str, Tensor]:
    """The original's network in its own order of axes.

    Args:
        weights: by the original's names.
        images: (B, C, row, column, section).
        activation: within blocks.
    """

    def conv(name: str, x: Tensor, **how: Any) -> Tensor:
        return F.conv3d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **how)

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        pair = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.layer_norm(last, last.shape[-1:], *pair, 1e-6).movedim(-1, 1)

    def blocks(stage: str, x: Tensor, first: int = 0) -> Tensor:
        for j in itertools.count(first):
            name = f"{stage}.{j}"
            if f"{name}.dwconv.weight" not in weights:
                return x
            padding = weights[f"{name}.dwconv.weight"].shape[-1] // 2
            inner = norm(f"{name}.norm", conv(f"{name}.dwconv", x, padding=padding, groups=x.shape[1]))
            inner = activation(linear(f"{name}.pwconv1", inner.movedim(1, -1)))
            inner = weights.get(f"{name}.gamma", torch.ones(1)) * linear(f"{name}.pwconv2", inner)
            x = x + inner.movedim(-1, 1)
        raise AssertionError

    def resized(name: str, x: Tensor, like: Tensor) -> Tensor:
        larger = F.interpolate(x, size=like.shape[2:], mode="nearest")
        return conv(f"{name}.compress", norm(f"{name}.norm", larger), padding=1)

    x = blocks("backbone.init_stage", conv("backbone.init_stage.0", images, padding=3), first=1)
    skips = []
    for i in itertools.count():
        if f"backbone.down_norms.{i}.weight" not in weights:
            break
        skips.append(x)
        down = f"backbone.downsample_layers.{i}"
        if i == 0:
            x = norm(f"{down}.1", conv(f"{down}.0", x, stride=2))
        else:
            x = conv(f"{down}.1", norm(f"{down}.0", x), stride=2)
        x = blocks(f"backbone.down_stages.{i}", norm(f"backbone.down_norms.{i}", x))
    for i, skip in enumerate(reversed(skips[1:])):
        x = torch.cat([resized(f"backbone.upsample_layers.{i}", x, skip), skip], 1)
        x = blocks(f"backbone.up_stages.{i}", conv(f"backbone.concat.{i}.conv", x))
        x = norm(f"backbone.up_norms.{i}", x)
    x = torch.cat([resized("backbone.upscale_out", x, skips[0]), skips[0]], 1)
    x = conv("backbone.out_conv", conv("backbone.final_concat.conv", x))
    return {
        "vector": conv("out_embed", x, padding=1).tanh(),
        "semantic": conv("out_prob", x, padding=1).sigmoid(),
        "skeleton": conv("out_skeleton", x, padding=1).sigmoid(),
    }
