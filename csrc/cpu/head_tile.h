// One layer of the head for a block of rows, for one "kind" of arithmetic. Included by head_impl.h.
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
//   put<n>(to, x[n])   conversion and store of n vectors of activations; may write up to 64 bytes from `to` on; strict:
//                      clamped to [0, 255], which is a ReLU too
//                      dynamic instead: quantize(values, d, act_max, to), which returns the row's scale
// A group is as wide as a scalar S. Groups that are zero in all rows of a tile are skipped: after ReLU that is a third
// of single inputs or more, when the rows are corners of neighbouring queries; of pairs and fours it is much when those
// that tend to be zero together stand together (liif_fast/head/unit_order.py).

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

// What a layer's value is to the next one.
template <class K>
LIIF_HD typename K::Vec::R activated(typename K::Vec::R x) {
  return K::strict ? x : K::Vec::relu(x);
}

// What becomes of a layer's sums: activations for the next layer; values after ReLU; the sums themselves.
enum Result { kActivations, kValues, kSums };

// What a tile reads: its rows, and the groups of inputs that count.
struct TileInput {
  const char* acts;
  int64_t row_bytes;
  const uint32_t* list;
  int64_t count;
};

template <class K, int n, Result result>
void tile(const TileInput& in, const char* weights, const typename K::S* bias, const typename K::S* multiplier,
          const typename K::S* row_scale, char* out, int64_t out_row) {
  using V = typename K::Vec;
  constexpr int64_t kGroupBytes = K::group * K::act_bytes, kRowOfWeights = n * sizeof(typename K::Weights);
  static_assert(kGroupBytes == sizeof(typename K::S));
  const int64_t act_row = in.row_bytes;
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
  for (int i = 0; i < (K::rows + 2) / 3; ++i) a[i] = in.acts + 3 * i * act_row;
  for (int64_t i = 0; i < in.count; ++i) {
    const int64_t group = in.list[i];
    typename K::Weights w[n];
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) {
      w[v] = K::load(weights + group * kRowOfWeights + v * int64_t(sizeof(typename K::Weights)));
    }
#pragma GCC unroll 16
    for (int m = 0; m < K::rows; ++m) {
      const typename K::Pair pair = K::broadcast(a[m / 3] + group * kGroupBytes + (m % 3) * act_row);
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) acc[m][v] = K::dot(acc[m][v], pair, w[v]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < K::rows; ++m) {
    typename V::R x[n];
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) {
      if constexpr (K::dynamic) x[v] = K::value(acc[m][v], multiplier + v * V::N, bias + v * V::N, row_scale[m]);
      else x[v] = K::value(acc[m][v], multiplier + v * V::N, bias + v * V::N);
    }
    if constexpr (result == kActivations) {
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) x[v] = activated<K>(x[v]);
      K::template put<n>(out + m * out_row, x);
    } else {
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) {
        V::store(reinterpret_cast<typename K::S*>(out + m * out_row) + v * V::N,
                 result == kValues ? V::relu(x[v]) : x[v]);
      }
    }
  }
}

// Groups of inputs that are not zero in all rows of a tile (or simply all of them); returns how many.
template <class K>
int64_t list_groups(const char* acts, int64_t act_row, int64_t groups, bool skip_zeros, uint32_t* list) {
  using V = typename K::Vec;
  int64_t count = 0;
  if (!skip_zeros) {
    for (; count < groups; ++count) list[count] = uint32_t(count);
    return count;
  }
  for (int64_t first = 0; first < groups; first += V::N) {
    const char* p = acts + first * int64_t(sizeof(typename K::S));
    typename V::R any = V::load(reinterpret_cast<const typename K::S*>(p));
#pragma GCC unroll 16
    for (int m = 1; m < K::rows; ++m) {
      p += act_row;
      any = V::either(any, V::load(reinterpret_cast<const typename K::S*>(p)));
    }
    count += V::list_nonzero(any, uint32_t(first), list + count);
  }
  while (count && list[count - 1] >= groups) --count;  // padding
  return count;
}

template <int n>
struct Count {
  static constexpr int value = n;
};

// f(v, Count<n>) for every panel of weights: vectors [v, v + n) of all the columns' `vectors`.
template <class K, class F>
void each_panel(int64_t vectors, const F& f) {
  for (int64_t v = 0; v < vectors; v += K::panel) {
    switch (vectors - v < K::panel ? vectors - v : K::panel) {
      case 1: f(v, Count<1>{}); break;
      case 2: f(v, Count<2>{}); break;
      case 3: f(v, Count<(K::panel > 2 ? 3 : 1)>{}); break;
      default: f(v, Count<(K::panel > 3 ? 4 : 1)>{});
    }
  }
}

// One layer for `rows` rows (a multiple of K::rows): panels outside, so that a panel of weights stays in L1.
template <class K, Result result>
void layer(const Head<typename K::S>& head, int64_t l, const char* acts, const typename K::S* row_scale, char* out,
           int64_t rows, uint32_t* lists) {
  using S = typename K::S;
  constexpr int64_t N = K::Vec::N, kOut = result == kActivations ? K::act_bytes : int64_t(sizeof(S));
  const int64_t groups = (head.in.d + K::group - 1) / K::group, vectors = (head.in.d + N - 1) / N;
  const int64_t act_row = row_bytes(head.in.width, K::act_bytes), out_row = row_bytes(head.in.width, kOut);
  const S* bias = head.bias + l * head.in.width;
  const S* multiplier = head.multiplier + l * head.in.width;
  const char* weights = head.weights + l * head.layer_bytes;
  TileInput in[kBlockRows / K::rows];
  for (int64_t t = 0; t * K::rows < rows; ++t, lists += head.in.width) {
    const char* first = acts + t * K::rows * act_row;
    in[t] = {first, act_row, lists, list_groups<K>(first, act_row, groups, head.skip_zeros, lists)};
  }
  each_panel<K>(vectors, [&](int64_t v, auto n) {
    for (int64_t t = 0; t * K::rows < rows; ++t) {
      tile<K, n.value, result>(in[t], weights, bias + v * N, multiplier + v * N, row_scale + t * K::rows,
                               out + t * K::rows * out_row + v * N * kOut, out_row);
    }
    weights += groups * K::panel * int64_t(sizeof(typename K::Weights));
  });
}
