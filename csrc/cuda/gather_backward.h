// The kernels of the gather's gradient.
#pragma once
#include "gather_kernels.h"

namespace liif::cuda {

constexpr int kBackwardBlocks = 2;
constexpr int kSumColumns = 8;  // of a block of partials_kernel and segments_kernel

template <int K>
constexpr int kLists = lists_of(K == 4);

// The gradient of one row behind the ReLU.
template <class T, int N>
LIIF_DEVICE void behind_relu(const Raw<T, N>& grad, const Raw<T, N>& h, typename Number<T>::S* out) {
  typename Number<T>::S post[N];
  grad.unpack(out);
  h.unpack(post);
  for (int i = 0; i < N; ++i) out[i] = post[i] > 0 ? out[i] : 0;
}

// Links all rows of h into lists, see Lists. next [count, K]: the lists and their heads are given, and link takes them
// over; else they are made here, in any order, from heads of zero. Without first_layer a link's ry is 1, and 0 for a row
// whose pixel is not at hand.
template <class S, int K>
LIIF_KERNEL(2) void link_kernel(const Gather<S> g, const int64_t* LIIF_RESTRICT next, int64_t segments,
                                int64_t* LIIF_RESTRICT head, Link<S>* LIIF_RESTRICT link) {
  const int64_t q = int64_t(blockIdx.x) * kThreads + thread_number();
  if (q >= g.count) return;
  int64_t row[K];
  S ry[2], rx[2];
  const uint32_t inside = locate<K>(g, q, fetch(g, q), row, ry, rx);
  const int64_t segment = segments > 1 ? q % segments : 0;
  for (int k = 0; k < K; ++k) {
    const int64_t mine = q * K + k, list = (row[k] * segments + segment) * kLists<K> + k / 2;
    const int64_t other = next ? next[mine] : exchange(head + list, mine + 1);
    link[mine] = {other, g.first_layer ? ry[K == 4 ? k >> 1 : 0] : S(inside >> k & 1), rx[K == 4 ? k & 1 : 0]};
  }
}

// Rows of one step along a pixel's lists, on their way from memory.
template <class T, int N, int K>
struct Rows {
  using S = typename Number<T>::S;
  Raw<T, N> grad[kLists<K>], h[kLists<K>];
  Link<S> link[kLists<K>];
  S cell_y[kLists<K>], cell_x[kLists<K>];
};

// grad_hidden [pixels, D]: a group of threads adds up the rows of a pixel, along its lists at once, so that no sum is
// written twice; the rows of the next step are on their way meanwhile. sums: not null where pixels have several segments,
// which are then what `pixels` counts, and whose sums go there in place of grad_hidden. partial [gridDim.x, 4, D]: this
// block's share of grad_w_pos. Without first_layer neither h nor partial.
template <class T, int N, int K, bool first_layer>
LIIF_KERNEL(kBackwardBlocks) void backward_kernel(const Gather<typename Number<T>::S> g, int64_t pixels,
                                 const T* LIIF_RESTRICT grad_h, const T* LIIF_RESTRICT h,
                                 const int64_t* LIIF_RESTRICT head,
                                 const Link<typename Number<T>::S>* LIIF_RESTRICT link, T* LIIF_RESTRICT grad_hidden,
                                 typename Number<T>::S* LIIF_RESTRICT sums,
                                 typename Number<T>::S* LIIF_RESTRICT partial) {
  using S = typename Number<T>::S;
  using R = Raw<T, N>;
  constexpr int L = kLists<K>;
  LIIF_SHARED_ARRAY(S, groups, first_layer ? kThreads * N : 1);
  const int64_t col = first_column<N>(), stride = int64_t(gridDim.x) * blockDim.y;
  const bool active = col < g.d;
  S grad_w[4][N], sum[N];
  for (int i = 0; i < N; ++i) {
    for (int c = 0; c < 4; ++c) grad_w[c][i] = 0;
    sum[i] = 0;
  }
  const auto heads = [&](int64_t pixel, int64_t* row) {
    for (int l = 0; l < L; ++l) row[l] = pixel < pixels ? head[pixel * L + l] : 0;
  };
  const auto load = [&](const int64_t* row, Rows<T, N, K>& rows) {
    for (int l = 0; l < L; ++l) {
      if (row[l] == 0) continue;
      const int64_t at = row[l] - 1, query = at / K;
      rows.link[l] = link[at];
      rows.grad[l] = R::load_once(grad_h + at * g.d + col);
      if constexpr (first_layer) {
        rows.h[l] = R::load_once(h + at * g.d + col);
        rows.cell_y[l] = g.cell ? g.cell[2 * query] : S(0), rows.cell_x[l] = g.cell ? g.cell[2 * query + 1] : S(0);
      }
    }
  };
  int64_t pixel = int64_t(blockIdx.x) * blockDim.y + threadIdx.y, row[L], following[L];
  if (!active) pixel = pixels;
  Rows<T, N, K> now{};
  heads(pixel, row);
  heads(pixel + stride, following);
  load(row, now);
#pragma unroll 1
  while (pixel < pixels) {
    int64_t next[L], left = 0;
    for (int l = 0; l < L; ++l) left |= next[l] = row[l] ? now.link[l].next : 0;
    if (!left) {
      for (int l = 0; l < L; ++l) next[l] = following[l];
      heads(pixel + 2 * stride, following);
    }
    Rows<T, N, K> coming{};
    load(next, coming);
    for (int l = 0; l < L; ++l) {
      if (row[l] == 0) continue;
      S x[N];
      if constexpr (!first_layer) {
        now.grad[l].unpack(x);
        for (int i = 0; i < N; ++i) sum[i] = now.link[l].ry > 0 ? add(sum[i], x[i]) : sum[i];
      } else {
        const S cell_y = mul(now.cell_y[l], g.y.n), cell_x = mul(now.cell_x[l], g.x.n);
        behind_relu<T, N>(now.grad[l], now.h[l], x);
        for (int i = 0; i < N; ++i) {
          sum[i] = add(sum[i], x[i]);
          grad_w[0][i] = fused(x[i], now.link[l].ry, grad_w[0][i]);
          grad_w[1][i] = fused(x[i], now.link[l].rx, grad_w[1][i]);
          grad_w[2][i] = fused(x[i], cell_y, grad_w[2][i]);
          grad_w[3][i] = fused(x[i], cell_x, grad_w[3][i]);
        }
      }
    }
    if (!left) {
      if (!sums) R::store(grad_hidden + pixel * g.d + col, sum);
      for (int i = 0; i < N; ++i) {
        if (sums) sums[pixel * g.d + col + i] = sum[i];
        sum[i] = 0;
      }
      pixel += stride;
    }
    for (int l = 0; l < L; ++l) row[l] = next[l];
    now = coming;
  }
  // the groups' sums, added in order
  for (int c = 0; c < (first_layer ? 4 : 0); ++c) {
    __syncthreads();
    for (int i = 0; i < N; ++i) groups[i * kThreads + thread_number()] = grad_w[c][i];
    __syncthreads();
    if (!active || threadIdx.y > 0) continue;
    for (int i = 0; i < N; ++i) {
      S total = 0;
      for (unsigned y = 0; y < blockDim.y; ++y) {
        total = add(total, groups[i * kThreads + int(y * blockDim.x + threadIdx.x)]);
      }
      partial[(int64_t(blockIdx.x) * 4 + c) * g.d + col + i] = total;
    }
  }
}

// grad_w_pos [D, 4] = the sum of partial [partials, 4, D], in order; kThreads / kSumColumns rows of threads, which
// have all that they read on its way at once.
template <class S>
LIIF_KERNEL(2) void partials_kernel(const S* LIIF_RESTRICT partial, int64_t partials, int64_t d, bool has_cell,
                                 S* LIIF_RESTRICT grad_w_pos) {
  constexpr int kRows = kThreads / kSumColumns, kEach = int((kMostBlocks + kRows - 1) / kRows);
  LIIF_SHARED_ARRAY(S, sums, kThreads);
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  S mine[kEach], sum = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int64_t p = int64_t(i) * kRows + threadIdx.y;
    mine[i] = p < partials && column < 4 * d ? partial[p * 4 * d + column] : S(0);
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) sum = add(sum, mine[i]);
  sums[thread_number()] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= 4 * d) return;
  for (unsigned y = 1; y < blockDim.y; ++y) sum = add(sum, sums[y * blockDim.x + threadIdx.x]);
  const int64_t c = column / d;
  grad_w_pos[4 * (column - c * d) + c] = c < 2 || has_cell ? sum : S(0);
}

// grad_hidden [pixels, D] = the sum of sums [pixels, segments, D], in an order that does not change. blockIdx.y: the pixel;
// threads of one column add up some of its segments each.
template <class T>
LIIF_KERNEL(2) void segments_kernel(const typename Number<T>::S* LIIF_RESTRICT sums, int64_t segments, int64_t d,
                                 T* LIIF_RESTRICT grad_hidden) {
  using S = typename Number<T>::S;
  LIIF_SHARED_ARRAY(S, parts, kThreads);
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, pixel = blockIdx.y;
  S sum = 0;
  if (column < d) {
    for (int64_t s = threadIdx.y; s < segments; s += blockDim.y) sum = add(sum, sums[(pixel * segments + s) * d + column]);
  }
  parts[thread_number()] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= d) return;
  for (unsigned y = 1; y < blockDim.y; ++y) sum = add(sum, parts[y * blockDim.x + threadIdx.x]);
  grad_hidden[pixel * d + column] = Number<T>::put(sum);
}

}  // namespace liif::cuda
