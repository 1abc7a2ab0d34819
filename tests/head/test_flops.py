"""What ``FlopCounterMode`` counts for the operators, against its own count of plain PyTorch's products."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from operator_cases import sample
from torch.utils.flop_counter import FlopCounterMode

import liif_fast
from liif_fast.head import ops


def added_in_place(x, a, b, **_):  # which torch does not count
    return 2 * a[0] * a[1] * b[1]


def counted(run) -> dict:
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: added_in_place}) as counter:
        run()
    return counter.get_flop_counts().get("Global", {})


@pytest.mark.parametrize("cell", [True, False])
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("name", ["corner_gather", "render"])
def test_inference_counts_what_plain_pytorch_multiplies(name, cell, ensemble):
    given = sample((2, (5, 4), 16, 33, 3, 3), torch.float32, cell, ensemble, False)[name == "render"]
    (ours,) = counted(lambda: getattr(torch.ops.liif_fast, name)(*given)).values()
    inside = counted(lambda: ops.PLAIN[name](*given))
    blended = 2 * 2 * 33 * 4 * 16 if name == "render" and ensemble else 0  # an einsum there, no layer
    assert ours == sum(inside.values()) - blended


@pytest.mark.parametrize("cell", [True, False])
def test_gradients_count_what_plain_pytorch_multiplies(cell):
    given = sample((1, (5, 4), 16, 33, 3, 3), torch.float32, cell, False, False)[1]
    hidden, coord, given_cell, w_pos, w_mlp, b_mlp, w_out, b_out, *_ = given
    h, _ = torch.ops.liif_fast.corner_gather(hidden, coord, given_cell, w_pos, (5, 4), (0, 0), False)
    rows = h, coord, (5, 4), (5, 4), (0, 0), False
    for name, arguments in (
        ("gather_corners", (hidden, coord, (5, 4), (0, 0), False)),  # nothing is multiplied
        ("gather_corners_backward", rows),
        ("decode", (hidden, coord, given_cell, w_pos, w_mlp, b_mlp, w_out, b_out, False)),
        ("decode_backward", (torch.ones(1, 33, 3), hidden, coord, given_cell, w_pos, w_mlp, b_mlp, w_out, False)),
        ("corner_gather_backward", (h, h, coord, given_cell, w_pos, (5, 4), (5, 4), (0, 0), False)),
    ):
        (ours,) = counted(lambda name=name, a=arguments: getattr(torch.ops.liif_fast, name)(*a)).values()
        assert ours == sum(counted(lambda name=name, a=arguments: ops.PLAIN[name](*a)).values()), name


def test_a_model_goes_the_way_that_it_goes_uncounted():
    """The counter hooks all modules of the process, which only follows them: the head is still one operator."""
    torch.manual_seed(0)
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    model = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16, 16]}}).eval()
    found = counted(lambda: model.render(torch.zeros(1, 3, 6, 5), (12, 10)))
    assert {str(op) for op in found} == {"aten.convolution", "liif_fast.render"}
    rows = 4 * 120
    assert found[torch.ops.liif_fast.render] == 2 * rows * (2 * 16 + 2 * 16 * 16) + 2 * 120 * 3 * 16
    with torch.nn.modules.module.register_module_forward_hook(lambda *_: None):  # this one might change something
        found = counted(lambda: model.render(torch.zeros(1, 3, 6, 5), (12, 10)))
    assert torch.ops.liif_fast.render not in found


@pytest.mark.parametrize(
    "first", ["import torch.utils.flop_counter, liif_fast", "import liif_fast, torch.utils.flop_counter"]
)
def test_the_formulas_are_there_whichever_is_imported_first(first):
    code = f"{first}; import torch; assert torch.ops.liif_fast.render in torch.utils.flop_counter.flop_registry"
    subprocess.run([sys.executable, "-c", code], check=True)
