"""Sources of labelled volumes: what ``data.train`` and its neighbours list."""

from skoots.data.sources.alike import Described, as_network_sees, check_alike
from skoots.data.sources.base import DATASETS, Header, Reading, Source, open_sources, reading_threads
from skoots.data.sources.folder import Folder, open_pair, volume_skeletons
from skoots.data.sources.synthetic import Synthetic

__all__ = [
    "DATASETS",
    "Described",
    "Folder",
    "Header",
    "Reading",
    "Source",
    "Synthetic",
    "as_network_sees",
    "check_alike",
    "open_pair",
    "open_sources",
    "reading_threads",
    "volume_skeletons",
]
