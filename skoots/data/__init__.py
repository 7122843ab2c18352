"""Which voxels make a batch, and how they are disturbed."""
