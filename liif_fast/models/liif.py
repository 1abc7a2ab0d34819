"""The LIIF module: constructor, methods, state-dict keys and numbers of the official ``models/liif.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..base.methods import replaced
from ..head import functional, ops, transforms, unit_order
from ..head.hidden_cache import kept_hidden_map
from ..head.kept import Kept
from ..registry import make, register
from ..sizes import Target
from ..weights.state_dicts import default_norm
from . import folding, overrides, padding, whole_images
from .checks import check_features
from .encoding import encode
from .rendering import Rendering

if TYPE_CHECKING:
    from .quantized import QuantizedLIIF


@register("liif")
class LIIF(Rendering):
    """Local Implicit Image Function (CVPR 2021): the colour of an image at any continuous coordinate.

    Drop-in for the official ``LIIF``; the first MLP layer runs once per feature pixel (``liif_fast.functional``).

    Args:
        encoder_spec: ``{'name': ..., 'args': {...}}`` of a registered encoder, or an nn.Module with ``out_dim`` (its
            number of output channels) that maps ``[B, 3, H, W]`` to ``[B, out_dim, H, W]``; see
            ``liif_fast.encoders`` for what else it may say.
        imnet_spec: spec of the decoding MLP without ``in_dim``; None: queries return the nearest feature.
        local_ensemble: blend the predictions of the four nearest features (paper, equation 4).
        feat_unfold: each feature together with its 3x3 neighbourhood (equation 2).
        cell_decode: the size of the output pixel is an input of the MLP (equation 5).
        pad_to: side of the encoder's windows, where it needs whole ones (8 for SwinIR): inputs are padded to multiples
            by reflection at the bottom and the right, and the feature map is cut back to the image (``padding``). None:
            the encoder's own attribute ``pad_to`` if it has one, else no padding. Not in the official class; saved with
            the model only if given.

    Attributes:
        data_norm: how images in [0, 1] become inputs and outputs become images, in the form of the official YAML
            files: input = (image - sub) / div with ``data_norm['inp']``, image = output * div + sub with ``['gt']``.
        feat: the features of the last ``gen_feat``.
    """

    _eight_bit: type[QuantizedLIIF]  # which says so itself

    feat: Tensor | None
    adds_image = False  # whether colours are added to the image; then ``inp`` are those of the last gen_feat
    inp: Tensor | None = None
    scale_max: float | None = None  # beyond this scale pixels count as large as at it, see LTE
    _name = "liif"  # in specs

    def __init__(
        self,
        encoder_spec: Mapping[str, Any] | nn.Module,
        imnet_spec: Mapping[str, Any] | None = None,
        local_ensemble: bool = True,
        feat_unfold: bool = True,
        cell_decode: bool = True,
        pad_to: int | None = None,
    ) -> None:
        super().__init__()
        self.local_ensemble = local_ensemble
        self.feat_unfold = feat_unfold
        self.cell_decode = cell_decode
        self.data_norm = default_norm()
        self.encoder: Any = encoder_spec if isinstance(encoder_spec, nn.Module) else make(encoder_spec)
        if not hasattr(self.encoder, "out_dim"):
            raise TypeError(
                f"encoder_spec: {type(self.encoder).__name__} has no attribute 'out_dim': set it to the number of "
                "channels that the encoder puts out"
            )
        self._spec_args: dict[str, Any] = {"encoder_spec": encoder_spec, "imnet_spec": imnet_spec}  # flags may change
        if pad_to is not None:
            self._spec_args["pad_to"] = padding.checked(pad_to)
        self.imnet: nn.Module | None = None
        if imnet_spec is not None:
            self.imnet = make(imnet_spec, args={"in_dim": self._in_dim()})
        self._order = unit_order.Remembered()
        self._forget()

    # --- the official interface ---

    def gen_feat(self, inp: Tensor) -> Tensor:
        """Encode images for ``query_rgb``: ``[B, 3, H, W]``, normalised (see ``data_norm``), to ``[B, C, H, W]``."""
        self._forget()
        self.feat = self._encode(inp)
        return self.feat

    def query_rgb(self, coord: Tensor, cell: Tensor | None = None) -> Tensor:
        """Colours of the last ``gen_feat``'s images at ``coord``; see ``query``.

        Without gradients the hidden map is kept between calls, so that querying in chunks costs little more; it is made
        anew when a value of the features or of the MLP's first layer is another, however that was written.
        """
        if self.feat is None:
            raise RuntimeError("query_rgb: there are no features yet; call gen_feat(inp) first")
        if self._own("query"):
            return self.query(self.feat, coord, cell)
        return self._query(self.feat, coord, cell, cached=True, inp=self.inp)

    def forward(self, inp: Tensor, coord: Tensor, cell: Tensor | None = None) -> Tensor:
        """``gen_feat(inp)``, then ``query_rgb(coord, cell)``: ``[B, 3, H, W], [B, Q, 2] -> [B, Q, out_dim]``."""
        stateless = torch.compiler.is_compiling() or transforms.active()  # keep no state in a graph or a transform
        if stateless and not self._own("gen_feat", "query_rgb", "query"):
            return self._query(self._encode(inp), coord, cell, inp=inp)
        self.gen_feat(inp)
        return self.query_rgb(coord, cell)

    # --- stateless ---

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor | None = None) -> Tensor:
        """Colours (normalised) at any coordinates.

        Args:
            feat: ``[B, C, H, W]`` from the encoder.
            coord: ``[B, Q, 2]``, (y, x), the image spans [-1, 1]; used in float32 whatever the model's dtype.
            cell: ``[B, Q, 2]``, height and width of an output pixel, 2 / output size; needed with ``cell_decode``.

        Returns:
            ``[B, Q, out_dim]``, float32 (float64 for float64 features); with gradients when they are enabled.

        Equivalent to: ``reference.liif(feat, coord, cell, self.imnet)``.

        Raises:
            TypeError, ValueError: wrong shape, dtype or device, NaN coordinates (seen on the CPU), missing cell.
        """
        return self._query(feat, coord, cell)

    def _colours(self, hidden: Tensor, head: Any, size: Any = None, origin: Any = (0, 0)) -> Callable[..., Tensor]:
        """Inference: [B, h, w, D] -> a function, ([B, Q, 2], cell) -> [B, Q, out_dim]."""
        return functional.renderer(hidden, head, size=size, origin=origin, local_ensemble=self.local_ensemble)

    def _upscale_tensor(self, pixels: Tensor, target: Target, tile: Any, dtype: Any, progress: Any) -> Tensor:
        if dtype == torch.int8:
            if torch.compiler.is_compiling():
                raise ValueError("dtype: int8 looks at the image first: compile the upscale of model.quantize(image)")
            if why := self.why_not_int8():
                raise ValueError(f"dtype: int8: {why}")
            return self.quantize(pixels if len(pixels) else None)._upscale_tensor(pixels, target, tile, None, progress)
        return whole_images.upscale(self, pixels, target, tile, dtype, progress)

    def quantize(self, images: Any = None) -> QuantizedLIIF:
        """A copy for inference whose hidden layers run on 8-bit integers (see ``liif_fast.quantized``).

        Args:
            images: an image, or a list of images, of any kind that ``upscale`` takes, to calibrate with; None: the
                first image that the copy upscales. The calibration is saved with the copy.
        """
        if why := self.why_not_int8():
            raise ValueError(f"quantize: {why}")
        return self._eight_bit.of(self, images)

    def why_not_int8(self) -> str | None:
        """Why this model has no 8-bit layers; None: it has."""
        if own := replaced(self, LIIF):
            return f"{overrides.described(self, own)}, which 8-bit layers would leave out"
        if self.head() is None:
            return "8-bit layers are for liif_fast's own MLP, this model's imnet is another or has been changed"
        return None

    # --- weights ---

    @property
    def spec(self) -> dict[str, Any]:
        """``{'name': 'liif', 'args': {...}}`` or its class's, from which ``liif_fast.make`` builds the same model."""
        if isinstance(self._spec_args["encoder_spec"], nn.Module):
            raise ValueError(
                "this model has no spec: its encoder was given as a module; register the encoder's class with "
                "liif_fast.register and build the model from encoder_spec={'name': ..., 'args': {...}}"
            )
        return {"name": self._name, "args": self._arguments()}

    # --- inside ---

    def _arguments(self) -> dict[str, Any]:
        """Those of the constructor that build this model, with the flags as they are now."""
        flags = {name: getattr(self, name) for name in ("local_ensemble", "feat_unfold", "cell_decode")}
        return {**self._spec_args, **flags}

    def _own(self, *names: str) -> list[str]:
        """Which of these methods a subclass or this instance has replaced."""
        return overrides.own(self, LIIF, names)

    def head(self) -> functional.AnyHead | None:
        """The MLP with its first layer folded; None where its layers may do more than their weights say (``folding``):
        then it runs as it is, by the reference computation."""
        if (layers := folding.layers(self.imnet)) is None:
            return None
        return functional.fold(layers, self.encoder.out_dim, self.feat_unfold, self.cell_decode)

    def ordered(self, head: Any, feat: Tensor, dtype: torch.dtype | None, queries: int) -> Any:
        """The head with its hidden units in the order in which a CPU's bfloat16 kernels leave out most work
        (``unit_order``), where those compute with integers: colours are the same to the bit. Elsewhere as it is."""
        half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else feat.dtype
        on_cpu = feat.device.type == "cpu" and not torch.compiler.is_compiling()
        if not on_cpu or (dtype or half) != torch.bfloat16 or not ops.integer_bfloat16():
            return head
        return self._order.head(head, feat, queries, self.cell_decode, self.local_ensemble)

    def _precision(self, device: torch.device) -> torch.dtype | None:
        """Of encoder and hidden map where none is asked for; None: the parameters', or that of autocast."""
        return None

    @property
    def pad_to(self) -> int:
        """Inputs are padded to multiples of this; 1: they are not."""
        own = padding.checked(getattr(self.encoder, "pad_to", None), f"{type(self.encoder).__name__}.pad_to")
        return math.lcm(own, self._spec_args.get("pad_to", 1))  # whole windows of either

    @property
    def reach(self) -> int:
        """Feature pixels around a query's corners that their hidden vectors depend on."""
        return int(self.feat_unfold)

    @property
    def hidden_width(self) -> int:
        """Channels of the hidden map; 0 where there is none."""
        head = self.head()
        return 0 if head is None else head.b_conv.shape[0]

    def _in_dim(self) -> int:
        return self.encoder.out_dim * (9 if self.feat_unfold else 1) + 2 + (2 if self.cell_decode else 0)

    def _out_dim(self) -> int:
        if (mlp := self._mlp()) is None:
            return self.encoder.out_dim
        head = self.head()
        if head is not None:
            return head.b_out.shape[0]
        like = next(mlp.parameters(), torch.empty(0, dtype=torch.float32))
        with torch.no_grad():  # any module: ask it
            return mlp(like.new_zeros(1, self._in_dim())).shape[-1]

    def _mlp(self) -> nn.Module | None:
        """What decodes rows: ``[n, in_dim] -> [n, out_dim]``."""
        return self.imnet

    def _encode(self, inp: Tensor) -> Tensor:
        return encode(self, inp)

    def check_map(self, feat: Tensor, inp: Tensor) -> None:
        """ValueError unless the head takes feature maps of this size for such images."""

    def _added(self, inp: Tensor, in_size: Sequence[int], origin: Sequence[int]) -> Callable[[Tensor], Tensor] | None:
        """What belongs to the colours besides the head's: ([B, Q, 2]) -> [B, Q, out_dim], or None.

        Args:
            inp: the part of an input of ``in_size`` that starts at ``origin``.
        """
        return None

    def _query(
        self,
        feat: Tensor,
        coord: Tensor,
        cell: Tensor | None = None,
        cached: bool = False,
        inp: Tensor | None = None,
    ) -> Tensor:
        mlp = self._mlp()
        check_features(feat, self.encoder.out_dim, mlp)
        if mlp is None or not self.cell_decode:
            cell = None
        elif cell is None:
            raise ValueError("cell: this model has cell_decode=True and needs the cell of every query, [B, Q, 2]")
        functional.check_queries(coord, cell, feat.shape[0], feat.device)
        ensemble = self.local_ensemble
        head = self.head()
        if head is None:
            return self._by_reference(feat, coord, cell)
        # the head's tensors, not the module's parameters: a DataParallel replica has none
        tensors = (feat, coord, cell, *head[:3], *(t for layer in head.mlp for t in layer), *head[4:])
        needs_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
        if needs_grad:
            return functional.query(functional.hidden_map(feat, head), head, coord, cell, local_ensemble=ensemble)
        hidden = kept_hidden_map(self._hidden, feat, head) if cached else functional.hidden_map(feat, head)
        return self._colours(hidden, head)(coord, cell)

    def _by_reference(self, feat: Tensor, coord: Tensor, cell: Tensor | None) -> Tensor:
        return functional.query_reference(
            feat, self.imnet, coord, cell, local_ensemble=self.local_ensemble, feat_unfold=self.feat_unfold
        )

    def _forget(self) -> None:
        self.feat = None
        self._hidden = Kept()

    def __getstate__(self) -> dict[str, Any]:
        # features of some last image are neither worth copying nor, with a gradient, possible to copy
        return {**self.__dict__, "feat": None, "_hidden": Kept(), "_order": unit_order.Remembered()}
