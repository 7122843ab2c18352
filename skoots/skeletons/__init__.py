"""Pure functions of curves: labels to skeleton points, voxels to their nearest point, vectors to probabilities."""
