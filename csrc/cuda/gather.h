// What the torch-facing code and the CUDA kernels of the gather agree on. Plain data: neither side needs the other's
// headers. Every function here launches on `stream` and returns null, or why the launch failed.
#pragma once
#include "../corners.h"
#include "../types.h"

namespace liif::cuda {

// Queries, all pointers to contiguous memory of the device. S: float, or double with a double hidden map.
template <class S>
struct Gather {
  Axis<S> y, x;
  const S* coord;  // [count, 2]
  const S* cell;   // [count, 2] or null
  const S* w_pos;  // [D, 4]
  int64_t count;   // B * Q
  int64_t queries; // Q
  int64_t image;   // h * w
  int64_t d;       // D
  bool ensemble;
};

constexpr int kTile = 64;  // queries that a block takes at a time

#ifndef LIIF_CUDA_PARTIALS  // a test on a CPU wants fewer
#define LIIF_CUDA_PARTIALS 1024
#endif

// Blocks of the backward pass, and so partial sums of grad_w_pos: enough to fill the largest GPU several times.
constexpr int64_t partials(int64_t count) {
  const int64_t tiles = (count + kTile - 1) / kTile;
  return tiles < LIIF_CUDA_PARTIALS ? tiles : LIIF_CUDA_PARTIALS;
}

// h [count, K, D], weight [count, K] of hidden [B, h, w, D]. Rows of queries that need a pixel which hidden does not
// hold are NaN, and so are their weights: an error would need the host to wait.
template <class S>
const char* gather_forward(const Gather<S>& g, HiddenType type, const void* hidden, void* h, S* weight, void* stream);

// grad_hidden [B, h, w, D] += gradient, summed by atomics (null: not wanted); grad_w_pos [D, 4], by partial sums in
// partial [partials(count), 4, D] and always in the same order.
template <class S>
const char* gather_backward(const Gather<S>& g, HiddenType type, const void* grad_h, const void* h, S* grad_hidden,
                            S* partial, S* grad_w_pos, void* stream);

// grad_hidden [pixels, D] of the hidden type, summed in the order of `order`: rows of pixel p are those of h at
// order[start[p]] to order[start[p + 1] - 1].
const char* gather_segments(bool is_double, HiddenType type, int64_t pixels, int64_t d, const void* grad_h,
                            const void* h, const int64_t* order, const int64_t* start, void* grad_hidden, void* stream);

// Makes `device` current for the library's own copy of the CUDA runtime.
const char* use_device(int device);

}  // namespace liif::cuda
