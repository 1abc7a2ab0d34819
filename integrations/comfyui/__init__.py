"""LIIF in ComfyUI: "Load LIIF model" and "Upscale to any size (LIIF)"."""

try:
    import liif_fast  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"liif_fast cannot be imported ({error}): install it with ComfyUI's Python, as the README.md beside this says"
    ) from error

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
