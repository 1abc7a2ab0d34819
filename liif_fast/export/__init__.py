"""Models as files for other programs, in standard operators: ONNX, and AOTInductor's packages.

May import: models, head, weights, base.
"""

from .files import to_onnx, to_pt2
from .translations import onnx_translations

__all__ = ["onnx_translations", "to_onnx", "to_pt2"]
