"""``upscale`` and ``render`` of tensors through torch.compile and torch.export: one graph, eager mode's numbers."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim
from torch.testing import assert_close

import liif_fast

pytestmark = pytest.mark.usefixtures("no_compiled_code")

COLOURS = torch.rand(3, 17, 13, generator=torch.Generator().manual_seed(0))
IMAGES = {
    "float32": COLOURS,
    "batch": torch.stack([COLOURS, COLOURS.flip(1)]),
    "grey": COLOURS[:1],
    "float16": COLOURS.half(),
    "uint8": (COLOURS * 255).to(torch.uint8),
    "uint16": (COLOURS * 65535).to(torch.uint16),
    "channels last": torch.stack([COLOURS, COLOURS]).contiguous(memory_format=torch.channels_last),
    "one pixel": COLOURS[:, :1, :1],
    "empty": torch.rand(0, 3, 17, 13),
}
ARGUMENTS = {
    "scale": {"scale": 3},
    "fraction": {"scale": 2.5},
    "size": {"size": (40, 31)},
    "window": {"size": (40, 31), "window": (-2.5, 3, 9.25, 12)},
    "reduced": {"scale": 0.6},
    "reduced along one side": {"size": (9, 40)},
    "points": {"scale": 0.6, "point": True},
    "no tiles": {"scale": 2, "tile": 0},
    "float32": {"scale": 2, "dtype": torch.float32},
    "bfloat16": {"scale": 2, "dtype": torch.bfloat16},
    "float16": {"scale": 2, "dtype": torch.float16},
}
# as some of a graph's sums come in another order
NEAR = {"rtol": 0, "atol": 1e-5}


class Upscale(nn.Module):
    """What there is to export."""

    def __init__(self, model, **given):
        super().__init__()
        self.model, self.given = model, given

    def forward(self, image):
        return self.model.upscale(image, **self.given)


def compiled(model, backend="eager", **options):
    return torch.compile(model.upscale, fullgraph=True, backend=backend, **options)


def alike(got, want, **near):
    assert_close(got, want, **(near or NEAR), check_stride=True)


def saved(program):
    """As it comes back from a file."""
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


@pytest.mark.parametrize("image", IMAGES)
def test_images(tiny, image):
    model = tiny()
    alike(compiled(model, "aot_eager")(IMAGES[image], scale=2), model.upscale(IMAGES[image], scale=2))


@pytest.mark.parametrize("given", ARGUMENTS)
def test_arguments(tiny, given):
    model, given = tiny(), ARGUMENTS[given]
    near = {"rtol": 0, "atol": 1e-2} if given.get("dtype") in (torch.bfloat16, torch.float16) else NEAR
    alike(compiled(model, "aot_eager")(COLOURS, **given), model.upscale(COLOURS, **given), **near)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_inside_of_a_function(tiny, mode):
    model = tiny()

    def f(x):
        return model.upscale(x * 0.5, size=(40, 33)).mean()

    with mode():
        assert_close(torch.compile(f, fullgraph=True, backend="aot_eager")(COLOURS), f(COLOURS), **NEAR)


@pytest.mark.parametrize("given", [{"scale": 3}, {"scale": 2.5}, {"scale": 0.5, "point": True}])
def test_one_graph_for_all_sizes(tiny, given):
    model, counter = tiny(), CompileCounterWithBackend("eager")
    upscale = compiled(model, counter, dynamic=True)
    for size in [(17, 13), (18, 21), (30, 9), (50, 40)]:  # torch convolves larger ones otherwise, in another graph
        image = torch.rand(3, *size)
        alike(upscale(image, **given), model.upscale(image, **given))
    assert counter.frame_count == 1


def test_a_new_argument_is_another_graph(tiny):
    model, counter = tiny(), CompileCounterWithBackend("eager")
    upscale = compiled(model, counter)
    for size, graphs in [((40, 50), 1), ((40, 50), 1), ((41, 53), 2), ((44, 60), 2)]:  # the second: for any size
        alike(upscale(COLOURS, size=size), model.upscale(COLOURS, size=size))
        assert counter.frame_count == graphs
    alike(upscale(COLOURS, scale=2), model.upscale(COLOURS, scale=2))
    assert counter.frame_count == 3


@pytest.mark.parametrize(
    "given",
    [{"tile": 64}, {"progress": print}, {"dtype": torch.int8}, {"dtype": torch.float64}, {"scale": -1}],
    ids=lambda given: "".join(given),
)
def test_refusals_name_the_argument(tiny, given):
    model = tiny()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=f"ValueError\\(.{next(iter(given))}: "):
        compiled(model)(COLOURS, **{"scale": 2, **given})
    with pytest.raises(ValueError, match=f"^{next(iter(given))}: "):
        torch.export.export(Upscale(model, **{"scale": 2, **given}), (COLOURS,))


def test_what_has_no_graph_runs_as_it_is(tiny):
    """Without fullgraph=True."""
    model, shares = tiny(), []
    want = model.upscale(COLOURS, scale=2, tile=8)
    alike(torch.compile(model.upscale, backend="eager")(COLOURS, scale=2, tile=8, progress=shares.append), want)
    assert sum(shares) == pytest.approx(1)


def test_weights_of_half_precision(tiny):
    model = tiny().bfloat16()
    alike(compiled(model)(COLOURS, scale=2), model.upscale(COLOURS, scale=2), rtol=0, atol=1e-2)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"dtype: .* model\.float\(\)"):
        compiled(model)(COLOURS, scale=2, dtype=torch.float32)


BAD_COLOURS = {"high": 2.0, "low": -0.1, "NaN": float("nan")}


@pytest.mark.parametrize("value", BAD_COLOURS)
@pytest.mark.parametrize("export", [False, True])
def test_the_graph_looks_at_colours(tiny, value, export):
    model, bad = tiny(), COLOURS.clone()
    bad[1, 2, 3] = BAD_COLOURS[value]
    if export:
        upscale = torch.export.export(Upscale(model, scale=2), (COLOURS,)).module()
    else:
        run = compiled(model, "aot_eager")
        upscale = lambda image: run(image, scale=2)  # noqa: E731
    alike(upscale(COLOURS), model.upscale(COLOURS, scale=2))
    with pytest.raises(RuntimeError, match=r"image: floating-point colours must lie in \[0, 1\]"):
        upscale(bad)


@pytest.mark.parametrize(("dtype", "cure"), [(torch.float32, "weights or the image"), (torch.float16, "torch.float32")])
def test_the_graph_looks_at_the_result(tiny, dtype, cure):
    model = tiny()
    upscale = compiled(model, "aot_eager")
    with torch.no_grad():
        upscale(COLOURS, scale=2, dtype=dtype)
        model.imnet.layers[-1].bias[0] = float("nan")
    with pytest.raises(RuntimeError, match=f"not finite in .*{cure}"):
        upscale(COLOURS, scale=2, dtype=dtype)


def test_eight_bits(tiny):
    model = tiny().quantize(COLOURS)
    want = model.upscale(COLOURS, scale=2)
    alike(compiled(model, "aot_eager")(COLOURS, scale=2), want)
    alike(saved(torch.export.export(Upscale(model, scale=2), (COLOURS,)))(COLOURS), want)
    model = tiny().quantize()
    for function in (model.upscale, model.render):
        with pytest.raises(RuntimeError, match="not calibrated"):
            torch.compile(function, fullgraph=True, backend="aot_eager")(COLOURS[None], size=(34, 26))


class Darker(liif_fast.LIIF):
    def query_rgb(self, coord, cell=None):
        return super().query_rgb(coord, cell) - 0.2


class Mirrored(liif_fast.LIIF):
    def render(self, inp, size, dtype=None, window=None):
        return super().render(inp, size).flip(-1)


@pytest.mark.parametrize("kind", [Darker, Mirrored])
def test_methods_of_its_own(tiny, kind):
    plain = tiny()
    model = kind(plain.encoder, plain._spec_args["imnet_spec"]).eval()
    model.imnet = plain.imnet
    want = model.upscale(COLOURS, scale=2)
    assert (want - plain.upscale(COLOURS, scale=2)).abs().max() > 0.01
    alike(compiled(model, "aot_eager")(COLOURS, scale=2), want)


@pytest.mark.parametrize("window", [None, (-1.5, 2, 9, 8.25)])
def test_render(tiny, window):
    model, inp = tiny(), torch.rand(2, 3, 17, 13)
    got = torch.compile(model.render, fullgraph=True, backend="aot_eager")(inp, (40, 33), window=window)
    assert_close(got, model.render(inp, (40, 33), window=window), **NEAR)


# --- torch.export ---


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("given", "grad"), [("scale", True), ("scale", False), ("fraction", True), ("window", True), ("reduced", True)]
)
def test_export(tiny, strict, grad, given):
    model, given, other = tiny(), ARGUMENTS[given], torch.rand(3, 17, 13)
    with torch.set_grad_enabled(grad):
        program = saved(torch.export.export(Upscale(model, **given), (COLOURS,), strict=strict))
        alike(program(other), model.upscale(other, **given))


def test_export_in_half_precision(tiny):
    model, given = tiny(), ARGUMENTS["bfloat16"]
    program = saved(torch.export.export(Upscale(model, **given), (COLOURS,)))
    alike(program(COLOURS), model.upscale(COLOURS, **given), rtol=0, atol=1e-2)


@pytest.mark.parametrize("strict", [False, True])
def test_export_of_any_size(tiny, strict):
    model, image = tiny(), IMAGES["batch"]
    shapes = {"image": {0: Dim("B", min=1), 2: Dim("H"), 3: Dim("W")}}
    program = saved(torch.export.export(Upscale(model, scale=2.0), (image,), dynamic_shapes=shapes, strict=strict))
    for size in [(2, 17, 13), (1, 8, 41), (3, 5, 3)]:
        image = torch.rand(size[0], 3, *size[1:])
        alike(program(image), model.upscale(image, scale=2))


SIDES = {
    "a whole size": ({"size": (60, 71)}, Dim("H", max=60), Dim("W", max=71), {}),
    "a fraction": ({"scale": 2.7}, Dim("H"), Dim("W"), {}),
    "padded": ({"scale": 2}, 8 * Dim("h"), 8 * Dim("w"), {"pad_to": 8}),
}


@pytest.mark.parametrize("sides", SIDES)
def test_export_of_other_sides(tiny, sides):
    given, height, width, flags = SIDES[sides]
    model, shapes = tiny(**flags), {"image": {1: height, 2: width}}
    program = torch.export.export(Upscale(model, **given), (torch.rand(3, 24, 16),), dynamic_shapes=shapes).module()
    for size in [(24, 16), (40, 32), (16, 64)]:
        image = torch.rand(3, *size)
        alike(program(image), model.upscale(image, **given))


def test_a_reduction_wants_its_size(tiny):
    shapes = {"image": {1: Dim("H"), 2: Dim("W")}}
    with pytest.raises(torch._dynamo.exc.UserError, match="Constraints violated"):
        torch.export.export(Upscale(tiny(), scale=0.5), (COLOURS,), dynamic_shapes=shapes)


@pytest.mark.parametrize("strict", [False, True])
def test_export_of_render(tiny, strict):
    model = tiny()

    class Render(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, inp):
            return self.model.render(inp, (37, 41))

    shapes = {"inp": {0: Dim("B", min=1), 2: Dim("H"), 3: Dim("W")}}
    given = (torch.rand(2, 3, 17, 13),)
    program = saved(torch.export.export(Render(), given, dynamic_shapes=shapes, strict=strict))
    for size in [(2, 17, 13), (1, 50, 60)]:
        inp = torch.rand(size[0], 3, *size[1:])
        assert_close(program(inp), model.render(inp, (37, 41)), **NEAR)


@pytest.mark.long
def test_with_inductor(tiny):
    model = tiny()
    upscale = compiled(model, "inductor")
    alike(upscale(COLOURS, scale=3), model.upscale(COLOURS, scale=3))
    with pytest.raises(RuntimeError, match="image: floating-point colours"):
        upscale(COLOURS * 2, scale=3)
