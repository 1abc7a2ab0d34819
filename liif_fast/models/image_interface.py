"""What every model of images has: ``upscale`` of all kinds of pictures, ``save``, where it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..images.kinds import Picture
from ..sizes import Target
from ..weights import checkpoints, folders

if TYPE_CHECKING:
    from typing_extensions import Self


class ImageInterface(nn.Module):
    """A module that enlarges pictures by its ``_upscale_tensor``."""

    def upscale(
        self,
        image: Picture,
        scale: float | None = None,
        size: Sequence[int] | None = None,
        *,
        window: Sequence[float] | None = None,
        point: bool = False,
        tile: int | str = "auto",
        dtype: torch.dtype | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Picture:
        """Enlarge an image (or reduce it: any scale above 0), in bounded memory; returns the same kind as it gets.

        Args:
            image: PIL image; NumPy array ``[H, W]`` or ``[H, W, 1 | 3 | 4]``, uint8, uint16 or float in [0, 1]; tensor
                ``[3, H, W]`` or ``[B, 3, H, W]``, uint8, uint16 or float in [0, 1] (colours are clamped to [0, 1]). The
                images of a batch are computed one after the other as far as memory wants it.
            scale: factor for both sides, or
            size: (height, width) of the result; PIL images are first turned upright, as their EXIF says.
            window: (top, left, height, width) of the part of the image that is enlarged, in its pixels: real numbers,
                also beyond the border, whose colours go on there. ``scale`` is then of this part. LIIF only.
            point: below scale 1 sample LIIF at points, which aliases, as the official code does. Else the image is
                reduced first, see ``liif_fast.models.reduction``.
            tile: side of the tiles in input pixels; 0: no tiles; "auto": as large as a memory budget allows. The
                result is the same for any, to float32 rounding (``liif_fast.tiles``), so a side that is not
                worth the border around it is raised (to 64 for the encoders of liif_fast, to 32 for those that see
                less). Other models than LIIF compute large images in strips of rows with "auto".
            dtype: of the computation: float32 (default), bfloat16 or float16; coordinates are float32 in all. int8, of
                LIIF only: ``quantize(image)`` first, whose encoder is bfloat16 on CPUs that multiply it faster.
            progress: called with the share of the output that is done, in parts that add up to 1.

        A tensor's may be compiled, as one graph (``torch.compile(model.upscale, fullgraph=True)``), and a module that
        calls it exported (``torch.export``); of LIIF only. A graph has the whole batch at once, whatever memory that
        takes, and all of an image for a window of it, so that it takes neither ``tile`` nor ``progress``; for int8
        compile a model that is quantized already. Sides of any length: from scale 1 on, without a window, or with a
        size that is larger than all of them; else a graph, or an export, is of its sides.

        Raises:
            TypeError, ValueError: naming the argument, what came and what is wanted.
            RuntimeError: by a graph, when it runs: colours outside of [0, 1], a result that is not finite (in half
                precision too, which is not computed again), 8-bit layers that are not calibrated. On CUDA it is a
                device-side assertion, after which the process cannot use the device.
        """
        from ..images import pictures  # brings Pillow, which takes longer to import than all the rest

        target = Target(scale, size, window, point)

        def enlarge(pixels: Tensor, alpha: Tensor | None = None, share: float = 1.0) -> Tensor:
            part = None if progress is None else lambda done: progress(done * share)
            return self._upscale_tensor(pixels, target._replace(alpha=alpha), tile, dtype, part)

        enlarged: Picture = pictures.apply(image, enlarge, window)
        return enlarged

    def _upscale_tensor(
        self,
        pixels: Tensor,
        target: Target,
        tile: int | str,
        dtype: torch.dtype | None,
        progress: Callable[[float], None] | None,
    ) -> Tensor:
        """[B, 3 or 1, H, W] -> [B, 3 or 1, OH, OW] of the same dtype."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, spec and ``data_norm`` as safetensors; ``liif_fast.load(path)`` gives the model back."""
        checkpoints.save(self, path)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: torch.device | str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """A model from the Hugging Face Hub (the extra ``hub``), in eval mode.

        Args:
            name: ``"user/name"``, or a folder that ``save_pretrained`` wrote: no network is needed for that.
            revision: branch, tag or commit of the repository; None: the newest of its main branch.
            device: where the model goes; None: the CPU.
            token, cache_dir, force_download, local_files_only: as of huggingface_hub's ``snapshot_download``.

        Raises:
            ImportError: without the package huggingface_hub. CheckpointError: no such folder, repository or revision,
                no right to read it, no network, no weights in it, damaged ones, or ones of another class than this.
        """
        options = {"cache_dir": cache_dir, "force_download": force_download, "local_files_only": local_files_only}
        model: Self = folders.load(name, device, cls, revision=revision, token=token, **options)
        return model

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        license: str | None = None,
        figures: Mapping[str, float | str] | None = None,
        credit: str | None = None,
    ) -> None:
        """Write a folder of the Hugging Face Hub's form (the extra ``hub``): ``model.safetensors`` as ``save`` does,
        ``config.json``, and ``README.md``, a card with the model's facts, if there is none.

        Args:
            license: the hub's name of it, say "bsd-3-clause"; None: the card says nothing of it.
            figures: for the card, say ``{"PSNR, Set5, x4": "32.24 dB"}``; none are made up.
            credit: who is to be named, in the weights and in the card.

        Raises:
            ImportError: without the package huggingface_hub. ValueError: as ``save``; nothing has been written then.
        """
        folders.save(self, folder, license=license, figures=figures, credit=credit)

    def push_to_hub(
        self,
        name: str,
        *,
        license: str | None = None,
        figures: Mapping[str, float | str] | None = None,
        credit: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        commit_message: str = "A model of liif_fast",
    ) -> str:
        """``save_pretrained`` to the repository ``"user/name"``, which is made if need be; a card there is replaced.

        Returns:
            The address of the commit.

        Args:
            license, figures, credit: as of ``save_pretrained``.
            private, token, branch, create_pr, commit_message: as of huggingface_hub's ``ModelHubMixin.push_to_hub``.

        Raises:
            ImportError: without the package huggingface_hub. ValueError: as ``save``. CheckpointError: no network, no
                right to write there.
        """
        about = {"license": license, "figures": figures, "credit": credit}
        options = {"private": private, "branch": branch, "create_pr": create_pr, "commit_message": commit_message}
        return folders.push(self, name, about, token=token, **options)

    @property
    def device(self) -> torch.device | None:
        """Where the parameters are; None without any."""
        return next((p.device for p in self.parameters()), None)
