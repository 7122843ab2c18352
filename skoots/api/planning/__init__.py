"""What ``skoots plan`` decides: pure functions from measurements to values, each with its reason."""
