"""Where a tile is processed, never what is done."""
