"""Our reader of torch's files against torch's own: the same values, dtypes, strides and types, in every form."""

from __future__ import annotations

import argparse
import collections
import pathlib

import pytest
import torch
from torch import nn

from liif_fast.weights import torch_files
from liif_fast.weights.pickle_names import Inert, NeedsCodeError


def contents():
    parameter, big = nn.Parameter(torch.randn(3, 4)), torch.randn(100)
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    return {
        "parameter": parameter,
        "transposed": torch.randn(4, 5).t(),
        "view": big[10:30:2],
        "its whole": big,
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "expanded": torch.randn(1).expand(5),
        "no elements": torch.empty(0, 3),
        "scalar": torch.tensor(3),
        **{
            str(d): torch.arange(4).to(d)
            for d in (torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64)
        },
        "module": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict(),
        "optimizer": optimizer.state_dict(),
        "plain": [
            None,
            True,
            False,
            -5,
            1 << 70,
            1.5,
            1 + 2j,
            "ü€",
            b"a\xff",
            bytearray(b"xx"),
            (),
            (1, 2, 3, 4),
            {1, 2},
        ],
        "ordered": collections.OrderedDict([("a", 1), ("b", 2)]),
        "sizes": [torch.Size([1, 2]), torch.float16],
        (1, "a"): "a tuple as a key",
    }


def assert_same(a, b):
    if isinstance(b, torch.Tensor):
        assert torch.equal(a, b)
        assert (a.dtype, a.stride()) == (b.dtype, b.stride())
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for key, value in b.items():
            assert_same(a[key], value)
    elif isinstance(b, list | tuple):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for one, two in zip(a, b, strict=True):
            assert_same(one, two)
    else:
        assert a == b
        assert type(a) is type(b)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_as_torch_reads_it(new, tmp_path):
    torch.save(contents(), tmp_path / "m", _use_new_zipfile_serialization=new)
    own, theirs = torch_files.read(tmp_path / "m"), torch.load(tmp_path / "m", weights_only=True)
    assert_same(own, theirs)
    assert own["view"].untyped_storage().data_ptr() == own["its whole"].untyped_storage().data_ptr()
    own["view"].zero_()  # memory of its own
    assert torch.equal(torch_files.read(tmp_path / "m")["view"], theirs["view"])


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_other_protocols(protocol, tmp_path):
    """Which torch reads only as code."""
    raw = contents()
    torch.save({**raw, "u16": torch.arange(4).to(torch.uint16)}, tmp_path / "m", pickle_protocol=protocol)
    own = torch_files.read(tmp_path / "m")
    assert own.pop("u16").tolist() == [0, 1, 2, 3]
    assert_same(own, raw)


def test_what_is_left_out(tmp_path):
    """Tensors that are not plain come without values, what was logged as inert objects."""
    unusual = {
        "sparse": torch.eye(3).to_sparse(),
        "quantised": torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8),
        "meta": torch.empty(3, device="meta"),
        "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
    }
    logged = {"args": argparse.Namespace(a=1), "path": pathlib.Path("x")}
    torch.save({**unusual, **logged, "counts": collections.Counter("aab")}, tmp_path / "m")
    own = torch_files.read(tmp_path / "m")
    assert all(own[key].is_meta for key in unusual)
    assert all(type(own[key]) is Inert for key in logged)
    assert own["counts"] == {"a": 2, "b": 1}


class Sub(torch.Tensor):
    pass


def test_subclasses_of_tensors_are_code(tmp_path):
    torch.save(torch.zeros(3).as_subclass(Sub), tmp_path / "m")
    with pytest.raises(NeedsCodeError, match=r"needs test_torch_files\.Sub"):
        torch_files.read(tmp_path / "m")
