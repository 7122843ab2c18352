"""Weights into a model by name: what is loaded, what is reported, what is refused, and that it is all or
nothing."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel

from skoots.errors import SnapshotError
from skoots.models.backbones.unet import UNet
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.skeleton import SkeletonHead
from skoots.models.heads.vector import VectorHead
from skoots.models.segmentation_model import SegmentationModel
from skoots.models.weights import load_weights, match_weights


def module_of(shapes):
    """A module with random parameters of these names and shapes."""
    root = nn.Module()
    for name, shape in shapes.items():
        *owners, last = name.split(".")
        owner = root
        for child in owners:
            owner = owner._modules.setdefault(child, nn.Module())
        owner.register_parameter(last, nn.Parameter(torch.randn(shape)))
    return root


def tensors(shapes):
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def flat(*names, shape=(2, 3)):
    """Random tensors of one shape."""
    return tensors(dict.fromkeys(names, shape))


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one, other):
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def make_model(seed=0):
    torch.manual_seed(seed)
    heads = {
        "vector": VectorHead(4, 2, scale=6.0),
        "semantic": SemanticHead(4, 2),
        "skeleton": SkeletonHead(4, 2),
    }
    model = SegmentationModel(UNet(1, 2, (4, 8)), heads)
    with torch.no_grad():  # two models shall differ in every tensor, counters and scales too
        for value in model.state_dict().values():
            value.copy_(torch.randint(1, 1000, value.shape))
    return model


def rename(state, *changes):
    """The state under names in which each pattern is replaced."""
    for pattern, replacement in changes:
        state = {re.sub(pattern, replacement, name): value for name, value in state.items()}
    return state


# The page of SuperGradients ---------------------------------------------------------------------------------


class ModelA(torch.nn.Module):
    def __init__(self):
        super(ModelA, self).__init__()  # noqa: UP008 (as on the page)
        self.conv1 = torch.nn.Conv2d(3, 6, 5)
        self.conv2 = torch.nn.Conv2d(6, 16, 5)


class ModelB(torch.nn.Module):
    def __init__(self):
        super(ModelB, self).__init__()  # noqa: UP008 (as on the page)
        self.conv1 = torch.nn.Conv2d(3, 6, 5)
        self.CONV2 = torch.nn.Sequential(torch.nn.Conv2d(6, 16, 5))  # the page has a list in it, a TypeError


def output(model, image):
    return nn.Sequential(*model.children())(image)


@pytest.mark.parametrize("source, target", [(ModelA, ModelB), (ModelB, ModelA)])
def test_the_example_of_supergradients(source, target):
    torch.manual_seed(0)
    trained, image = source(), torch.randn(1, 3, 12, 12)

    fresh = target()
    before = state_of(fresh)
    with pytest.raises(SnapshotError, match=r"missing in the file: .*2"):
        load_weights(fresh, trained.state_dict(), strict=True)
    assert equal(fresh.state_dict(), before)

    matching = load_weights(fresh, trained.state_dict(), strict=False)
    assert list(matching.pairs) == ["conv1.weight", "conv1.bias"]
    assert torch.equal(fresh.conv1.weight, trained.conv1.weight)
    assert not torch.equal(output(fresh, image), output(trained, image))

    fresh = target()
    matching = load_weights(fresh, trained.state_dict(), strict="no_key_matching")
    assert matching.pairs == dict(zip(fresh.state_dict(), trained.state_dict()))
    assert matching.share == 1 and len(matching.renamed) == 2
    assert torch.equal(output(fresh, image), output(trained, image))


# Every mode against every kind of file ----------------------------------------------------------------------

MODEL = {"a.weight": (2, 3), "a.bias": (2,), "b.weight": (2, 3), "b.bias": (2,)}
FILES = {
    "equal": MODEL,
    "renamed": {"a.weight": (2, 3), "a.bias": (2,), "c.weight": (2, 3), "c.bias": (2,)},
    "extra": {**MODEL, "c.weight": (2, 3)},
    "missing": {name: MODEL[name] for name in ("a.weight", "a.bias", "b.weight")},
    "shape": {**MODEL, "b.weight": (4, 3)},
    "reordered": {name: MODEL[name] for name in ("b.weight", "b.bias", "a.weight", "a.bias")},
    "nothing": {"stem.kernel": (5,), "stem.gain": (1,)},
}
SAME = {name: name for name in MODEL}
A = {name: name for name in ("a.weight", "a.bias")}
NOTHING = ["No tensor in the file fits the model", "stem.kernel (5,)", "a.weight (2, 3)"]
OUTCOMES = {
    ("equal", True): (SAME, {}),
    ("equal", False): (SAME, {}),
    ("equal", "no_key_matching"): (SAME, {}),
    ("renamed", True): [
        "missing in the file: b.weight",
        "b.bias",
        "unexpected in the file: c.weight",
        "c.bias",
    ],
    ("renamed", False): (A, {"missing": ("b.weight", "b.bias"), "unexpected": ("c.weight", "c.bias")}),
    ("renamed", "no_key_matching"): ({**A, "b.weight": "c.weight", "b.bias": "c.bias"}, {}),
    ("extra", True): ["unexpected in the file: c.weight"],
    ("extra", False): (SAME, {"unexpected": ("c.weight",)}),
    ("extra", "no_key_matching"): ["differ in number", "0 in the model", "1 in the file: c.weight"],
    ("missing", True): ["missing in the file: b.bias"],
    ("missing", False): ({**A, "b.weight": "b.weight"}, {"missing": ("b.bias",)}),
    ("missing", "no_key_matching"): ["differ in number", "1 in the model: b.bias", "0 in the file"],
    ("shape", True): ["of another shape: b.weight (model (2, 3), file (4, 3))"],
    ("shape", False): ({**A, "b.bias": "b.bias"}, {"mismatched": {"b.weight": ((2, 3), (4, 3))}}),
    ("shape", "no_key_matching"): ["differ in shape", "b.weight (4, 3) -> b.weight (2, 3)"],
    ("reordered", True): (SAME, {}),
    ("reordered", False): (SAME, {}),
    ("reordered", "no_key_matching"): (SAME, {}),
    ("nothing", True): NOTHING,
    ("nothing", False): NOTHING,
    ("nothing", "no_key_matching"): [
        "differ in number",
        "4 in the model: a.weight",
        "2 in the file: stem.kernel",
    ],
}


@pytest.mark.parametrize("kind, strict", OUTCOMES)
def test_every_mode_against_every_kind_of_file(kind, strict):
    module, offered, outcome = module_of(MODEL), tensors(FILES[kind]), OUTCOMES[kind, strict]
    before = state_of(module)
    if isinstance(outcome, list):
        with pytest.raises(SnapshotError) as error:
            load_weights(module, offered, strict)
        assert not [words for words in outcome if words not in str(error.value)], error.value
        assert equal(module.state_dict(), before)
        return
    pairs, rest = outcome
    matching = load_weights(module, offered, strict)
    assert matching.pairs == pairs
    found = {kind: getattr(matching, kind) for kind in ("missing", "unexpected", "mismatched")}
    assert found == {"missing": (), "unexpected": (), "mismatched": {}, **rest}
    numbers = {name: before[name].numel() for name in before}
    assert matching.share == sum(numbers[name] for name in pairs) / sum(numbers.values())
    expected = {name: offered[pairs[name]] if name in pairs else before[name] for name in before}
    assert equal(module.state_dict(), expected)


def test_the_refusal_lists_all_that_differs_and_what_to_do():
    model = {**{f"old{i}.weight": (2,) for i in range(30)}, "wide.weight": (2, 3), "same.weight": (1,)}
    offered = tensors(
        {**{f"new{i}.weight": (2,) for i in range(30)}, "wide.weight": (3,), "same.weight": (1,)}
    )
    with pytest.raises(SnapshotError) as error:
        load_weights(module_of(model), offered)
    lines = str(error.value).splitlines()
    assert lines[1:-1] == [
        *(f"  - missing in the file: old{i}.weight" for i in range(30)),
        *(f"  - unexpected in the file: new{i}.weight" for i in range(30)),
        "  - of another shape: wide.weight (model (2, 3), file (3,))",
    ]
    for remedy in ("weights.strict: false", "no_key_matching", "weights.parts"):
        assert remedy in lines[-1]


# No key matching: names before order, and order only where no name speaks against it ------------------------


def test_namesakes_come_before_order():
    """D12 of SuperGradients: by order alone, q goes into k."""
    module, offered = module_of({"k.weight": (2, 3), "q2.weight": (2, 3)}), flat("q.weight", "k.weight")
    matching = load_weights(module, offered, "no_key_matching")
    assert matching.pairs == {"k.weight": "k.weight", "q2.weight": "q.weight"}
    assert torch.equal(module.k.weight, offered["k.weight"])
    assert torch.equal(module.q2.weight, offered["q.weight"])


@pytest.mark.parametrize(
    "theirs, ours",
    [
        (["conv2"], ["CONV2.0"]),
        (["layer1", "layer2"], ["block1", "block2"]),
        (["layer1.0.conv1", "layer1.0.conv2"], ["layer1.conv1", "layer1.conv2"]),
        (["net.0", "net.2", "net.4"], ["body.1", "body.3", "body.5"]),
        (["enc.conv", "dec.conv"], ["encoder.conv", "decoder.conv"]),
        (["encoder", "decoder"], ["backbone", "head"]),
        (["p", "q"], ["x", "y"]),
        (["left_arm.fc", "rightArm.fc"], ["arms.Left.fc", "arms.Right.fc"]),
        (["enc.1", "enc.12"], ["down.1", "down.12"]),
        (["a", "b.r.s"], ["x.p.q", "y"]),
        # of the namesakes two have changed places, but neither is at stake
        (["net.b", "net", "x"], ["net", "net.b", "y"]),
    ],
)
def test_plain_renaming_is_found(theirs, ours):
    theirs, ours = ([f"{name}.weight" for name in names] for names in (theirs, ours))
    pairs = match_weights(flat(*ours), flat(*theirs), "no_key_matching").pairs
    assert pairs == {m: m if m in theirs else f for m, f in zip(ours, theirs)}


@pytest.mark.parametrize(
    "theirs, ours, doubt",
    [
        (["enc", "dec"], ["decoder", "encoder"], "enc.weight -> decoder.weight, but encoder.weight"),
        (["ENC", "DEC"], ["decoder", "encoder"], "ENC.weight -> decoder.weight, but encoder.weight"),
        (["layer1", "layer2"], ["block2", "block1"], "layer2.weight -> block1.weight, but block2.weight"),
        (["x.1.2", "x.2.1"], ["y.2.1", "y.1.2"], "x.1.2.weight -> y.2.1.weight, but y.1.2.weight"),
        (["enc.1", "enc.12"], ["down.12", "down.1"], "enc.12.weight -> down.1.weight, but down.12.weight"),
        (["a", "b", "c"], ["x.b", "x.c", "x.a"], "a.weight -> x.b.weight, but x.a.weight"),
        # one layer more in front, so that all numbers have moved: the namesakes are not the same layers
        (["l.0", "l.1", "l.2"], ["l.1", "l.2", "l.3"], "l.0.weight -> l.3.weight, but l.1.weight"),
        (["a", "b"], ["x", "a"], "b.weight -> x.weight, but a.weight"),
    ],
)
def test_an_order_that_names_speak_against_is_refused(theirs, ours, doubt):
    theirs, ours = ([f"{name}.weight" for name in names] for names in (theirs, ours))
    with pytest.raises(SnapshotError, match="the names speak against the order") as error:
        match_weights(flat(*ours), flat(*theirs), "no_key_matching")
    assert doubt in str(error.value) and "Rename the tensors" in str(error.value)


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ({"x.weight": (2,), "x.bias": (2,)}, {"y.bias": (2,), "y.weight": (2,)}),
        ({"x.weight": (2,), "x.gamma": (2,)}, {"y.weight": (2,), "y.bias": (2,)}),
        ({"x.weight": (2, 3), "z.weight": (3, 2)}, {"y.weight": (3, 2), "w.weight": (2, 3)}),
    ],
)
def test_pairs_of_another_kind_are_refused(theirs, ours):
    with pytest.raises(SnapshotError, match=r"differ in shape or last name") as error:
        match_weights(tensors(ours), tensors(theirs), "no_key_matching")
    source, name = list(theirs)[-1], list(ours)[-1]
    assert f"{source} {theirs[source]} -> {name} {ours[name]}" in str(error.value)


def test_names_of_another_kind_cannot_be_confused():
    """What resembles the file's name as well has another shape or last name: there is only one way."""
    ours, theirs = flat("a.bias", "y.weight"), flat("x.weight", "a.bias")
    assert match_weights(ours, theirs, "no_key_matching").renamed == {"y.weight": "x.weight"}
    ours = {"x.enc.weight": (2, 2), "x.dec.weight": (3, 3)}
    theirs = {"y.dec.weight": (2, 2), "y.enc.weight": (3, 3)}
    assert match_weights(tensors(ours), tensors(theirs), "no_key_matching").renamed == dict(zip(ours, theirs))


