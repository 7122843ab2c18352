"""YAML to typed sections; every fault at once."""
