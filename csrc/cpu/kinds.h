// The kinds of arithmetic (head_tile.h says what a kind gives) that instruction sets share, and the tables of kernels
// out of them. Include inside an anonymous namespace, after a vector class and kPath, the path's name.
//
// A vector class V has
//   S, R, N            scalar, register, scalars in a register
//   rows, panel        the tile of accumulators that registers hold: rows x panel vectors
//   zero, set1, load, store, add, mul, fma, nearest, relu, where_positive, either, list_nonzero, sum
// and for integers
//   I, set1_int, load_int, zero_int, to_float          a register of 32-bit integers; load_int: aligned
//   bits, max_int, largest_int, abs, max, nearest_int, pack_words, where_word, load_words, low_word, two_words,
//   store_int                                          Fixed16 alone; store_bytes: Int8 (kinds_vnni.h)
// Kinds name theirs Vec.
#include "first_layer.h"
#include "waves.h"
#include "gather_impl.h"
#include "head_grad.h"

// Weights, activations and sums in V's own scalar.
template <class V, Element kind>
struct Float {
  using Vec = V;
  using S = typename V::S;
  using Acc = typename V::R;
  using Pair = Acc;
  using Weights = Acc;
  static constexpr int rows = V::rows, panel = V::panel, group = 1, act_bytes = sizeof(S);
  static constexpr Element element = kind;
  static constexpr bool strict = false, dynamic = false;
  static Acc start(const S* bias) { return V::load(bias); }
  static Pair broadcast(const char* p) { return V::set1(*reinterpret_cast<const S*>(p)); }
  static Weights load(const char* p) { return V::load(reinterpret_cast<const S*>(p)); }
  static Acc dot(Acc acc, Pair a, Weights w) { return V::fma(a, w, acc); }
  static Acc value(Acc acc, const S*, const S*) { return acc; }
  template <int n>
  static void put(char* to, const Acc* x) {
    for (int v = 0; v < n; ++v) V::store(reinterpret_cast<S*>(to) + v * V::N, x[v]);
  }
};

// Exact 32-bit sums of integers of `bytes` bytes, as many as fill 32 bits at a time: all but the kinds' own dot.
template <class V, Element kind, int bytes>
struct Integers {
  using Vec = V;
  using S = float;
  using Acc = typename V::I;
  using Pair = Acc;
  using Weights = Acc;
  static constexpr int rows = V::rows, panel = V::panel, group = 4 / bytes, act_bytes = bytes;
  static constexpr Element element = kind;
  static Acc start(const float*) { return V::zero_int(); }
  static Pair broadcast(const char* p) {
    int32_t all;
    __builtin_memcpy(&all, p, sizeof all);
    return V::set1_int(all);
  }
  static Weights load(const char* p) { return V::load_int(p); }
};

// 8-bit layers (render.cpp says in which roundings). A kind adds dot and put, which clamps to [0, 255].
template <class V, Element kind, int bytes>
struct Quantized : Integers<V, kind, bytes> {
  static constexpr bool strict = true, dynamic = false;
  static typename V::R value(typename V::I acc, const float* multiplier, const float* bias) {
    return V::add(V::mul(V::to_float(acc), V::load(multiplier)), V::load(bias));
  }
};

// Layers of float weights in 16-bit fixed point, with their gradients. A kind adds dot.
template <class V>
struct Fixed : Integers<V, kFixed, 2> {
  using R = typename V::R;
  using I = typename V::I;
  static constexpr bool strict = false, dynamic = true;
  static R value(I acc, const float* multiplier, const float* bias, float scale) {
    return V::fma(V::to_float(acc), V::mul(V::load(multiplier), V::set1(scale)), V::load(bias));
  }
  static float quantize(const float* x, int64_t d, float act_max, char* to) {
    // Largest bit pattern without the sign: NaN is above infinity, and nothing is negative after ReLU.
    I top = V::zero_int();
    for (int64_t col = 0; col < d; col += V::N) top = V::max_int(top, V::bits(V::abs(V::load(x + col))));
    const RowScale<float> scale(V::largest_int(top), act_max);
    const R inverse = V::set1(scale.inverse);
    for (int64_t col = 0; col < d; col += 2 * V::N) {
      const I a = V::nearest_int(V::mul(V::load(x + col), inverse));
      const I b = V::nearest_int(V::mul(V::load(x + col + V::N), inverse));
      V::store_int(to + 2 * col, V::pack_words(a, b));
    }
    return scale.scale;
  }
  static R where_active(const char* acts, R x) { return V::where_word(acts, x); }
  static void pair_acts(const char* even, const char* odd, int64_t columns, char* to) {
    for (int64_t col = 0; col < columns; col += V::N) {
      V::store_int(to + 4 * col, V::two_words(V::load_words(even + 2 * col), V::load_words(odd + 2 * col)));
    }
  }
  static void pair_gradients(const float* even, const float* odd, const float* factors, const float* inverse,
                             int64_t columns, char* to) {
    const R f0 = V::set1(factors[0]), f1 = V::set1(factors[1]);
    for (int64_t col = 0; col < columns; col += V::N) {
      const R scale = V::load(inverse + col);
      const I a = V::nearest_int(V::mul(V::mul(V::load(even + col), f0), scale));
      const I b = V::nearest_int(V::mul(V::mul(V::load(odd + col), f1), scale));
      V::store_int(to + 4 * col, V::two_words(V::low_word(a), b));
    }
  }
};

// Kernels of this path for hidden maps of types T, in the order of HiddenType.
template <class... T>
struct Kernels {
  template <class V>
  static constexpr GatherKernel<typename V::S> gather = {
      kPath, {gather_forward<V, T, true>...}, {gather_forward<V, T, false>...}, {gather_backward<V, T>...},
      {wave_gradient<V, T>...}, {gather_round<V, T>...}};

  template <class K>
  static constexpr HeadKernel<typename K::S> inference = {
      kPath, K::element, K::Vec::N, K::panel, K::group, scratch_bytes<K>, {render<K, T>...}, {}, nullptr};

  template <class K>
  static constexpr HeadKernel<typename K::S> training = {
      kPath,            K::element,       K::Vec::N,           K::panel,           K::group,
      scratch_bytes<K>, {render<K, T>...}, {gradient<K, T>...}, gradient_scratch<K>};
};
using FloatKernels = Kernels<float, Bf16, Half>;
