// Gradients of the whole head for blocks of queries: the layers are computed again, so that the forward pass keeps
// nothing, then gone through backwards while the block is in cache. Include inside an anonymous namespace, after
// waves.h. A kind that is `dynamic` also gives
//   where_active(acts, x)                             x where the activation is not zero, else 0
//   pair_acts(even, odd, columns, to)                 two rows of activations, entry by entry side by side
//   pair_gradients(even, odd, factors, inverse, columns, to)   two rows of gradients times a factor for each row and
//                                                     `inverse` for each column, rounded to 16 bits, side by side
#include "head_impl.h"

// Memory of one thread.
template <class K>
struct GradientScratch {
  using S = typename K::S;
  char* acts;        // [L] blocks: input of every hidden layer
  char* values[2];   // blocks of S
  char* grads;       // dynamic: a block of gradients as activations
  char* pairs[2];    // dynamic: activations and gradients, rows in pairs
  S *scales, *inverse, *scale;  // [L, kBlockRows], [width] each
  uint32_t* lists;

  GradientScratch(char* p, int64_t layers, int64_t width) {
    Memory memory{p};
    const int64_t act_block = kBlockRows * row_bytes(width, K::act_bytes);
    const int64_t value_block = kBlockRows * row_bytes(width, sizeof(S)), row = width * int64_t(sizeof(S));
    memory.take(acts, layers * act_block);
    for (char*& v : values) memory.take(v, value_block);
    memory.take(grads, K::dynamic ? act_block : 0);
    for (char*& v : pairs) memory.take(v, K::dynamic ? value_block / 2 : 0);
    memory.take(scales, (layers + 1) * kBlockRows * int64_t(sizeof(S)));
    memory.take(inverse, row + 64);
    memory.take(scale, row + 64);
    memory.take(lists, kBlockRows * 4 * width);
    end = memory.next;
  }
  char* end;
};

template <class K>
int64_t gradient_scratch(int64_t layers, int64_t width) {
  return bytes_of<GradientScratch<K>>(layers, width);
}

// to[n, k] += scale[n] * sum over steps of g[step, n] * a[step, k], for n vectors of columns k: the products of a
// layer's weight gradient, K::rows outputs n at a time.
template <class K, int n>
void outer_columns(const char* a, const char* g, int64_t step_bytes, int64_t steps, const typename K::S* scale,
                   const typename K::S* constants, int64_t outputs, int64_t width, typename K::S* to) {
  using V = typename K::Vec;
  using S = typename K::S;
  for (int64_t first = 0; first < outputs; first += K::rows) {
    S* out = to + first * width;
    typename K::Acc acc[K::rows][n];
#pragma GCC unroll 16
    for (int m = 0; m < K::rows; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) acc[m][v] = K::start(K::dynamic ? constants : out + m * width + v * V::N);
    }
    const char *pa = a, *pg = g + first * int64_t(sizeof(S));
    for (int64_t i = 0; i < steps; ++i, pa += step_bytes, pg += step_bytes) {
      typename K::Weights w[n];
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) w[v] = K::load(pa + v * int64_t(sizeof(typename K::Weights)));
#pragma GCC unroll 16
      for (int m = 0; m < K::rows; ++m) {
        const typename K::Pair pair = K::broadcast(pg + m * int64_t(sizeof(S)));
#pragma GCC unroll 4
        for (int v = 0; v < n; ++v) acc[m][v] = K::dot(acc[m][v], pair, w[v]);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < K::rows; ++m) {
      if (first + m >= outputs) break;
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) {
        S* p = out + m * width + v * V::N;
        if constexpr (K::dynamic) V::store(p, K::value(acc[m][v], constants + width, p, scale[first + m]));
        else V::store(p, K::value(acc[m][v], p, p));
      }
    }
  }
}

// sum[col] += the sum over rows of values[row, col].
template <class V>
void column_sums(const char* values, int64_t value_row, int rows, int64_t width, typename V::S* sum) {
  using S = typename V::S;
  for (int64_t col = 0; col < width; col += V::N) {
    typename V::R total = V::load(sum + col);
    for (int m = 0; m < rows; ++m) {
      total = V::add(total, V::load(reinterpret_cast<const S*>(values + m * value_row) + col));
    }
    V::store(sum + col, total);
  }
}

