// corner_gather on NVIDIA GPUs on one page: the way of a query, which file does what, how to add a GPU or a number
// type. Below it: what the torch-facing code and the kernels agree on. The whole head on a GPU is in Python, by Triton.
//
// B images, Q queries each, K = 4 corners (1 without local ensemble), D channels.
//
// ---- from an operator to a launch: compiled by g++, and the only code that knows torch ----
//
//   head/ops.py        corner_gather            corner_gather_backward: under torch.use_deterministic_algorithms with
//                            |                           |              the order of the rows by pixel
//   corner_gather.cpp     forward                     backward          ../arguments.h: checks; memory, current stream
//                            |                           |
//   ====== gather.h ====  gather_forward   gather_backward   gather_segments  (with an order)  ========================
//                            |                   |                 |
//   gather_launch.h    by type of hidden, K, and 16-byte or single loads: which kernel, on how many threads
//                            |                   |                 |
//   gather_kernels.h   forward_kernel     backward_kernel    segments_kernel
//                                         partials_kernel
//
// Below the line nvcc compiles corner_gather.cu, which includes it all and says what LIIF_KERNEL, LIIF_SHARED,
// LIIF_LAUNCH and the like are on a GPU; a test on a CPU includes the same files and says it otherwise.
//
// ---- in a kernel (T: hidden's type; N columns a thread; numbers.h: loads, stores, conversions, atomics) ----
//
//    coord, cell
//        |
//    locate             kTile queries of a block, once each, into shared memory: the pixel of every corner, rel_y,
//        |              rel_x, cells; area weights; by the index arithmetic that all devices share (../corners.h)
//        |
//    forward_kernel     groups of threads take queries: what corners share is computed and loaded once,
//                       h = relu(hidden[pixel] + w_pos x (rel_y, rel_x, cell_y, cell_x))
//
//    backward_kernel    gradients behind the ReLU: queries in a row that share a pixel are added in registers, their
//        |              sum to grad_hidden by one atomic; each block's share of grad_w_pos
//    partials_kernel    those shares, in order: grad_w_pos
//    segments_kernel    in the place of atomics (backward_kernel then has no grad_hidden): one group of threads adds
//                       all rows of a pixel in their order
//
// ---- to add ----
//
//   A GPU architecture: setup.py, ARCHITECTURES (what nvcc does not know is left out). Its own instructions: numbers.h,
//   behind __CUDA_ARCH__, as add_four is; the other branch must stay.
//   A number type of hidden: ../types.h (HiddenType), hidden_type in ../arguments.h, Number<T> in numbers.h, the
//   choices by type at the end of gather_launch.h; for the CPU, load and store of the vector classes, and FloatKernels.
//   Tests: test_cuda_on_cpu runs the kernels on a CPU, thread by thread; test_cuda_build compiles them for every
//   architecture where nvcc is; tests/gpu needs the GPU.
//
// Plain data below: neither side needs the other's headers. Every function launches on `stream` and returns null, or
// why the launch failed.
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
