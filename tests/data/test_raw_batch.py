"""``augment_on: device``: the batch made where it is moved to is the batch that the CPU makes."""

from __future__ import annotations

import copy
import gc
import pickle
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skoots.data import resident
from skoots.data.augment import PRESETS
from skoots.data.augment.elastic import Elastic
from skoots.data.augment.intensity import Blur, BrightnessContrast, Gamma, Invert, Noise
from skoots.data.augment.linear import Rotate, Scale, Shear, Translate
from skoots.data.augment.sections import MissingSections, SectionJitter, ShiftedSections
from skoots.data.augment.turns import Flip, SwapAxes
from skoots.data.dataset import CropDataset
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.loaders import train_loader
from skoots.data.normalize import measure_intensity
from skoots.data.raw_batch import RawBatch
from skoots.data.sources import Folder, Reading
from skoots.errors import VolumeError
from skoots.samples import Batch
from skoots.skeletons import nearest_offsets, skeletonize
from skoots.skeletons.offsets_on_device import nearest_offsets_on_device
from skoots.synthetic import make_volume
from skoots.volumes.array import ArrayVolume

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"))
FIELDS = ("images", "labels", "offset", "inscribed", "valid")


def everything():
    always = (Scale, Shear, Elastic, BrightnessContrast, Gamma, Noise, Blur)
    return [
        *(Flip(), SwapAxes(), Rotate(1.0, [180.0, 8.0, 8.0]), Translate(1.0, 2.0), ShiftedSections(1.0, 0.5)),
        *(part(1.0) for part in always),
        *(Invert(), MissingSections(1.0, 0.3), SectionJitter(1.0)),
    ]


def volume(shape, voxel_size, dtype=np.uint8, kind="zscore", seed=0, ignore_label=None):
    image, labels = make_volume(shape, seed, radius=(2, 3))
    labels = labels.astype(np.int64) * 7
    skeletons = skeletonize(labels, voxel_size)
    if ignore_label is not None:
        labels[..., :9] = ignore_label
    image = ArrayVolume("image", (image * (1 if dtype == np.float32 else 250)).astype(dtype))
    intensity = measure_intensity(image, kind)
    return LabelledVolume(
        f"v{seed}", image, ArrayVolume("labels", labels), skeletons, intensity, voxel_size, ignore_label
    )