WORDS = st.sampled_from(["conv", "norm", "up", "1", "2"])
PATHS = st.lists(WORDS, min_size=1, max_size=3).map(".".join)
LEAVES = st.sampled_from(["weight", "bias"])
SHAPES = st.sampled_from([(2,), (3,), ()])
NETWORKS = st.lists(
    st.tuples(PATHS, LEAVES, SHAPES), min_size=1, max_size=12, unique_by=lambda entry: entry[:2]
).map(lambda entries: {f"{path}.{leaf}": shape for path, leaf, shape in entries})


@given(NETWORKS, PATHS | st.just("encoder"), PATHS | st.just("backbone"))
@settings(max_examples=150, deadline=None)
def test_renaming_a_prefix_is_always_found(network, old, new):
    """Whatever the words, also if those of the prefix come again inside."""
    assume(not f"{old}.".startswith(f"{new}.") and not f"{new}.".startswith(f"{old}."))
    ours = {f"{new}.{name}": torch.Size(shape) for name, shape in network.items()}
    theirs = {f"{old}.{name}": torch.zeros(shape) for name, shape in network.items()}
    matching = match_weights(ours, theirs, "no_key_matching")
    assert matching.pairs == {f"{new}.{name}": f"{old}.{name}" for name in network}


@given(NETWORKS, st.data())
@settings(max_examples=150, deadline=None)
def test_no_wrong_pair_passes(network, data):
    """In another order, the same renaming is refused, unless nothing has moved."""
    names = data.draw(st.permutations(list(network)))
    ours = {f"backbone.{name}": torch.Size(shape) for name, shape in network.items()}
    theirs = {f"encoder.{name}": torch.zeros(network[name]) for name in names}
    if names == list(network):
        assert len(match_weights(ours, theirs, "no_key_matching").renamed) == len(network)
    else:
        with pytest.raises(SnapshotError):
            match_weights(ours, theirs, "no_key_matching")


