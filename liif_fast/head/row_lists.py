"""The rows that each pixel gave, in lists: what csrc/cuda adds up in an order that is always the same."""

from __future__ import annotations

import torch

from .reference import corners


def segments_of(pixels, rows):
    """In how many parts each pixel's rows are added up, as in csrc/cuda/gather.h."""
    return max(1, min(-(-4096 // pixels), rows // (32 * pixels)))


def row_lists(coord, hidden_size, size, origin, ensemble):
    """The gathered rows in lists, two (one without ensemble) for each segment of each pixel of hidden, in their own
    order: the number of the row that comes next [B*Q*K], and of the first row of each list; numbers from 1, 0 where
    there is none. A row's segment is its query's number modulo ``segments_of``."""
    index, _, _ = corners(coord, size, ensemble)
    # a row outside hidden has no gradient, so that any pixel may have it
    y, x = (index[..., i].sub_(origin[i]).clamp_(0, hidden_size[i] - 1) for i in range(2))
    image = torch.arange(len(coord), device=coord.device).view(-1, 1, 1)
    pixels = len(coord) * hidden_size[0] * hidden_size[1]
    segments = segments_of(pixels, y.numel())
    query = torch.arange(coord.shape[0] * coord.shape[1], device=coord.device).view(*coord.shape[:2], 1)
    part = ((image * hidden_size[0] + y) * hidden_size[1] + x) * segments + query % segments
    half = torch.arange(index.shape[2], device=coord.device) // 2  # as kLists in csrc/cuda/gather_backward.h
    lists = 2 if ensemble else 1
    key = part * lists + half
    key, order = key.flatten().sort(stable=True)
    number = order + 1
    after = torch.cat([torch.where(key[1:] == key[:-1], number[1:], 0), number.new_zeros(1)])
    start = torch.searchsorted(key, torch.arange(pixels * segments * lists + 1, device=coord.device))
    first = number[start[:-1].clamp_max(len(number) - 1)]
    return torch.empty_like(after).scatter_(0, order, after), torch.where(start[1:] > start[:-1], first, 0)
