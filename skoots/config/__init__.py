"""YAML to typed sections; every fault at once."""

from skoots.config.load import load_config, write_config
from skoots.config.schema import Config

__all__ = ["Config", "load_config", "write_config"]