def test_a_network_of_many_tensors():
    """1,500 of them in four kinds; comparing name by name would take minutes."""

    def network(prefix, first, second):
        layers = [
            f"{prefix}.{i // 25}.{i % 25}.{part}" for i in range(125) for part in (first, second, "mlp.fc")
        ]
        last = {"weight": (8, 8), "bias": (8,), "running_mean": (8,), "num_batches_tracked": ()}
        return {f"{layer}.{name}": torch.zeros(shape) for layer in layers for name, shape in last.items()}

    ours, theirs = network("backbone.stages", "conv1", "norm"), network("encoder.layers", "cnv.1", "ln")
    matching = match_weights(ours, theirs, "no_key_matching")
    assert len(matching.pairs) == 1500 and matching.pairs == dict(zip(ours, theirs))
    swapped = [
        name.replace(".0.7.", ".0.x.").replace(".4.3.", ".0.7.").replace(".0.x.", ".4.3.") for name in theirs
    ]
    with pytest.raises(
        SnapshotError, match=r"encoder\.layers\.4\.3\.cnv\.1\.weight -> backbone\.stages\.0\.7"
    ) as error:
        match_weights(ours, dict(zip(swapped, theirs.values())), "no_key_matching")
    assert "and 4 more" in str(error.value)  # of 24 that were swapped


