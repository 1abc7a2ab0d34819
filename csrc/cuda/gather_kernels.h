// Bodies of the gather's kernels. A block takes kTile queries at a time: its threads first compute where they lie, each
// query once, then groups of threads (x: columns of D, y: groups) take queries, N columns a thread.
// LIIF_KERNEL(blocks): how many blocks a multiprocessor should hold, which bounds their registers.
// Compiled by nvcc (corner_gather.cu), and by g++ in a test that runs them on a CPU, thread by thread.
#pragma once
#include "gather.h"
#include "numbers.h"

namespace liif::cuda {

// Where a block's queries lie.
template <class S>
struct Tile {
  int64_t row[4][kTile];  // of the hidden map, [B * h * w]; the first K are set
  S ry[2][kTile], rx[2][kTile], cell_y[kTile], cell_x[kTile];
};

LIIF_DEVICE int thread_number() { return int(threadIdx.y * blockDim.x + threadIdx.x); }

// Queries [first, first + n); their weights too, where wanted.
template <int K, class S>
LIIF_DEVICE void locate(const Gather<S>& g, int64_t first, int n, Tile<S>& tile, S* weight) {
  constexpr int kSides = K == 4 ? 2 : 1;
  for (int i = thread_number(); i < n; i += int(blockDim.x * blockDim.y)) {
    const int64_t q = first + i, image = q / g.queries * g.image;
    int32_t index_y[kSides], index_x[kSides];
    S ry[kSides], rx[kSides];
    for (int side = 0; side < kSides; ++side) {
      const Near<S> y = nearest(g.coord[2 * q], g.y, side), x = nearest(g.coord[2 * q + 1], g.x, side);
      index_y[side] = y.index, index_x[side] = x.index;
      // a pixel that is not at hand: everything computed from it becomes NaN
      tile.ry[side][i] = ry[side] = y.inside ? y.rel : S(__builtin_nanf(""));
      tile.rx[side][i] = rx[side] = x.inside ? x.rel : S(__builtin_nanf(""));
    }
    for (int k = 0; k < K; ++k) {
      tile.row[k][i] = image + int64_t(index_y[K == 4 ? k >> 1 : 0]) * g.x.extent + index_x[K == 4 ? k & 1 : 0];
    }
    tile.cell_y[i] = g.cell ? mul(g.cell[2 * q], g.y.n) : S(0);
    tile.cell_x[i] = g.cell ? mul(g.cell[2 * q + 1], g.x.n) : S(0);
    if (weight) {
      if constexpr (K == 4) {
        S w[4];
        area_weights(ry, rx, w);
        for (int k = 0; k < 4; ++k) weight[4 * q + k] = w[k];
      } else {
        weight[q] = ry[0] == ry[0] && rx[0] == rx[0] ? S(1) : add(ry[0], rx[0]);
      }
    }
  }
}

// The first of this thread's columns.
template <int N>
LIIF_DEVICE int64_t first_column() {
  return (int64_t(blockIdx.y) * blockDim.x + threadIdx.x) * N;
}

LIIF_DEVICE int tile_queries(int64_t count, int64_t first) {
  return int(count - first < kTile ? count - first : int64_t(kTile));
}

// h = relu(hidden[row] + w_pos * (rel, cell)). What the four corners of a query share, cells and sides, is computed
// once; a pixel that serves several of its corners (at the map's edges) is loaded once.
template <class T, int N, int K>
LIIF_KERNEL(N == 8 ? 2 : 3) void forward_kernel(const Gather<typename Number<T>::S> g, const T* LIIF_RESTRICT hidden,
                                T* LIIF_RESTRICT h, typename Number<T>::S* LIIF_RESTRICT weight) {
  using S = typename Number<T>::S;
  using R = Raw<T, N>;
  constexpr int kSides = K == 4 ? 2 : 1;
  LIIF_SHARED(Tile<S>, tile);
  const int64_t first = int64_t(blockIdx.x) * kTile, col = first_column<N>();
  const int n = tile_queries(g.count, first);
  locate<K>(g, first, n, tile, blockIdx.y == 0 ? weight : nullptr);
  __syncthreads();
  if (col >= g.d) return;
  S w[4][N];
  for (int i = 0; i < N; ++i) {
    for (int c = 0; c < 4; ++c) w[c][i] = g.w_pos[4 * (col + i) + c];
  }
  const T* from = hidden + col;
  T* to = h + first * K * g.d + col;
#pragma unroll 1
  for (int q = int(threadIdx.y); q < n; q += int(blockDim.y)) {
    R in[K];
    int64_t row[K];
    for (int k = 0; k < K; ++k) row[k] = tile.row[k][q];
    in[0] = R::load(from + row[0] * g.d);
    if constexpr (K == 4) {
      in[1] = row[1] == row[0] ? in[0] : R::load(from + row[1] * g.d);
      in[2] = row[2] == row[0] ? in[0] : R::load(from + row[2] * g.d);
      in[3] = row[3] == row[2] ? in[2] : row[3] == row[1] ? in[1] : R::load(from + row[3] * g.d);
    }
    S cell[N];
    for (int i = 0; i < N; ++i) cell[i] = fused(tile.cell_x[q], w[3][i], mul(tile.cell_y[q], w[2][i]));
    for (int s = 0; s < kSides; ++s) {
      S side[N];
      for (int i = 0; i < N; ++i) side[i] = fused(tile.ry[s][q], w[0][i], cell[i]);
      for (int t = 0; t < kSides; ++t) {
        const int k = kSides * s + t;
        S x[N];
        in[k].unpack(x);
        for (int i = 0; i < N; ++i) x[i] = relu(add(x[i], fused(tile.rx[t][q], w[1][i], side[i])));
        R::store(to + (int64_t(q) * K + k) * g.d, x);
      }
    }
  }
}

// The gradient of one row behind the ReLU.
template <class T, int N>
LIIF_DEVICE void masked(const Raw<T, N>& grad, const Raw<T, N>& h, typename Number<T>::S* out) {
  typename Number<T>::S post[N];
  grad.unpack(out);
  h.unpack(post);
  for (int i = 0; i < N; ++i) out[i] = post[i] > 0 ? out[i] : 0;
}

// grad_hidden by atomics, one per run of consecutive queries that share a pixel (on a grid, as many as the scale): all
// lanes that hold a row's columns add it up in registers before it leaves. A block takes consecutive tiles, a group
// consecutive queries of each, so that runs are long. partial [gridDim.x, 4, D]: this block's share of grad_w_pos.
template <class T, int N, int K>
LIIF_KERNEL(2) void backward_kernel(const Gather<typename Number<T>::S> g, const T* LIIF_RESTRICT grad_h,
                                 const T* LIIF_RESTRICT h, typename Number<T>::S* LIIF_RESTRICT grad_hidden,
                                 typename Number<T>::S* LIIF_RESTRICT partial) {
  using S = typename Number<T>::S;
  using R = Raw<T, N>;
  LIIF_SHARED(Tile<S>, tile);
  LIIF_SHARED_ARRAY(S, groups, kThreads * N);
  const int64_t col = first_column<N>(), tiles = (g.count + kTile - 1) / kTile;
  const bool active = col < g.d;
  S grad_w[4][N];
  for (int i = 0; i < N; ++i) {
    for (int c = 0; c < 4; ++c) grad_w[c][i] = 0;
  }
  const int64_t last_tile = tiles * (int64_t(blockIdx.x) + 1) / gridDim.x;
#pragma unroll 1
  for (int64_t t = tiles * blockIdx.x / gridDim.x; t < last_tile; ++t) {
    const int64_t first = t * kTile;
    const int n = tile_queries(g.count, first), share = kTile / int(blockDim.y), begin = int(threadIdx.y) * share;
    const int end = begin + share < n ? begin + share : n;
    __syncthreads();  // the previous tile has been read
    locate<K>(g, first, n, tile, static_cast<S*>(nullptr));
    __syncthreads();
    if (!active || begin >= end) continue;
    S sum[K][N];
    for (int k = 0; k < K; ++k) {
      for (int i = 0; i < N; ++i) sum[k][i] = 0;
    }
#pragma unroll 1
    for (int q = begin; q < end; ++q) {
      const int64_t at = (first + q) * K * g.d + col;
      R grad[K], post[K];
      for (int k = 0; k < K; ++k) grad[k] = R::load(grad_h + at + k * g.d), post[k] = R::load(h + at + k * g.d);
      S all[N];
      for (int i = 0; i < N; ++i) all[i] = 0;
      for (int k = 0; k < K; ++k) {
        S x[N];
        masked<T, N>(grad[k], post[k], x);
        const S ry = tile.ry[K == 4 ? k >> 1 : 0][q], rx = tile.rx[K == 4 ? k & 1 : 0][q];
        for (int i = 0; i < N; ++i) {
          grad_w[0][i] = fused(x[i], ry, grad_w[0][i]);
          grad_w[1][i] = fused(x[i], rx, grad_w[1][i]);
          all[i] = add(all[i], x[i]);
          sum[k][i] = add(sum[k][i], x[i]);
        }
        if (grad_hidden && (q + 1 == end || tile.row[k][q + 1] != tile.row[k][q])) {
          atomic_add<N>(grad_hidden + tile.row[k][q] * g.d + col, sum[k]);
          for (int i = 0; i < N; ++i) sum[k][i] = 0;
        }
      }
      for (int i = 0; i < N; ++i) {
        grad_w[2][i] = fused(all[i], tile.cell_y[q], grad_w[2][i]);
        grad_w[3][i] = fused(all[i], tile.cell_x[q], grad_w[3][i]);
      }
    }
  }
  // the groups' sums, added in order
  for (int c = 0; c < 4; ++c) {
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

// grad_w_pos [D, 4] = the sum of partial [partials, 4, D], in order.
template <class S>
LIIF_KERNEL(2) void partials_kernel(const S* LIIF_RESTRICT partial, int64_t partials, int64_t d, bool has_cell,
                                 S* LIIF_RESTRICT grad_w_pos) {
  LIIF_SHARED_ARRAY(S, sums, kThreads);
  const int64_t column = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  S sum = 0;
  if (column < 4 * d) {
    for (int64_t p = threadIdx.y; p < partials; p += blockDim.y) sum = add(sum, partial[p * 4 * d + column]);
  }
  sums[thread_number()] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= 4 * d) return;
  for (unsigned y = 1; y < blockDim.y; ++y) sum = add(sum, sums[y * blockDim.x + threadIdx.x]);
  const int64_t c = column / d;
  grad_w_pos[4 * (column - c * d) + c] = c < 2 || has_cell ? sum : S(0);
}

// grad_hidden without atomics: a group of threads adds one pixel's rows in order.
template <class T, int N>
LIIF_KERNEL(2) void segments_kernel(int64_t pixels, int64_t d, const T* LIIF_RESTRICT grad_h, const T* LIIF_RESTRICT h,
                                 const int64_t* LIIF_RESTRICT order, const int64_t* LIIF_RESTRICT start,
                                 T* LIIF_RESTRICT grad_hidden) {
  using S = typename Number<T>::S;
  using R = Raw<T, N>;
  const int64_t pixel = int64_t(blockIdx.x) * blockDim.y + threadIdx.y, col = first_column<N>();
  if (pixel >= pixels || col >= d) return;
  S sum[N];
  for (int i = 0; i < N; ++i) sum[i] = 0;
#pragma unroll 1
  for (int64_t i = start[pixel], end = start[pixel + 1]; i < end; ++i) {
    const int64_t at = order[i] * d + col;
    S x[N];
    masked<T, N>(R::load(grad_h + at), R::load(h + at), x);
    for (int j = 0; j < N; ++j) sum[j] = add(sum[j], x[j]);
  }
  R::store(grad_hidden + pixel * d + col, sum);
}

}  // namespace liif::cuda
