// The whole head for blocks of queries: first layer, hidden layers, blend, output. Include inside an anonymous
// namespace, after waves.h.
#include "head_tile.h"

// First layer of sides x sides corners of one query (all four, or one), columns [col, col + panel). Where activations
// become integers, which hold neither NaN nor infinity, `poison` becomes NaN for such a value.
template <class K, class T, int sides, bool last, bool full>
LIIF_HD void first_columns(const Head<typename K::S>& head, const T* const* from, const typename K::S* ry,
                           const typename K::S* rx, typename K::S cell_y, typename K::S cell_x, int64_t col,
                           char* const* to, typename K::Vec::R& poison) {
  using V = typename K::Vec;
  using R = typename V::R;
  const Queries<typename K::S>& in = head.in;
  R x[sides * sides][K::panel];
#pragma GCC unroll 4
  for (int v = 0; v < K::panel; ++v) {
    const int64_t at = col + v * V::N;
    const R w_rel_x = V::load(in.w_pos + in.width + at);
#pragma GCC unroll 2
    for (int sy = 0; sy < sides; ++sy) {
      const R term = row_term<V, K::strict>(in.w_pos, in.width, at, V::set1(cell_y), V::set1(cell_x), V::set1(ry[sy]));
#pragma GCC unroll 2
      for (int sx = 0; sx < sides; ++sx) {
        const T* p = from[sy * sides + sx];
        const R row = full ? V::load(p + at) : load_columns<V>(p, at, in.d);
        R y = V::add(row, multiply_add<V, K::strict>(V::set1(rx[sx]), w_rel_x, term));
        if constexpr (K::strict && !last) {
          poison = V::fma(y, V::zero(), poison);
          y = V::mul(y, V::set1(head.first_scale));
        }
        x[sy * sides + sx][v] = y;
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < sides * sides; ++i) {
    if constexpr (last) {
      typename K::S* row = reinterpret_cast<typename K::S*>(to[i]) + col;
#pragma GCC unroll 4
      for (int v = 0; v < K::panel; ++v) V::store(row + v * V::N, V::relu(x[i][v]));
    } else {
#pragma GCC unroll 4
      for (int v = 0; v < K::panel; ++v) x[i][v] = activated<K>(x[i][v]);
      K::template put<K::panel>(to[i] + col * K::act_bytes, x[i]);
    }
  }
}

// Returns 0, or NaN where integers would hide that a value is not finite.
template <class K, class T, int sides, bool last>
typename K::S first_rows(const Head<typename K::S>& head, const T* const* from, const typename K::S* ry,
                         const typename K::S* rx, typename K::S cell_y, typename K::S cell_x, char* const* to) {
  using V = typename K::Vec;
  constexpr int64_t step = K::panel * V::N;
  typename V::R poison = V::zero();
  int64_t col = 0;
  for (; col + step <= head.in.d; col += step) {
    first_columns<K, T, sides, last, true>(head, from, ry, rx, cell_y, cell_x, col, to, poison);
  }
  if (col < head.in.d) first_columns<K, T, sides, last, false>(head, from, ry, rx, cell_y, cell_x, col, to, poison);
  if constexpr (K::strict && !last) return V::sum(poison);
  return 0;
}

// Queries whose rows (corners that count) go through the layers together. Rows are ordered by corner first: the same
// corner of neighbouring queries is often the same feature pixel, and such rows have the same zeros.
template <class S>
struct Block {
  int queries, rows;
  int count[kBlockRows];    // rows of each query
  int corner[kBlockRows];   // of each row, in the order of queries
  int row[kBlockRows];      // where that row lies
  S weight[kBlockRows];     // of that row
  S scale[kBlockRows] = {}; // of the activations in each place, dynamic kinds only

  // Take queries [begin, end) of g, or as many as there is room for.
  void take(const Geometry<S>& g, int begin, int end, int corners) {
    int places[4] = {};
    queries = rows = 0;
    for (int q = begin; q < end && rows + corners <= kBlockRows; ++q) {
      S total = 0;
      int n = 0;
      for (int k = 0; k < corners; ++k) {
        const S w = g.weight[k][q];
        if (sizeof(S) == 4 && w < S(kNoWeight)) continue;  // false for NaN
        corner[rows + n] = k;
        row[rows + n] = places[k]++;
        weight[rows + n++] = w;
        total += w;
      }
      for (int i = 0; n < corners && i < n; ++i) weight[rows + i] /= total;
      count[queries++] = n;
      rows += n;
    }
    int first[4] = {0, places[0], places[0] + places[1], places[0] + places[1] + places[2]};
    for (int i = 0; i < rows; ++i) row[i] += first[corner[i]];
  }
};

// f(g, first, query, block) for every block of queries [begin, end); its first query is number `query`, in g `first`.
template <class S, class F>
void each_block(const Queries<S>& in, int64_t begin, int64_t end, const F& f) {
  Geometry<S> g;
  Block<S> block;
  for (int64_t start = begin; start < end; start += kGeometryBlock) {
    const int n = int(end - start < kGeometryBlock ? end - start : kGeometryBlock);
    geometry(in, start, n, g);
    for (int q = 0; q < n; q += block.queries) {
      block.take(g, q, n, in.ensemble ? 4 : 1);
      f(g, q, start + q, block);
    }
  }
}

// First layer of the rows of a block, whose first query is query `begin` of g. Weights become NaN where integers would
// hide that a row is not finite.
template <class K, class T, bool last>
void first_layer(const Head<typename K::S>& head, const Geometry<typename K::S>& g, int begin,
                 Block<typename K::S>& block, char* acts) {
  using S = typename K::S;
  const int64_t act_row = row_bytes(head.in.width, last ? int64_t(sizeof(S)) : K::act_bytes);
  const T* hidden = static_cast<const T*>(head.in.hidden);
  for (int i = 0, at = 0; i < block.queries; at += block.count[i++]) {
    const int q = begin + i;
    const T* from[4];
    char* to[4];
    for (int j = 0; j < block.count[i]; ++j) {
      const int k = block.corner[at + j];
      from[j] = hidden + (g.row[k >> 1][q] + g.col[k & 1][q]) * head.in.stride;
      to[j] = acts + block.row[at + j] * act_row;
    }
    if constexpr (!K::strict) {
      if (head.in.waves) {
        S rel_y[4], rel_x[4];
        for (int j = 0; j < block.count[i]; ++j) {
          rel_y[j] = g.ry[block.corner[at + j] >> 1][q];
          rel_x[j] = g.rx[block.corner[at + j] & 1][q];
        }
        wave_rows<K, T, last>(head.in, block.count[i], from, rel_y, rel_x, g.cell_y[q], g.cell_x[q], to);
        continue;
      }
    }
    const S ry[2] = {g.ry[0][q], g.ry[1][q]}, rx[2] = {g.rx[0][q], g.rx[1][q]};
    if (block.count[i] == 4) {
      block.weight[at] += first_rows<K, T, 2, last>(head, from, ry, rx, g.cell_y[q], g.cell_x[q], to);
      continue;
    }
    for (int j = 0; j < block.count[i]; ++j) {
      const int k = block.corner[at + j];
      block.weight[at + j] +=
          first_rows<K, T, 1, last>(head, from + j, ry + (k >> 1), rx + (k & 1), g.cell_y[q], g.cell_x[q], to + j);
    }
  }
}

// n outputs of a blended row, at once: one sum after the other would wait for its own additions.
template <class V, int n>
LIIF_HD void output_columns(const Head<typename V::S>& head, int64_t first, const typename V::S* blended,
                            typename V::S* out) {
  const typename V::S* w = head.w_out + first * head.in.width;
  typename V::R x[n];
  for (int o = 0; o < n; ++o) x[o] = V::zero();
  for (int64_t col = 0; col < head.in.d; col += V::N) {
    const typename V::R b = V::load(blended + col);
#pragma GCC unroll 3
    for (int o = 0; o < n; ++o) x[o] = V::fma(b, V::load(w + o * head.in.width + col), x[o]);
  }
#pragma GCC unroll 3
  for (int o = 0; o < n; ++o) out[first + o] = V::sum(x[o]) + head.b_out[first + o];
}

template <class V>
LIIF_HD void output_row(const Head<typename V::S>& head, const typename V::S* blended, typename V::S* out) {
  int64_t o = 0;
  for (; o + 3 <= head.outputs; o += 3) output_columns<V, 3>(head, o, blended, out);
  for (; o < head.outputs; ++o) output_columns<V, 1>(head, o, blended, out);
}

// Weighted sum of each query's rows, then the output layer.
template <class V>
void blend(const Head<typename V::S>& head, const Block<typename V::S>& block, const char* values,
           typename V::S* blended, typename V::S* out) {
  using S = typename V::S;
  const int64_t value_row = row_bytes(head.in.width, sizeof(S));
  for (int q = 0, at = 0; q < block.queries; at += block.count[q++], out += head.outputs) {
    for (int64_t col = 0; col < head.in.d; col += V::N) {
      typename V::R x = V::zero();
      for (int i = at; i < at + block.count[q]; ++i) {
        const S* p = reinterpret_cast<const S*>(values + block.row[i] * value_row) + col;
        x = V::fma(V::set1(block.weight[i]), V::load(p), x);
      }
      V::store(blended + col, x);
    }
    output_row<V>(head, blended, out);
  }
}

// A thread's memory, taken in pieces of whole cache lines.
struct Memory {
  char* next;
  template <class P>
  void take(P*& piece, int64_t bytes) {
    piece = reinterpret_cast<P*>(next);
    next += (bytes + 63) / 64 * 64;
  }
};

// Bytes that Layout(memory, arguments...) takes: up to its `end`.
template <class Layout, class... A>
int64_t bytes_of(A... arguments) {
  alignas(64) static char base[64];
  return Layout(base, arguments...).end - base;
}

// Memory of one thread.
template <class K>
struct Scratch {
  using S = typename K::S;
  char *acts[2], *values, *end;
  S* blended;
  uint32_t* lists;

  Scratch(char* p, int64_t width) {
    Memory memory{p};
    const int64_t value = row_bytes(width, sizeof(S));
    for (char*& a : acts) memory.take(a, kBlockRows * row_bytes(width, K::act_bytes));
    memory.take(values, kBlockRows * value);
    memory.take(blended, value);
    memory.take(lists, kBlockRows * 4 * width);
    end = memory.next;
  }
};

template <class K>
int64_t scratch_bytes(int64_t width) {
  return bytes_of<Scratch<K>>(width);
}

// All hidden layers of a block. Its first layer lies in acts[0], or in `values` if the kind is dynamic; the last one
// will be in `values`.
template <class K>
void hidden_layers(const Head<typename K::S>& head, Block<typename K::S>& block, const Scratch<K>& s) {
  using S = typename K::S;
  const int rows = (block.rows + K::rows - 1) / K::rows * K::rows;
  const int64_t act_row = row_bytes(head.in.width, K::act_bytes), value_row = row_bytes(head.in.width, sizeof(S));
  // The last tile may be partly empty; stale bits there could be subnormal floats, which are slow to multiply.
  __builtin_memset(s.acts[0] + block.rows * act_row, 0, size_t((rows - block.rows) * act_row));
  for (int64_t l = 0; l < head.layers; ++l) {
    if constexpr (K::dynamic) {
      for (int m = 0; m < block.rows; ++m) {
        const S* row = reinterpret_cast<const S*>(s.values + m * value_row);
        block.scale[m] = K::quantize(row, head.in.d, head.act_max, s.acts[0] + m * act_row);
      }
      layer<K, kValues>(head, l, s.acts[0], block.scale, s.values, rows, s.lists);
    } else if (l + 1 < head.layers) {
      layer<K, kActivations>(head, l, s.acts[l & 1], block.scale, s.acts[~l & 1], rows, s.lists);
    } else {
      layer<K, kValues>(head, l, s.acts[l & 1], block.scale, s.values, rows, s.lists);
    }
  }
}

template <class K, class T>
void render(const Head<typename K::S>& head, int64_t begin, int64_t end, char* scratch) {
  using S = typename K::S;
  const Scratch<K> s(scratch, head.in.width);
  each_block(head.in, begin, end, [&](const Geometry<S>& g, int first, int64_t query, Block<S>& block) {
    if (K::dynamic || head.layers == 0) first_layer<K, T, true>(head, g, first, block, s.values);
    else if constexpr (!K::dynamic) first_layer<K, T, false>(head, g, first, block, s.acts[0]);
    hidden_layers<K>(head, block, s);
    blend<typename K::Vec>(head, block, s.values, s.blended, head.out + query * head.outputs);
  });
}
