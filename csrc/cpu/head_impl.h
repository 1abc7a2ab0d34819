// The whole head for blocks of rows, for one "kind" of arithmetic. Include inside an anonymous namespace, after
// first_layer.h.
//
// A kind K gives
//   Vec                vector class, of scalar S
//   Acc, Pair, Weights accumulators of Vec::N columns; one group of inputs, broadcast; as many weights
//   rows, panel        the tile: rows x (panel * Vec::N) columns of accumulators stay in registers
//   element, group     of the packed weights; group inputs of a column lie together
//   act_bytes          bytes per activation
//   strict             the first layer rounds after every operation
//   dynamic            activations are integers with a scale for each row, found when the row is complete
//   start(bias), broadcast(p), load(p), dot(acc, pair, weights)
//   value(acc, multiplier, bias)   the layer's output before ReLU; dynamic: value(acc, multiplier, bias, row scale)
//   put<n>(to, x[n])   ReLU, conversion and store of n vectors of activations; may write up to 64 bytes from `to` on
//                      dynamic instead: quantize(values, d, act_max, to), which returns the row's scale

// Scale of a row of fixed-point activations, from the bit pattern of its largest value (S: float).
template <class S>
struct RowScale {
  S scale, inverse;

  RowScale(int32_t bits, S act_max) {
    S top;
    __builtin_memcpy(&top, &bits, sizeof top);
    const bool zero = top < S(1e-30);  // its inverse would overflow
    inverse = zero ? S(0) : act_max / top;
    scale = zero ? S(0) : top / act_max + top * S(0);  // the product: a row that holds infinity becomes NaN
  }
};

template <class K, int n, bool last>
void tile(int64_t groups, const char* acts, int64_t act_row, const char* weights, const typename K::S* bias,
          const typename K::S* multiplier, const typename K::S* row_scale, char* out, int64_t out_row) {
  using V = typename K::Vec;
  constexpr int64_t kGroupBytes = K::group * K::act_bytes, kVector = sizeof(typename K::Weights);
  typename K::Acc acc[K::rows][n];
#pragma GCC unroll 4
  for (int v = 0; v < n; ++v) {
    const typename K::Acc first = K::start(bias + v * V::N);
#pragma GCC unroll 16
    for (int m = 0; m < K::rows; ++m) acc[m][v] = first;
  }
  // Three rows per pointer, the others by scaled index: few enough registers for any number of rows.
  const char* a[(K::rows + 2) / 3];
#pragma GCC unroll 8
  for (int i = 0; i < (K::rows + 2) / 3; ++i) a[i] = acts + 3 * i * act_row;
  for (int64_t g = 0; g < groups; ++g) {
    typename K::Weights w[n];
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) w[v] = K::load(weights + v * kVector);
    weights += n * kVector;
#pragma GCC unroll 16
    for (int m = 0; m < K::rows; ++m) {
      const typename K::Pair pair = K::broadcast(a[m / 3] + (m % 3) * act_row);
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) acc[m][v] = K::dot(acc[m][v], pair, w[v]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < (K::rows + 2) / 3; ++i) a[i] += kGroupBytes;
  }
#pragma GCC unroll 16
  for (int m = 0; m < K::rows; ++m) {
    typename V::R x[n];
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) {
      if constexpr (K::dynamic) x[v] = K::value(acc[m][v], multiplier + v * V::N, bias + v * V::N, row_scale[m]);
      else x[v] = K::value(acc[m][v], multiplier + v * V::N, bias + v * V::N);
    }
    if constexpr (last) {
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) {
        V::store(reinterpret_cast<typename K::S*>(out + m * out_row) + v * V::N, V::relu(x[v]));
      }
    } else {
      K::template put<n>(out + m * out_row, x);
    }
  }
}

template <int n>
struct Count {
  static constexpr int value = n;
};