# Nothing loaded is an error ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [True, False, "no_key_matching"])
@pytest.mark.parametrize("theirs", [{}, {"x.weight": (7,)}, {"epoch": None}])
def test_nothing_loaded_is_an_error(strict, theirs):
    """D13 of SuperGradients: it logs success."""
    offered = {name: "ten" if shape is None else torch.zeros(shape) for name, shape in theirs.items()}
    with pytest.raises(SnapshotError):
        load_weights(module_of(MODEL), offered, strict)


def test_names_that_agree_in_no_shape_are_nothing():
    with pytest.raises(SnapshotError, match=r"The file has a.weight \(9,\); the model has a.weight \(2, 3\)"):
        load_weights(module_of({"a.weight": (2, 3)}), flat("a.weight", shape=(9,)), strict=False)


# Parts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [True, False, "no_key_matching"])
@pytest.mark.parametrize("alone", [False, True])
def test_the_backbone_from_a_whole_model_or_from_a_backbone(strict, alone):
    """D14 of SuperGradients: of a whole model it loads nothing, or the stem into the backbone."""
    trained, fresh = make_model(1), make_model(2)
    before = state_of(fresh)
    offered = (trained.backbone if alone else trained).state_dict()
    matching = load_weights(fresh, offered, strict, parts=["backbone"])
    assert equal(fresh.backbone.state_dict(), trained.backbone.state_dict())
    for name, value in fresh.heads.state_dict().items():
        assert torch.equal(value, before[f"heads.{name}"])
    count = len(trained.backbone.state_dict())
    assert matching.summary() == f"loaded {count} of {count} tensors of backbone (100.0 % of the parameters)"
    assert matching.unexpected == () and matching.parts == ("backbone",)


