// corner_gather and gather_corners on NVIDIA GPUs on one page: the way of a query, which file does what, how to add a
// GPU or a number type. Below it: what the torch-facing code and the kernels agree on. The whole head on a GPU is in
// Python, by Triton.
//
// B images, Q queries each, K = 4 corners (1 without local ensemble), D channels.
//
// ---- from an operator to a launch: compiled by g++, and the only code that knows torch ----
//
//   head/ops.py        corner_gather            corner_gather_backward, gather_corners_backward: under
//                      gather_corners                    |      torch.use_deterministic_algorithms with lists of the
//                            |                           |      rows of each pixel
//   corner_gather.cpp     forward                     backward          ../arguments.h: checks; memory, current stream
//                            |                           |
//   ====== gather.h ====  gather_forward          gather_backward  ====================================================
//                            |                           |
//   gather_launch.h    by type of hidden, K, and 16-byte or single loads: which kernel, on how many threads and blocks
//                            |                           |
//   gather_kernels.h   forward_kernel                    |
//   gather_backward.h                    link_kernel, backward_kernel, segments_kernel, partials_kernel
//
// Below the line nvcc compiles corner_gather.cu, which includes it all and says what LIIF_KERNEL, LIIF_SHARED_ARRAY,
// LIIF_LAUNCH and the like are on a GPU; a test on a CPU includes the same files and says it otherwise.
//
// ---- in a kernel (T: hidden's type; N columns a thread; numbers.h: loads, stores, conversions) ----
//
//    coord, cell
//        |
//    locate             the pixel of every corner of a query, rel_y, rel_x; by the index arithmetic that all devices
//        |              share (../corners.h). In forward_kernel kTile queries of a block, once each, into shared memory
//        |
//    forward_kernel     groups of threads take queries: what corners share is computed and loaded once,
//                       h = relu(hidden[pixel] + w_pos x (rel_y, rel_x, cell_y, cell_x)); for gather_corners, which
//                       has no w_pos, hidden[pixel] itself, and rel
//
//    link_kernel        all rows of h into lists, two for each pixel, or for each of its segments where pixels are few:
//        |              no sum needs an atomic addition, of which the L2 cache does no more than one float a clock and
//        |              slice
//    backward_kernel    groups of threads take pixels: the gradients behind the ReLU along both lists, their sum to
//        |              grad_hidden, once; each block's share of grad_w_pos. Neither ReLU nor share for gather_corners
//    segments_kernel    where pixels have several segments: their sums, in order, to grad_hidden
//    partials_kernel    the blocks' shares, in order: grad_w_pos
//
// ---- to add ----
//
//   A GPU architecture: tools/building/cuda.py, ARCHITECTURES (what nvcc does not know is left out). Its own
//   instructions: numbers.h, behind __CUDA_ARCH__; the other branch must stay.
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
  const S* w_pos;  // [D, 4], with first_layer
  int64_t count;   // B * Q
  int64_t queries; // Q
  int64_t image;   // h * w
  int64_t d;       // D
  bool ensemble;
  bool first_layer;  // corner_gather; false: gather_corners
};

constexpr int kTile = 32;  // queries that a block takes at a time

#ifndef LIIF_CUDA_MOST_BLOCKS  // a test on a CPU wants fewer
#define LIIF_CUDA_MOST_BLOCKS 1024
#endif
constexpr int64_t kMostBlocks = LIIF_CUDA_MOST_BLOCKS;  // of one launch, and so partial sums of grad_w_pos

// For each segment of a pixel: of the rows of two of its four corners each.
constexpr int lists_of(bool ensemble) { return ensemble ? 2 : 1; }

// A row of h in a list of those that share a pixel.
template <class S>
struct Link {
  int64_t next;  // row of h, from 1; 0: none
  S ry, rx;      // of the row's query; of rows as they are ry says whether it counts: 1 or 0
};

// A group of threads adds up a pixel's rows one after the other. Where pixels are few, the rows of each are in several
// segments, so that there are enough for all groups, but none of only a few rows.
inline int64_t segments_of(int64_t pixels, int64_t rows) {
  constexpr int64_t kEnough = 4096, kLeast = 32;  // as in head/row_lists.py
  const int64_t wanted = (kEnough + pixels - 1) / pixels, most = rows / (kLeast * pixels);
  return wanted < 2 || most < 2 ? 1 : wanted < most ? wanted : most;
}

template <class S>
struct Lists {
  int64_t pixels;    // B * h * w
  int64_t segments;  // of a pixel: its rows by the number of their query, modulo segments
  int64_t* head;     // [pixels, segments, lists_of(ensemble)]: first row, from 1; 0: none
  Link<S>* link;     // [count, K]
  S* sums;           // [pixels, segments, D]; null with one segment
};

// h [count, K, D], weight [count, K] of hidden [B, h, w, D]; rel [count, K, 2] without first_layer, else not used. Rows of
// queries that need a pixel which hidden does not hold are NaN, and so are their weights: an error would need the host
// to wait.
template <class S>
const char* gather_forward(const Gather<S>& g, HiddenType type, const void* hidden, void* h, S* rel, S* weight,
                           void* stream);

// grad_hidden [B, h, w, D] of the hidden type; grad_w_pos [D, 4], by partial sums in partial [kMostBlocks, 4, D].
// Without first_layer neither of the latter, and no h.
// next [count, K]: the lists' heads are given, and these are their links, so that all is added in the same order each
// time; null: heads are zero, and rows come into the lists in any order.
template <class S>
const char* gather_backward(const Gather<S>& g, HiddenType type, const void* grad_h, const void* h, const int64_t* next,
                            const Lists<S>& lists, void* grad_hidden, S* partial, S* grad_w_pos, void* stream);

// Makes `device` current for the library's own copy of the CUDA runtime.
const char* use_device(int device);

}  // namespace liif::cuda
