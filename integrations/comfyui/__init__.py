"""LIIF in ComfyUI: "Load LIIF model" and "Upscale to any size (LIIF)"."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
