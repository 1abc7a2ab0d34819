"""The version of the package that is installed."""

import importlib.metadata

try:
    VERSION = importlib.metadata.version("liif-fast")
except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
    VERSION = "0+unknown"
