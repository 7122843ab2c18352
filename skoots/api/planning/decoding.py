"""How small an object may be."""

from __future__ import annotations

import numpy as np

from skoots.api.planning.decision import Decision
from skoots.data.object_geometry import ObjectGeometry

SMALL_PERCENTILE = 5
SHARE = 0.25  # of a small object; what is smaller is a speck


def decide_decoding(geometry: ObjectGeometry) -> Decision:
    """What specks are; all else is chosen on the validation volumes when the training ends.

    Args:
        geometry: of the objects.
    """
    small = float(np.percentile(geometry.sizes, SMALL_PERCENTILE))
    reason = (
        f"{100 - SMALL_PERCENTILE} % of the objects have {small:,.0f} voxels or more; what has less than a "
        "quarter of that is a speck. Decoder and settings are chosen on the validation volumes at the end."
    )
    return Decision("inference.decoding", {"min_size": int(SHARE * small)}, reason)
