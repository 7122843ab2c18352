"""Everything that has weights or compares output with target."""
