"""What holds for all tests."""

from __future__ import annotations

import os

# Before torch is imported: one thread computes tiny networks fastest, and fights with no other process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
