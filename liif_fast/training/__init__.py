"""Parts of ``liif-fast train``: configuration, step, loop, checkpoints, validation, journal."""

from .config import Config, ConfigError, load_config

__all__ = ["Config", "ConfigError", "load_config"]
