"""From a batch to what a head should output."""