// Sums over a block's rows of the gradients' columns: added to `sum`; dynamic kinds also get the scale of every column
// for which no sum of products with activations up to act_max can leave 32 bits.
template <class K>
void gradient_columns(const HeadGradient<typename K::S>& grad, const char* values, int rows,
                      const typename K::S* row_scale, const GradientScratch<K>& s, typename K::S* sum) {
  using V = typename K::Vec;
  using S = typename K::S;
  const int64_t width = grad.head.in.width, value_row = row_bytes(width, sizeof(S));
  for (int64_t col = 0; col < width; col += V::N) {
    typename V::R total = V::load(sum + col), magnitude = V::zero(), largest = V::zero();
    for (int m = 0; m < rows; ++m) {
      const typename V::R x = V::load(reinterpret_cast<const S*>(values + m * value_row) + col);
      total = V::add(total, x);
      if constexpr (K::dynamic) {
        const typename V::R scaled = V::abs(V::mul(x, V::set1(row_scale[m])));
        magnitude = V::add(magnitude, scaled);
        largest = V::max(largest, scaled);
      }
    }
    V::store(sum + col, total);
    if constexpr (K::dynamic) {
      V::store(s.inverse + col, magnitude);
      V::store(s.scale + col, largest);
    }
  }
  if constexpr (K::dynamic) {
    // every gradient rounds up by 1/2 at most
    const S sum_max = S(((int64_t(1) << 31) - 1) / int64_t(grad.head.act_max) - rows / 2 - 2);
    for (int64_t i = 0; i < width; ++i) {
      const S magnitude = s.inverse[i], by_sum = magnitude / sum_max * S(1.00001), by_largest = s.scale[i] / S(32767);
      const S scale = by_sum > by_largest ? by_sum : by_largest;
      const bool normal = scale > S(1e-30) && magnitude - magnitude == 0;
      s.inverse[i] = normal ? 1 / scale : S(0);
      s.scale[i] = normal ? scale : (magnitude - magnitude) * S(0);  // a column that is not finite gives NaN
    }
  }
}

// Gradient of hidden layer l's weights and bias, added to sums.
template <class K>
void weight_gradient(const HeadGradient<typename K::S>& grad, int64_t l, const char* values, int rows,
                     const GradientScratch<K>& s, typename K::S* sums) {
  using S = typename K::S;
  constexpr int64_t N = K::Vec::N, kVector = sizeof(typename K::Weights);
  const int64_t d = grad.head.in.d, width = grad.head.in.width, value_row = row_bytes(width, sizeof(S));
  const int64_t act_row = row_bytes(width, K::act_bytes), vectors = (d + N - 1) / N;
  const S* row_scale = s.scales + l * kBlockRows;
  const char* a = s.acts + l * kBlockRows * act_row;
  const char* g = values;
  gradient_columns<K>(grad, values, rows, row_scale, s, sums + grad.bias_at(l));
  int64_t steps = rows;
  if constexpr (K::dynamic) {
    steps = (rows + 1) / 2;
    for (int64_t i = 0; i < steps; ++i) {
      const int64_t even = 2 * i, odd = even + 1 < rows ? even + 1 : even;
      const S factors[2] = {row_scale[even], odd > even ? row_scale[odd] : S(0)};
      K::pair_acts(a + even * act_row, a + odd * act_row, width, s.pairs[0] + i * value_row);
      K::pair_gradients(reinterpret_cast<const S*>(values + even * value_row),
                        reinterpret_cast<const S*>(values + odd * value_row), factors, s.inverse, width,
                        s.pairs[1] + i * value_row);
    }
    a = s.pairs[0];
    g = s.pairs[1];
  }
  each_panel<K>(vectors, [&](int64_t v, auto n) {
    outer_columns<K, n.value>(a + v * kVector, g, value_row, steps, s.scale, grad.constants, d, width,
                              sums + grad.weight_at(l) + v * N);
  });
}

// The layers again, keeping what each one reads. Leaves the last one's values in values[0].
template <class K, class T>
void forward_again(const Head<typename K::S>& head, const Geometry<typename K::S>& g, int begin,
                   Block<typename K::S>& block, int rows, const GradientScratch<K>& s) {
  using S = typename K::S;
  const int64_t act_row = row_bytes(head.in.width, K::act_bytes), value_row = row_bytes(head.in.width, sizeof(S));
  const auto acts = [&](int64_t l) { return s.acts + l * kBlockRows * act_row; };
  if (K::dynamic || head.layers == 0) first_layer<K, T, true>(head, g, begin, block, s.values[0]);
  else if constexpr (!K::dynamic) first_layer<K, T, false>(head, g, begin, block, acts(0));
  for (int64_t l = 0; l < head.layers; ++l) {
    const size_t left = size_t((rows - block.rows) * act_row);
    if constexpr (K::dynamic) {
      for (int m = 0; m < block.rows; ++m) {
        const S* row = reinterpret_cast<const S*>(s.values[0] + m * value_row);
        s.scales[l * kBlockRows + m] = K::quantize(row, head.in.d, head.act_max, acts(l) + m * act_row);
      }
      __builtin_memset(acts(l) + block.rows * act_row, 0, left);
      for (int m = block.rows; m < rows; ++m) s.scales[l * kBlockRows + m] = 0;
      layer<K, kValues>(head, l, acts(l), s.scales + l * kBlockRows, s.values[0], rows, s.lists);
    } else {
      __builtin_memset(acts(l) + block.rows * act_row, 0, left);
      if (l + 1 < head.layers) layer<K, kActivations>(head, l, acts(l), s.scales, acts(l + 1), rows, s.lists);
      else layer<K, kValues>(head, l, acts(l), s.scales, s.values[0], rows, s.lists);
    }
  }
}

