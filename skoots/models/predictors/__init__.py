"""From what a head outputs to the maps that decoding reads."""
