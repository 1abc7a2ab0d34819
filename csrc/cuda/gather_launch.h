// Which kernel runs, and on how many threads. LIIF_LAUNCH(kernel, grid, block, stream, arguments...), launched(), the
// outcome of the last launch, and multiprocessors(), of the current device, come from the file that includes this.
#pragma once
#include "gather_backward.h"

#include <algorithm>

namespace liif::cuda {

// Threads of a block: x covers the columns of one row as far as a block can, y is what is left.
inline dim3 block_of(int64_t columns) {
  unsigned x = kThreads > kTile ? kThreads / kTile : 1;  // no more groups than queries
  while (x < kThreads && int64_t(x) < columns) x *= 2;
  return dim3(x, kThreads / x);
}

// At least one, so that weights are written even where D is 0.
inline int64_t column_blocks(int64_t columns, const dim3& block) {
  return columns > block.x ? (columns + block.x - 1) / block.x : 1;
}

inline int64_t tiles(int64_t count, int64_t size) { return (count + size - 1) / size; }

inline bool fits(int64_t blocks_x, int64_t blocks_y) { return blocks_x <= 0x7fffffff && blocks_y <= 65535; }
constexpr const char* kTooLarge = "more than 2^37 queries or 10^7 channels: call it in pieces";

template <class P>
bool aligned(P* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

template <class T, class... P>
bool is_wide(int64_t d, P*... p) {
  return Number<T>::kWide > 1 && d % Number<T>::kWide == 0 && (aligned(p) && ...);
}

// As many blocks as are at work at a time, each with an equal share; no more than `most`.
inline int64_t persistent(int64_t most, int at_a_time, int64_t column_blocks) {
  const int64_t all = std::max<int64_t>(int64_t(multiprocessors()) * at_a_time / column_blocks, 1);
  return std::min(most, std::min<int64_t>(all, kMostBlocks));
}

template <class T, int N, int K>
const char* run_forward(const Gather<typename Number<T>::S>& g, const T* hidden, T* h, typename Number<T>::S* rel,
                        typename Number<T>::S* weight, void* stream) {
  const dim3 block = block_of(g.d / N);
  const int64_t y = column_blocks(g.d / N, block), x = persistent(tiles(g.count, kTile), forward_blocks(N), y);
  if (!fits(x, y)) return kTooLarge;
  const dim3 grid{unsigned(x), unsigned(y)};
  if (g.first_layer) LIIF_LAUNCH((forward_kernel<T, N, K, true>), grid, block, stream, g, hidden, h, rel, weight);
  else LIIF_LAUNCH((forward_kernel<T, N, K, false>), grid, block, stream, g, hidden, h, rel, weight);
  return launched();
}

template <class T, int N, int K>
const char* run_backward(const Gather<typename Number<T>::S>& g, const T* grad_h, const T* h, const int64_t* next,
                         const Lists<typename Number<T>::S>& lists, T* grad_hidden, typename Number<T>::S* partial,
                         typename Number<T>::S* grad_w_pos, void* stream) {
  using S = typename Number<T>::S;
  const dim3 block = block_of(g.d / N);
  const dim3 sum_block(kSumColumns, kThreads / kSumColumns);
  const int64_t y = column_blocks(g.d / N, block), links = tiles(g.count, kThreads);
  const int64_t count = lists.pixels * lists.segments, x = persistent(tiles(count, block.y), kBackwardBlocks, y);
  if (!fits(links, 1) || !fits(x, y)) return kTooLarge;
  LIIF_LAUNCH((link_kernel<S, K>), dim3(unsigned(links)), dim3(kThreads), stream, g, next, lists.segments,
              lists.head, lists.link);
  if (const char* error = launched()) return error;
  const dim3 grid{unsigned(x), unsigned(y)};
  if (g.first_layer) {
    LIIF_LAUNCH((backward_kernel<T, N, K, true>), grid, block, stream, g, count, grad_h, h, lists.head, lists.link,
                grad_hidden, lists.sums, partial);
  } else {
    LIIF_LAUNCH((backward_kernel<T, N, K, false>), grid, block, stream, g, count, grad_h, h, lists.head, lists.link,
                grad_hidden, lists.sums, partial);
  }
  if (const char* error = launched()) return error;
  if (lists.sums) {
    const int64_t columns = tiles(g.d, kSumColumns);
    if (!fits(columns, lists.pixels)) return kTooLarge;
    LIIF_LAUNCH((segments_kernel<T>), dim3(unsigned(columns), unsigned(lists.pixels)), sum_block, stream, lists.sums,
                lists.segments, g.d, grad_hidden);
    if (const char* error = launched()) return error;
  }
  if (!g.first_layer) return nullptr;
  LIIF_LAUNCH((partials_kernel<S>), dim3(unsigned(tiles(4 * g.d, kSumColumns))), sum_block, stream, partial, x, g.d,
              g.cell != nullptr, grad_w_pos);
  return launched();
}

template <class T>
const char* forward_of(const Gather<typename Number<T>::S>& g, const void* hidden, void* h, typename Number<T>::S* rel,
                       typename Number<T>::S* weight, void* stream) {
  constexpr int N = Number<T>::kWide;
  const auto run = is_wide<T>(g.d, hidden, h) ? g.ensemble ? run_forward<T, N, 4> : run_forward<T, N, 1>
                   : g.ensemble               ? run_forward<T, 1, 4>
                                              : run_forward<T, 1, 1>;
  return run(g, static_cast<const T*>(hidden), static_cast<T*>(h), rel, weight, stream);
}

template <class T>
const char* backward_of(const Gather<typename Number<T>::S>& g, const void* grad_h, const void* h, const int64_t* next,
                        const Lists<typename Number<T>::S>& lists, void* grad_hidden, typename Number<T>::S* partial,
                        typename Number<T>::S* grad_w_pos, void* stream) {
  constexpr int N = Number<T>::kWide;
  const auto run = is_wide<T>(g.d, grad_h, h, grad_hidden) ? g.ensemble ? run_backward<T, N, 4> : run_backward<T, N, 1>
                   : g.ensemble                            ? run_backward<T, 1, 4>
                                                           : run_backward<T, 1, 1>;
  return run(g, static_cast<const T*>(grad_h), static_cast<const T*>(h), next, lists, static_cast<T*>(grad_hidden),
             partial, grad_w_pos, stream);
}

template <class S>
const char* gather_forward(const Gather<S>& g, HiddenType type, const void* hidden, void* h, S* rel, S* weight,
                           void* stream) {
  if constexpr (sizeof(S) == 8) {
    return forward_of<double>(g, hidden, h, rel, weight, stream);
  } else {
    const auto run = type == kBf16 ? forward_of<Bf16> : type == kHalf ? forward_of<Half> : forward_of<float>;
    return run(g, hidden, h, rel, weight, stream);
  }
}

template <class S>
const char* gather_backward(const Gather<S>& g, HiddenType type, const void* grad_h, const void* h, const int64_t* next,
                            const Lists<S>& lists, void* grad_hidden, S* partial, S* grad_w_pos, void* stream) {
  if constexpr (sizeof(S) == 8) {
    return backward_of<double>(g, grad_h, h, next, lists, grad_hidden, partial, grad_w_pos, stream);
  } else {
    const auto run = type == kBf16 ? backward_of<Bf16> : type == kHalf ? backward_of<Half> : backward_of<float>;
    return run(g, grad_h, h, next, lists, grad_hidden, partial, grad_w_pos, stream);
  }
}

template const char* gather_forward(const Gather<float>&, HiddenType, const void*, void*, float*, float*, void*);
template const char* gather_forward(const Gather<double>&, HiddenType, const void*, void*, double*, double*, void*);
template const char* gather_backward(const Gather<float>&, HiddenType, const void*, const void*, const int64_t*,
                                     const Lists<float>&, void*, float*, float*, void*);
template const char* gather_backward(const Gather<double>&, HiddenType, const void*, const void*, const int64_t*,
                                     const Lists<double>&, void*, double*, double*, void*);

}  // namespace liif::cuda
