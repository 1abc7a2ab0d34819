"""Training by the official repository's YAML files. Start with ``run``: from a file to the folder of a run.

``config`` (with ``yaml_file``, ``values``) reads the file, ``setup`` builds what it names, ``loop`` goes through epochs
of ``step``s with ``validate``, ``state``, ``contents`` and ``restore`` are checkpoints, ``journal`` what is left for
people; ``official_test`` is the official ``test.py``, ``protocol`` what LTE's has beyond it. May import: quality, data,
models, head, weights, images, base.
"""

from .config import Config, ConfigError, load_config

__all__ = ["Config", "ConfigError", "load_config"]