// One layer for `rows` rows (a multiple of K::rows): panels outside, so that a panel of weights stays in L1.
template <class K, bool last>
void layer(const Head<typename K::S>& head, int64_t l, const char* acts, const typename K::S* row_scale, char* out,
           int64_t rows) {
  using S = typename K::S;
  constexpr int64_t N = K::Vec::N, kOut = last ? int64_t(sizeof(S)) : K::act_bytes;
  const int64_t groups = (head.in.d + K::group - 1) / K::group, vectors = (head.in.d + N - 1) / N;
  const int64_t act_row = row_bytes(head.in.width, K::act_bytes), out_row = row_bytes(head.in.width, kOut);
  const S* bias = head.bias + l * head.in.width;
  const S* multiplier = head.multiplier + l * head.in.width;
  const char* weights = head.weights + l * head.layer_bytes;
  for (int64_t v = 0; v < vectors; v += K::panel) {
    const auto panel = [&](auto n) {
      for (int64_t m = 0; m < rows; m += K::rows) {
        tile<K, n.value, last>(groups, acts + m * act_row, act_row, weights, bias + v * N, multiplier + v * N, row_scale + m,
                               out + m * out_row + v * N * kOut, out_row);
      }
    };
    switch (vectors - v < K::panel ? vectors - v : K::panel) {
      case 1: panel(Count<1>{}); break;
      case 2: panel(Count<2>{}); break;
      case 3: panel(Count<(K::panel > 2 ? 3 : 1)>{}); break;
      default: panel(Count<(K::panel > 3 ? 4 : 1)>{});
    }
    weights += groups * K::panel * int64_t(sizeof(typename K::Weights));
  }
}

// First layer of sides x sides corners of one query (all four, or one), columns [col, col + panel).
template <class K, class T, int sides, bool last, bool full>
LIIF_HD void first_columns(const Head<typename K::S>& head, const T* const* from, const typename K::S* ry,
                           const typename K::S* rx, typename K::S cell_y, typename K::S cell_x, int64_t col, char* to,
                           int64_t to_row) {
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
        if constexpr (K::strict && !last) y = V::mul(y, V::set1(head.first_scale));
        x[sy * sides + sx][v] = y;
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < sides * sides; ++i) {
    if constexpr (last) {
      typename K::S* row = reinterpret_cast<typename K::S*>(to + i * to_row) + col;
#pragma GCC unroll 4
      for (int v = 0; v < K::panel; ++v) V::store(row + v * V::N, V::relu(x[i][v]));
    } else {
      K::template put<K::panel>(to + i * to_row + col * K::act_bytes, x[i]);
    }
  }
}

template <class K, class T, int sides, bool last>
void first_rows(const Head<typename K::S>& head, const T* const* from, const typename K::S* ry,
                const typename K::S* rx, typename K::S cell_y, typename K::S cell_x, char* to) {
  constexpr int64_t step = K::panel * K::Vec::N;
  const int64_t to_row = row_bytes(head.in.width, last ? int64_t(sizeof(typename K::S)) : K::act_bytes);
  int64_t col = 0;
  for (; col + step <= head.in.d; col += step) {
    first_columns<K, T, sides, last, true>(head, from, ry, rx, cell_y, cell_x, col, to, to_row);
  }
  if (col < head.in.d) {
    first_columns<K, T, sides, last, false>(head, from, ry, rx, cell_y, cell_x, col, to, to_row);
  }
}

// Rows (corners that count) of consecutive queries, on their way through the layers together.
template <class S>
struct Block {
  int rows = 0, queries = 0;
  int64_t first_query = 0;
  int count[kBlockRows];  // rows of each query
  S weight[kBlockRows];   // of each row
  S scale[kBlockRows] = {};  // of each row's activations, dynamic kinds only
};

// Append the rows of query q of the geometry block: first layer applied, weights of the corners that count noted.
template <class K, class T, bool last>
void append(const Head<typename K::S>& head, const Geometry<typename K::S>& g, int q, Block<typename K::S>& block,
            char* acts) {
  using S = typename K::S;
  const int corners = head.in.ensemble ? 4 : 1;
  const int64_t to_row = row_bytes(head.in.width, last ? int64_t(sizeof(S)) : K::act_bytes);
  char* to = acts + block.rows * to_row;
  const T* from[4];
  int live[4], n = 0;
  S total = 0;
  for (int k = 0; k < corners; ++k) {
    if (g.weight[k][q] < S(kNoWeight)) continue;  // false for NaN
    from[n] = static_cast<const T*>(head.in.hidden) + (g.row[k >> 1][q] + g.col[k & 1][q]) * head.in.d;
    total += g.weight[k][q];
    live[n++] = k;
  }
  const S ry[2] = {g.ry[0][q], g.ry[1][q]}, rx[2] = {g.rx[0][q], g.rx[1][q]};
  if (n == 4) {
    first_rows<K, T, 2, last>(head, from, ry, rx, g.cell_y[q], g.cell_x[q], to);
  } else {
    for (int i = 0; i < n; ++i, to += to_row) {
      const int k = live[i];
      first_rows<K, T, 1, last>(head, from + i, ry + (k >> 1), rx + (k & 1), g.cell_y[q], g.cell_x[q], to);
    }
  }
  for (int i = 0; i < n; ++i) {
    const S w = g.weight[live[i]][q];
    block.weight[block.rows + i] = n == corners ? w : w / total;
  }
  block.rows += n;
  block.count[block.queries++] = n;
}

