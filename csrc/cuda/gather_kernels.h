// The gather's forward kernel, and where queries lie. A block takes kTile queries at a time: its threads first compute
// where they lie, each query once, then groups of threads (x: columns of D, y: groups) take queries, N columns a
// thread.
// LIIF_KERNEL(blocks): how many blocks a multiprocessor should hold, which bounds their registers.
// Compiled by nvcc (corner_gather.cu), and by g++ in a test that runs them on a CPU, thread by thread.
#pragma once
#include "gather.h"
#include "numbers.h"

namespace liif::cuda {

// Blocks that a multiprocessor holds, by the columns of a thread: as many as registers allow without spills.
constexpr int forward_blocks(int columns) { return columns == 8 ? 2 : 3; }

// Where a block's queries lie.
template <class S>
struct Tile {
  int64_t row[4][kTile];  // of the hidden map, [B * h * w]; the first K are set; -1: not at hand, of rows as they are
  S ry[2][kTile], rx[2][kTile], cell_y[kTile], cell_x[kTile];
};

LIIF_DEVICE int thread_number() { return int(threadIdx.y * blockDim.x + threadIdx.x); }

// A query as it is given.
template <class S>
struct Query {
  S y, x, cell_y, cell_x;
};

template <class S>
LIIF_DEVICE Query<S> fetch(const Gather<S>& g, int64_t q) {
  return {g.coord[2 * q], g.coord[2 * q + 1], g.cell ? g.cell[2 * q] : S(0), g.cell ? g.cell[2 * q + 1] : S(0)};
}

// Where query q lies: the pixels around it, by their rows of the hidden map, and its offsets from them (sides of y, x).
// Returns bit k for a pixel that is at hand.
template <int K, class S>
LIIF_DEVICE uint32_t locate(const Gather<S>& g, int64_t q, const Query<S>& query, int64_t* row, S* ry, S* rx) {
  constexpr int kSides = K == 4 ? 2 : 1;
  const int64_t image = q / g.queries * g.image;
  int32_t index_y[kSides], index_x[kSides];
  bool inside_y[kSides], inside_x[kSides];
  uint32_t inside = 0;
  for (int side = 0; side < kSides; ++side) {
    const Near<S> y = nearest(query.y, g.y, side), x = nearest(query.x, g.x, side);
    index_y[side] = y.index, index_x[side] = x.index;
    inside_y[side] = y.inside, inside_x[side] = x.inside;
    // a pixel that is not at hand: everything computed from it becomes NaN
    ry[side] = y.inside ? y.rel : S(__builtin_nanf(""));
    rx[side] = x.inside ? x.rel : S(__builtin_nanf(""));
  }
  for (int k = 0; k < K; ++k) {
    row[k] = image + int64_t(index_y[K == 4 ? k >> 1 : 0]) * g.x.extent + index_x[K == 4 ? k & 1 : 0];
    inside |= uint32_t(inside_y[K == 4 ? k >> 1 : 0] && inside_x[K == 4 ? k & 1 : 0]) << k;
  }
  return inside;
}

// Query q as number i of a tile; its weights too, where wanted, and without a first layer its offsets.
template <int K, bool first_layer, class S>
LIIF_DEVICE void place(const Gather<S>& g, int64_t q, const Query<S>& query, Tile<S>& tile, int i, S* rel, S* weight) {
  int64_t row[K];
  S ry[2], rx[2];
  const uint32_t inside = locate<K>(g, q, query, row, ry, rx);
  for (int k = 0; k < K; ++k) tile.row[k][i] = first_layer || inside >> k & 1 ? row[k] : -1;
  for (int side = 0; side < (K == 4 ? 2 : 1); ++side) tile.ry[side][i] = ry[side], tile.rx[side][i] = rx[side];
  tile.cell_y[i] = mul(query.cell_y, g.y.n);
  tile.cell_x[i] = mul(query.cell_x, g.x.n);
  if (!weight) return;
  if constexpr (!first_layer) {
    for (int k = 0; k < K; ++k) {
      rel[2 * (K * q + k)] = ry[K == 4 ? k >> 1 : 0];
      rel[2 * (K * q + k) + 1] = rx[K == 4 ? k & 1 : 0];
    }
  }
  if constexpr (K == 4) {
    S w[4];
    area_weights(ry, rx, w);
    for (int k = 0; k < 4; ++k) weight[4 * q + k] = w[k];
  } else {
    weight[q] = lone_weight(ry[0], rx[0]);
  }
}

// The first of this thread's columns.
template <int N>
LIIF_DEVICE int64_t first_column() {
  return (int64_t(blockIdx.y) * blockDim.x + threadIdx.x) * N;
}

// h = relu(hidden[row] + w_pos * (rel, cell)). What the four corners of a query share, cells and sides, is computed
// once; a pixel that serves several of its corners (at the map's edges) is loaded once. A block takes its share of the
// queries tile by tile; the next tile's are on their way meanwhile.
// Without first_layer h gets the rows as they are, NaN for a pixel that is not at hand, and rel the queries' offsets.
template <class T, int N, int K, bool first_layer>
LIIF_KERNEL(forward_blocks(N)) void forward_kernel(const Gather<typename Number<T>::S> g, const T* LIIF_RESTRICT hidden,
                                T* LIIF_RESTRICT h, typename Number<T>::S* LIIF_RESTRICT rel,
                                typename Number<T>::S* LIIF_RESTRICT weight) {
  using S = typename Number<T>::S;
  using R = Raw<T, N>;
  constexpr int kSides = K == 4 ? 2 : 1;
  LIIF_SHARED_ARRAY(Tile<S>, tiles, 2);
  LIIF_SHARED_ARRAY(S, staged, first_layer ? 4 * kThreads * N : 1);
  const int64_t begin = int64_t(blockIdx.x) * kTile, step = int64_t(gridDim.x) * kTile, end = g.count;
  const int64_t col = first_column<N>();
  const int thread = thread_number();
  if (blockIdx.y > 0) weight = nullptr;  // written once
  if (begin + thread < end && thread < kTile) {
    place<K, first_layer>(g, begin + thread, fetch(g, begin + thread), tiles[0], thread, rel, weight);
  }
  // w_pos of the block's columns: read in the order of memory, kept in that of threads
  S w[4][N];
  if constexpr (first_layer) {
    const int columns = int(blockDim.x) * N;
    for (int i = thread; i < 4 * columns; i += kThreads) {
      const int64_t at = int64_t(blockIdx.y) * columns * 4 + i;
      staged[(i % 4 * N + i / 4 % N) * blockDim.x + i / 4 / N] = at < 4 * g.d ? g.w_pos[at] : S(0);
    }
  }
  __syncthreads();
  if constexpr (first_layer) {
    for (int c = 0; c < 4; ++c) {
      for (int i = 0; i < N; ++i) w[c][i] = staged[(c * N + i) * blockDim.x + threadIdx.x];
    }
  }
  const T* from = hidden + col;
  int now = 0;
#pragma unroll 1
  for (int64_t first = begin; first < end; first += step, now ^= 1) {
    const int64_t ahead = first + step + thread;
    const bool mine = thread < kTile && ahead < end;
    Query<S> next{};
    if (mine) next = fetch(g, ahead);
    const Tile<S>& tile = tiles[now];
    const int n = col < g.d ? int(end - first < kTile ? end - first : int64_t(kTile)) : 0;
    T* to = h + first * K * g.d + col;
#pragma unroll 1
    for (int q = int(threadIdx.y); q < n; q += int(blockDim.y)) {
      R in[K];
      int64_t row[K];
      for (int k = 0; k < K; ++k) row[k] = tile.row[k][q];
      const auto load = [&](int64_t r) { return !first_layer && r < 0 ? R::nan() : R::load(from + r * g.d); };
      in[0] = load(row[0]);
      if constexpr (K == 4) {
        in[1] = row[1] == row[0] ? in[0] : load(row[1]);
        in[2] = row[2] == row[0] ? in[0] : load(row[2]);
        in[3] = row[3] == row[2] ? in[2] : row[3] == row[1] ? in[1] : load(row[3]);
      }
      if constexpr (!first_layer) {
        for (int k = 0; k < K; ++k) in[k].copy_to(to + (int64_t(q) * K + k) * g.d);
      } else {
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
    if (mine) place<K, first_layer>(g, ahead, next, tiles[now ^ 1], thread, rel, weight);
    __syncthreads();
  }
}

}  // namespace liif::cuda
