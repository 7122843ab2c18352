"""SuperGradients' section ``checkpoint_params`` in our words: the section ``weights``, or ``pretrained`` of
the backbone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from skoots.config.fit import fit_at
from skoots.config.schema import Section, as_node
from skoots.config.words import shown
from skoots.errors import Fault, PluginError

SECTION = "checkpoint_params"
ENUM = {"on": True, "off": False, "no_key_matching": "no_key_matching"}


def _as_strict(value: Any) -> Any:
    """The members of SuperGradients' ``StrictLoad`` are understood by their names, too."""
    return ENUM.get(value.lower(), value) if isinstance(value, str) else value


class CheckpointParams(Section):
    """The keys of SuperGradients' page, with its defaults."""

    load_backbone: bool = False
    checkpoint_path: str | None = None
    strict_load: Annotated[bool | Literal["no_key_matching"], BeforeValidator(_as_strict)] = True
    pretrained_weights: str | None = None


def translate_checkpoint_params(tree: dict[str, Any]) -> list[Fault]:
    """Put our keys in the place of ``checkpoint_params``.

    Args:
        tree: the config as plain values; changed. Plugins are loaded: the backbone's class is looked at.
    """
    given = tree.pop(SECTION, None)
    if given is None:
        return []
    if not isinstance(given, dict):
        return [Fault(SECTION, f"is {shown(given)}, must be a section of keys and values")]
    given = {key: value for key, value in given.items() if value is not None}
    wanted, faults = fit_at(SECTION, given, CheckpointParams)
    if wanted.checkpoint_path is not None and wanted.pretrained_weights is not None:
        problem = "is given, and checkpoint_path too"
        faults.append(Fault(f"{SECTION}.pretrained_weights", problem, "Keep one of the two."))
    elif wanted.checkpoint_path is not None and tree.get("weights") is not None:
        problem = "is given, and weights too"
        faults.append(Fault(f"{SECTION}.checkpoint_path", problem, "Keep one of the two."))
    elif wanted.checkpoint_path is not None:
        tree["weights"] = {
            "from": wanted.checkpoint_path,
            "strict": wanted.strict_load,
            "parts": ["backbone"] if wanted.load_backbone else [],
        }
    elif wanted.pretrained_weights is not None:
        faults += _pretrain(tree, wanted.pretrained_weights)
    return faults


def _pretrain(tree: dict[str, Any], data_set: str) -> list[Fault]:
    """Have the backbone begin with weights trained on a data set, if there are such."""
    from skoots.config.arguments import signature_of
    from skoots.models.backbones.base import BACKBONES

    path = f"{SECTION}.pretrained_weights"
    if data_set.lower() != "imagenet":
        remedy = "Write imagenet, or name a file or an https address under checkpoint_path."
        return [Fault(path, f"is {shown(data_set)}, for which there are no weights", remedy)]
    model = tree.get("model")
    backbone = (model.get("backbone") if isinstance(model, dict) else None) or "UNet"
    try:
        node = as_node(backbone)
        takes = "pretrained" in signature_of(BACKBONES.get(node["type"])).parameters
    except (PluginError, PydanticCustomError):  # the backbone has a fault of its own, which is named
        return []
    if not takes:
        remedy = "Take a backbone that has some, such as TimmUNet, or leave it out."
        return [Fault(path, f"is given, but {node['type']} has no pretrained weights", remedy)]
    given = {**(node.get("params") or {}), **node}
    if given.get("pretrained") is False:
        return [Fault(path, "is given, but model.backbone.pretrained is false", "Leave one of the two out.")]
    if given.get("pretrained") is None:
        tree["model"]["backbone"] = {**node, "pretrained": True}
    return []
