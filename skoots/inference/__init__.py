"""The loop over space."""