def test_a_renamed_backbone_goes_into_the_backbone():
    trained, fresh = make_model(1), make_model(2)
    offered = rename(trained.state_dict(), (r"backbone\.down", "backbone.contract"))
    with pytest.raises(SnapshotError, match=r"unexpected in the file: backbone\.contract"):
        load_weights(fresh, offered, parts=["backbone"])
    load_weights(fresh, offered, "no_key_matching", ["backbone"])
    assert equal(fresh.backbone.state_dict(), trained.backbone.state_dict())


TRAP = {"heads.bodypart.weight": (2, 3), "heads.bodypart_extra.weight": (2, 3), "neck.weight": (2, 3)}


def test_a_part_ends_at_a_dot():
    module, offered = module_of(TRAP), tensors(TRAP)
    before = state_of(module)
    matching = load_weights(module, offered, parts=["heads.bodypart"])
    assert list(matching.pairs) == ["heads.bodypart.weight"]
    assert torch.equal(module.heads.bodypart_extra.weight, before["heads.bodypart_extra.weight"])
    del offered["heads.bodypart.weight"]
    with pytest.raises(SnapshotError, match=r"fits the part 'heads\.bodypart'"):
        load_weights(module, offered, parts=["heads.bodypart"])


def test_several_parts():
    module, offered = module_of(TRAP), tensors(TRAP)
    matching = load_weights(module, offered, parts=["heads", "heads.bodypart", "heads"])
    assert sorted(matching.pairs) == ["heads.bodypart.weight", "heads.bodypart_extra.weight"]
    assert matching.parts == ("heads",)
    assert load_weights(module, offered, parts=["heads.bodypart", "neck"]).share == 1
    renamed = rename(offered, (r"\.weight", ".0.weight"))
    pairs = load_weights(module, renamed, "no_key_matching", ["neck", "heads"]).pairs
    assert pairs["neck.weight"] == "neck.0.weight" and len(pairs) == 3


@pytest.mark.parametrize("strict", [True, False, "no_key_matching"])
def test_each_part_gets_something(strict):
    offered = flat("heads.bodypart.weight")
    with pytest.raises(SnapshotError, match="neck"):
        load_weights(module_of(TRAP), offered, strict, parts=["heads.bodypart", "neck"])


def test_nothing_is_renamed_from_part_to_part():
    offered = flat("heads.x.weight", "heads.y.weight")
    with pytest.raises(SnapshotError, match="no namesake in heads, but these differ in number"):
        load_weights(
            module_of({"heads.weight": (2, 3), "neck.weight": (2, 3)}),
            offered,
            "no_key_matching",
            ["heads", "neck"],
        )