// Output layer and blend, backwards: in `values`, the last layer's values become the gradient of its sums; of waves
// without hidden layers, which no ReLU follows, of themselves.
template <class V>
void blend_gradient(const HeadGradient<typename V::S>& grad, const Block<typename V::S>& block, int64_t query,
                    char* values, typename V::S* sums) {
  using S = typename V::S;
  using R = typename V::R;
  const Head<S>& head = grad.head;
  const int64_t width = head.in.width, value_row = row_bytes(width, sizeof(S));
  const bool masked = head.layers || !head.in.waves;
  const auto row = [&](int i) { return reinterpret_cast<S*>(values + block.row[i] * value_row); };
  for (int q = 0, at = 0; q < block.queries; at += block.count[q++]) {
    const S* g = grad.grad_out + (query + q) * head.outputs;
    const int end = at + block.count[q];
    for (int64_t col = 0; col < head.in.d; col += V::N) {
      R x = V::zero(), back = V::zero();
      for (int i = at; i < end; ++i) x = V::fma(V::set1(block.weight[i]), V::load(row(i) + col), x);
      for (int64_t o = 0; o < head.outputs; ++o) {
        const R g_o = V::set1(g[o]);
        S* sum = sums + grad.out_at(o) + col;
        V::store(sum, V::fma(g_o, x, V::load(sum)));
        back = V::fma(g_o, V::load(head.w_out + o * width + col), back);
      }
      for (int i = at; i < end; ++i) {
        const R weighed = V::mul(V::set1(block.weight[i]), back);
        V::store(row(i) + col, masked ? V::where_positive(V::load(row(i) + col), weighed) : weighed);
      }
    }
  }
}

// The first layer's gradients, which `values` holds row by row, in the order of queries and corners.
template <class V, class T>
void to_queries(const HeadGradient<typename V::S>& grad, const Block<typename V::S>& block, int64_t query,
                const char* values) {
  using S = typename V::S;
  const int64_t d = grad.head.in.d, corners = grad.head.in.ensemble ? 4 : 1;
  const int64_t value_row = row_bytes(grad.head.in.width, sizeof(S));
  for (int i = 0, at = 0; i < block.queries; at += block.count[i++]) {
    T* to = static_cast<T*>(grad.grad_first) + (query + i) * corners * d;
    if (block.count[i] < corners) __builtin_memset(static_cast<void*>(to), 0, size_t(corners * d) * sizeof(T));
    for (int j = at; j < at + block.count[i]; ++j) {
      const S* row = reinterpret_cast<const S*>(values + block.row[j] * value_row);
      T* out = to + block.corner[j] * d;
      for (int64_t col = 0; col < d; col += V::N) store_columns<V>(out, col, d, V::load(row + col));
    }
  }
}

template <class K, class T>
void gradient(const HeadGradient<typename K::S>& grad, int64_t begin, int64_t end, char* scratch,
              typename K::S* sums) {
  using V = typename K::Vec;
  using S = typename K::S;
  const Head<S>& head = grad.head;
  const int64_t d = head.in.d, width = head.in.width;
  const int64_t act_row = row_bytes(width, K::act_bytes), value_row = row_bytes(width, sizeof(S));
  const GradientScratch<K> s(scratch, head.layers, width);
  each_block(head.in, begin, end, [&](const Geometry<S>& g, int first, int64_t query, Block<S>& block) {
    const int rows = (block.rows + K::rows - 1) / K::rows * K::rows;
    forward_again<K, T>(head, g, first, block, rows, s);
    char *values = s.values[0], *other = s.values[1];
    blend_gradient<V>(grad, block, query, values, sums);
    for (int64_t l = head.layers - 1; l >= 0; --l) {
      __builtin_memset(values + block.rows * value_row, 0, size_t((rows - block.rows) * value_row));
      weight_gradient<K>(grad, l, values, block.rows, s, sums);
      const char* acts = s.acts + l * kBlockRows * act_row;
      if constexpr (K::dynamic) {
        S scales[kBlockRows] = {};
        for (int m = 0; m < rows; ++m) {
          const S* row = reinterpret_cast<const S*>(values + m * value_row);
          scales[m] = K::quantize(row, d, head.act_max, s.grads + m * act_row);
        }
        layer<K, kSums>(grad.back, l, s.grads, scales, values, rows, s.lists);
      } else {
        layer<K, kSums>(grad.back, l, values, s.scales, other, rows, s.lists);
        char* swap = values;
        values = other;
        other = swap;
      }
      for (int m = 0; m < block.rows && (l || !head.in.waves); ++m) {  // a ReLU follows all but waves
        S* row = reinterpret_cast<S*>(values + m * value_row);
        const char* act = acts + m * act_row;
        for (int64_t col = 0; col < d; col += V::N) {
          const typename V::R x = V::load(row + col);
          if constexpr (K::dynamic) V::store(row + col, K::where_active(act + col * K::act_bytes, x));
          else V::store(row + col, V::where_positive(V::load(reinterpret_cast<const S*>(act) + col), x));
        }
      }
    }
    to_queries<V, T>(grad, block, query, values);
  });
}