def pair_of(volumes, crop, augmentations, seed=3):
    """The batch of the CPU and the raw one."""
    here, there = (
        CropDataset([(v, 2) for v in volumes], crop, copy.deepcopy(augmentations), seed, on_device=on)
        for on in (False, True)
    )
    keys = [(1, i) for i in range(len(here))]
    return here.collate([here[k] for k in keys]), there.collate([there[k] for k in keys])


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize(
    "shape, crop, voxel_size",
    [
        ((14, 40, 40), (10, 24, 24), (3.0, 1.0, 1.0)),
        ((60, 60), (30, 34), (1.0, 1.0)),
        ((8, 30, 30), (12, 20, 20), (1.0, 1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("augment", [list, PRESETS["default"], PRESETS["original"], everything])
def test_a_device_makes_what_the_cpu_makes(device, shape, crop, voxel_size, augment):
    volumes = [
        volume(shape, voxel_size, np.uint8),
        volume(shape, voxel_size, np.uint16, "asinh", seed=1, ignore_label=-1),
        volume(shape, voxel_size, np.float32, "percentile", seed=2),
    ]
    here, raw = pair_of(volumes, crop, augment())
    assert isinstance(here, Batch) and isinstance(raw, RawBatch) and raw.origins == here.origins
    there = raw.to(device).to("cpu")
    assert there.origins == here.origins and there.voxel_size == here.voxel_size
    for name in FIELDS:
        one, two = getattr(here, name), getattr(there, name)
        assert one.dtype == two.dtype and one.shape == two.shape
        assert torch.equal(one, two) if name != "images" else torch.allclose(one, two, atol=1e-5)


def test_it_can_be_looked_at_without_being_moved():
    here, raw = pair_of([volume((40, 40), (1.0, 1.0))], (20, 20), PRESETS["default"]())
    assert torch.allclose(raw.images, here.images, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_page_locked_memory():
    _, raw = pair_of([volume((40, 40), (1.0, 1.0))], (20, 20), [])
    assert raw.pin_memory().samples[0].image.is_pinned()


# Workers are forked on Linux; Python 3.12 and later warn of it where there are threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("on_device", [False, True])
def test_workers_do_not_change_the_samples(on_device):
    volumes = [(volume((14, 40, 40), (3.0, 1.0, 1.0)), 4)]
    dataset = CropDataset(volumes, (8, 16, 16), everything(), 5, on_device=on_device)
    runs = []
    for workers in (0, 1, 2):
        loader = train_loader(dataset, batch_size=2, seed=4, workers=workers)
        loader.sampler.set_epoch(2)
        runs.append([batch.to("cpu") for batch in loader])
    for other in runs[1:]:
        for a, b in zip(runs[0], other):
            assert a.origins == b.origins
            assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([((9, 10), (1.0, 2.4)), ((5, 7, 8), (5.43, 1.0, 1.0)), ((6, 6, 6), (1.0,) * 3)]),
)
def test_offsets_on_a_device_break_ties_alike(seed, case):
    shape, voxel_size = case
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, shape).astype(np.int32)
    skeletons = skeletonize(labels, voxel_size)
    keep = skeletons.select(np.array([1, 3]))
    rows = np.searchsorted(keep.ids, labels).clip(max=len(keep) - 1)
    rows = np.where(keep.ids[rows] == labels, rows + 1, 0)
    expected = nearest_offsets(labels, keep, voxel_size)
    found = nearest_offsets_on_device(
        torch.from_numpy(rows), keep.starts.tolist(), torch.from_numpy(keep.points), voxel_size
    )
    assert np.array_equal(found.numpy(), expected)


class TestResidentVolumes:
    def test_windows_cut_on_the_device_are_those_that_are_read(self):
        volumes = [
            replace(volume((14, 40, 40), (3.0, 1.0, 1.0), np.uint16, ignore_label=-1), resident="a"),
            replace(volume((14, 40, 40), (3.0, 1.0, 1.0), seed=1), resident="b"),
        ]
        here, raw = pair_of([replace(v, resident="") for v in volumes], (10, 24, 24), everything())
        dataset = CropDataset([(v, 2) for v in volumes], (10, 24, 24), everything(), 3, on_device=True)
        drawn = dataset.collate([dataset[1, i] for i in range(4)])
        assert len(pickle.dumps(drawn)) < len(pickle.dumps(raw)) / 2
        received = pickle.loads(pickle.dumps(drawn)).pin_memory()
        assert received.origins == here.origins
        cut = [sample.cut("cpu").make() for sample in received.samples]
        for there in (
            {name: torch.cat([getattr(batch, name) for batch in cut]) for name in FIELDS},
            received.to("cpu").tensors(),
        ):
            for name in FIELDS[1:]:
                assert torch.equal(there[name], getattr(here, name))
            assert torch.allclose(there["images"], here.images, atol=1e-5)
        kept = {name: image.element_size() for (name, _), (image, *_) in resident._KEPT.items()}
        assert kept["a"] == 2 and kept["b"] == 1

    def test_numbers_without_sign_keep_their_bits(self):
        grey = np.array([0, 1, 2**15 - 1, 2**15, 2**16 - 1], np.uint16)
        assert resident._widened(torch.from_numpy(grey.view(np.int16))).tolist() == grey.tolist()

    def test_the_host_keeps_no_second_copy(self):
        kept = replace(volume((40, 40), (1.0, 1.0)), resident="looked at")
        dataset = CropDataset([(kept, 1)], (16, 16), [], on_device=True)
        dataset.sample((1, 0)), dataset.collate([dataset[1, 0]]).images
        assert not [key for key in resident._KEPT if key[0] == "looked at"]

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
    def test_one_copy_whatever_the_device_is_called(self):
        kept = replace(volume((40, 40), (1.0, 1.0)), resident="named")
        dataset = CropDataset([(kept, 1)], (16, 16), [], on_device=True)
        for name in ("cuda", "cuda:0"):
            dataset.collate([dataset[1, 0]]).to(name)
        assert [key for key in resident._KEPT if key[0] == "named"] == [("named", torch.device("cuda:0"))]

    def test_they_are_let_go_with_their_volume(self):
        kept = replace(volume((40, 40), (1.0, 1.0)), resident="gone")
        dataset = CropDataset([(kept, 1)], (16, 16), [], on_device=True)
        dataset[1, 0].cut("cpu")
        assert ("gone", torch.device("cpu")) in resident._KEPT
        del kept, dataset
        gc.collect()
        assert not [key for key in resident._KEPT if key[0] == "gone"]

    def test_crops_must_be_made_on_the_device(self):
        kept = replace(volume((40, 40), (1.0, 1.0)), resident="c")
        with pytest.raises(VolumeError, match=r"v0 is to stay on the device \(store: gpu\), but its crops"):
            CropDataset([(kept, 1)], (16, 16))

    def test_a_folder_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        image, labels = make_volume((30, 30), 0, radius=(2, 3))
        tifffile.imwrite(tmp_path / "a.tif", (image * 200).astype(np.uint8), photometric="minisblack")
        tifffile.imwrite(tmp_path / "a.labels.tif", labels.astype(np.uint8), photometric="minisblack")
        (kept,), (other,) = (Folder(str(tmp_path), store=s).open(Reading()) for s in ("gpu", "memory"))
        assert kept.resident and not other.resident