def test_strict_covers_each_tensor_of_a_part():
    shapes = {"backbone.a.weight": (2,), "backbone.b.weight": (2,), "neck.weight": (3,)}
    with pytest.raises(SnapshotError, match=r"missing in the file: backbone.b.weight") as error:
        load_weights(module_of(shapes), flat("backbone.a.weight", "stem.x", shape=(2,)), parts=["backbone"])
    assert "neck" not in str(error.value) and "stem" not in str(error.value)
    with pytest.raises(SnapshotError, match=r"unexpected in the file: backbone\.c\.weight"):
        bare = flat("a.weight", "b.weight", "c.weight", shape=(2,))
        load_weights(module_of(shapes), bare, parts=["backbone"])


@pytest.mark.parametrize(
    "part, hint",
    [
        ("bakbone", "Did you mean backbone?"),
        ("heads.vektor", "Did you mean heads.vector"),
        ("decoder", "Known: backbone, heads."),
        ("", "Known: backbone, heads."),
    ],
)
def test_a_part_that_the_model_lacks(part, hint):
    model = make_model()
    with pytest.raises(SnapshotError, match=f"no weights in '{part}'") as error:
        load_weights(model, model.state_dict(), parts=[part])
    assert hint in str(error.value)


# Wrappers ---------------------------------------------------------------------------------------------------


class Compiled(nn.Module):
    """The names of ``torch.compile``, without the seconds that importing its compiler takes."""

    def __init__(self, module):
        super().__init__()
        self._orig_mod = module


def compiled_backbone(model):
    model.backbone = Compiled(model.backbone)
    return model


WRAPPERS = {
    "bare": lambda model: model,
    "compiled": Compiled,
    "parallel": nn.DataParallel,
    "parallel of compiled": lambda model: nn.DataParallel(Compiled(model)),
    "compiled of parallel": lambda model: Compiled(nn.DataParallel(model)),
    "twice parallel": lambda model: nn.DataParallel(nn.DataParallel(model)),
    "compiled inside": compiled_backbone,
}


@pytest.mark.parametrize("theirs", WRAPPERS)
@pytest.mark.parametrize("ours", WRAPPERS)
def test_wrappers_leave_no_trace(theirs, ours):
    """D17 of SuperGradients: the names of a compiled model fit no plain one."""
    shapes = {"backbone.conv.weight": (2, 3), "heads.conv.weight": (2, 3)}
    trained, fresh = module_of(shapes), module_of(shapes)
    weights = state_of(trained)
    wrapped = WRAPPERS[ours](fresh)
    matching = load_weights(wrapped, WRAPPERS[theirs](trained).state_dict())
    assert matching.pairs == {name: name for name in shapes}
    assert [torch.equal(p, weights[n]) for n, p in zip(shapes, wrapped.state_dict().values())] == [True, True]


def test_a_part_of_a_wrapped_model():
    trained, fresh = make_model(1), make_model(2)
    load_weights(nn.DataParallel(fresh), Compiled(trained).state_dict(), parts=["heads.vector"])
    assert equal(fresh.heads["vector"].state_dict(), trained.heads["vector"].state_dict())
    load_weights(Compiled(fresh), nn.DataParallel(trained.backbone).state_dict(), parts=["backbone"])
    assert equal(fresh.backbone.state_dict(), trained.backbone.state_dict())


def test_an_averaged_model_brings_its_counter():
    averaged, fresh = AveragedModel(nn.Linear(3, 2)), nn.Linear(3, 2)
    matching = load_weights(fresh, averaged.state_dict(), strict=False)
    assert matching.unexpected == ("n_averaged",)
    assert torch.equal(fresh.weight, averaged.module.weight)


@pytest.mark.parametrize(
    "shapes",
    [
        {"module.conv.weight": (2, 3), "head.weight": (2, 3)},
        {"net.module.weight": (2, 3), "module.module.weight": (2, 3)},
        {"scale": (2,), "module.scale": (2,)},
    ],
)
def test_a_child_that_is_called_module_keeps_its_name(shapes):
    trained, fresh = module_of(shapes), module_of(shapes)
    assert load_weights(fresh, trained.state_dict()).pairs == {name: name for name in shapes}
    assert equal(fresh.state_dict(), trained.state_dict())
    load_weights(fresh, nn.DataParallel(module_of(shapes)).state_dict())
    assert not equal(fresh.state_dict(), trained.state_dict())