// Weighted sum of each query's rows, then the output layer.
template <class V>
void blend(const Head<typename V::S>& head, const Block<typename V::S>& block, const char* values,
           typename V::S* blended) {
  using S = typename V::S;
  const int64_t row = row_bytes(head.in.width, sizeof(S));
  const S* weight = block.weight;
  S* out = head.out + block.first_query * head.outputs;
  for (int q = 0; q < block.queries; ++q, out += head.outputs) {
    const int n = block.count[q];
    for (int64_t col = 0; col < head.in.d; col += V::N) {
      const char* p = values + col * int64_t(sizeof(S));
      typename V::R x = V::mul(V::set1(weight[0]), V::load(reinterpret_cast<const S*>(p)));
      for (int i = 1; i < n; ++i) {
        x = V::fma(V::set1(weight[i]), V::load(reinterpret_cast<const S*>(p + i * row)), x);
      }
      V::store(blended + col, x);
    }
    for (int64_t o = 0; o < head.outputs; ++o) {
      const S* w = head.w_out + o * head.in.width;
      typename V::R x = V::zero();
      for (int64_t col = 0; col < head.in.d; col += V::N) x = V::fma(V::load(blended + col), V::load(w + col), x);
      out[o] = V::sum(x) + head.b_out[o];
    }
    weight += n;
    values += n * row;
  }
}

// All hidden layers, the blend and the output of a block. Its first layer lies in acts[0], or in `values` if there is
// no hidden layer or the kind is dynamic.
template <class K>
void finish(const Head<typename K::S>& head, Block<typename K::S>& block, char* const* acts, char* values,
            typename K::S* blended) {
  // The last tile may be partly empty; stale bits there could be subnormal floats, which are slow to multiply.
  const int rows = (block.rows + K::rows - 1) / K::rows * K::rows;
  const int64_t act_row = row_bytes(head.in.width, K::act_bytes), value_row = row_bytes(head.in.width, sizeof(typename K::S));
  if (head.layers) __builtin_memset(acts[0] + block.rows * act_row, 0, size_t((rows - block.rows) * act_row));
  for (int64_t l = 0; l < head.layers; ++l) {
    if constexpr (K::dynamic) {
      for (int m = 0; m < block.rows; ++m) {
        const auto* row = reinterpret_cast<const typename K::S*>(values + m * value_row);
        block.scale[m] = K::quantize(row, head.in.d, head.act_max, acts[0] + m * act_row);
      }
      layer<K, true>(head, l, acts[0], block.scale, values, rows);
    } else if (l + 1 < head.layers) {
      layer<K, false>(head, l, acts[l & 1], block.scale, acts[~l & 1], rows);
    } else {
      layer<K, true>(head, l, acts[l & 1], block.scale, values, rows);
    }
  }
  blend<typename K::Vec>(head, block, values, blended);
  block.first_query += block.queries;
  block.rows = block.queries = 0;
}

template <class K, class T>
void render(const Head<typename K::S>& head, int64_t begin, int64_t end, char* scratch) {
  using S = typename K::S;
  const int64_t act_bytes = kBlockRows * row_bytes(head.in.width, K::act_bytes);
  char* acts[2] = {scratch, scratch + act_bytes};
  char* values = scratch + 2 * act_bytes;
  S* blended = reinterpret_cast<S*>(values + kBlockRows * row_bytes(head.in.width, sizeof(S)));
  Geometry<S> g;
  Block<S> block;
  block.first_query = begin;
  for (int64_t start = begin; start < end; start += kGeometryBlock) {
    const int n = int(end - start < kGeometryBlock ? end - start : kGeometryBlock);
    geometry(head.in, start, n, g);
    for (int q = 0; q < n; ++q) {
      if (block.rows + 4 > kBlockRows) finish<K>(head, block, acts, values, blended);
      if constexpr (K::dynamic) append<K, T, true>(head, g, q, block, values);
      else if (head.layers) append<K, T, false>(head, g, q, block, acts[0]);
      else append<K, T, true>(head, g, q, block, values);
    }
  }
  finish<K>(head, block, acts, values, blended);
}