# The realistic model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        [("backbone", "encoder")],
        [
            ("heads", "outputs"),
            (r"backbone\.down", "backbone.encoder"),
            (r"backbone\.up", "backbone.decoder"),
        ],
        [(r"\b(\w+)\.conv\.", r"conv_\1.0.")],
        [("semantic", "sem"), ("skeleton", "skel")],
    ],
)
def test_a_renamed_model_gives_the_same_outputs(changes):
    trained, fresh = make_model(1).eval(), make_model(2).eval()
    offered = rename(trained.state_dict(), *changes)
    assert list(offered) != list(trained.state_dict())
    with pytest.raises(SnapshotError):
        load_weights(fresh, offered)
    matching = load_weights(fresh, offered, "no_key_matching")
    assert list(matching.pairs.items()) == list(zip(fresh.state_dict(), offered))
    assert equal(fresh.state_dict(), trained.state_dict())
    image = torch.rand(1, 1, 8, 8)
    assert torch.equal(fresh(image)["vector"]["vector"], trained(image)["vector"]["vector"])


def test_heads_that_changed_places_are_refused():
    """Both have one channel, so that shapes cannot tell them apart."""
    trained = make_model(1)
    offered = rename(
        trained.state_dict(),
        ("semantic", "other"),
        ("skeleton", "sem"),
        ("other", "skel"),
        ("heads", "outputs"),
    )
    with pytest.raises(SnapshotError, match=r"outputs\.skel\.conv\.weight -> heads\.semantic\.conv\.weight"):
        load_weights(make_model(2), offered, "no_key_matching")


# Copying ----------------------------------------------------------------------------------------------------


def test_a_file_of_another_dtype_and_of_plain_numbers():
    fresh = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    weight, counter = fresh[0].weight, fresh[1].num_batches_tracked
    offered = {name: torch.full(value.shape, 0.5).half() for name, value in fresh.state_dict().items()}
    offered["1.num_batches_tracked"] = 7
    load_weights(fresh, offered)
    assert fresh[0].weight is weight and weight.dtype == torch.float32 and weight.unique().tolist() == [0.5]
    assert fresh[1].num_batches_tracked is counter and counter.dtype == torch.int64 and counter.item() == 7


def test_loading_leaves_parameters_that_can_learn():
    fresh, source = nn.Linear(3, 2), nn.Linear(3, 2)
    load_weights(fresh, dict(source.named_parameters()))
    assert fresh.weight.is_leaf and fresh.weight.requires_grad and fresh.weight.grad_fn is None
    fresh(torch.ones(1, 3)).sum().backward()
    assert source.weight.grad is None and fresh.weight.grad is not None


def test_tied_weights_stay_tied():
    fresh = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    fresh["b"].weight = fresh["a"].weight
    source = state_of(fresh)
    source["a.weight"] = source["b.weight"] = torch.ones(2, 2)
    assert len(load_weights(fresh, source).pairs) == 4
    assert fresh["a"].weight is fresh["b"].weight and fresh["a"].weight.eq(1).all()


# The log ----------------------------------------------------------------------------------------------------


def test_one_sentence_for_the_log():
    ours = {**{f"a{i}.weight": (1,) for i in range(7)}, "b.weight": (10, 9), "c.weight": (3,)}
    theirs = {"b.weight": (10, 9), "c.weight": (4,), "d.weight": (1,)}
    matching = match_weights(tensors(ours), tensors(theirs), strict=False)
    assert matching.summary() == (
        "loaded 1 of 9 tensors (90.0 % of the parameters); "
        "7 missing: a0.weight, a1.weight, a2.weight, a3.weight, a4.weight and 2 more; "
        "1 unexpected: d.weight; 1 of another shape: c.weight (model (3,), file (4,))"
    )
    renamed = match_weights(flat("x.weight"), flat("y.weight"), "no_key_matching")
    assert renamed.summary() == (
        "loaded 1 of 1 tensors (100.0 % of the parameters); 1 renamed: y.weight -> x.weight"
    )
