// Every processor, in the compiler's vector extension: SSE2 on x86-64, NEON on ARM. Also all of float64.
#include "kernels.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace liif {
namespace {
#include "vec_portable.h"

#include "first_layer.h"
#include "gather_impl.h"
#include "head_impl.h"
#include "head_grad.h"

#if defined(__aarch64__)
constexpr int kTileRows = 8;  // 32 vector registers
#else
constexpr int kTileRows = 4;
#endif

template <class Scalar, Element kind>
struct Float {
  using Vec = PortableVec<Scalar>;
  using S = Scalar;
  using Acc = typename Vec::R;
  using Pair = Acc;
  using Weights = Acc;
  static constexpr int rows = kTileRows, panel = 2, group = 1, act_bytes = sizeof(S);
  static constexpr Element element = kind;
  static constexpr bool strict = false, dynamic = false;
  static Acc start(const S* bias) { return Vec::load(bias); }
  static Pair broadcast(const char* p) { return Vec::set1(*reinterpret_cast<const S*>(p)); }
  static Weights load(const char* p) { return Vec::load(reinterpret_cast<const S*>(p)); }
  static Acc dot(Acc acc, Pair a, Weights w) { return Vec::fma(a, w, acc); }
  static Acc value(Acc acc, const S*, const S*) { return acc; }
  template <int n>
  static void put(char* to, const Acc* x) {
    for (int v = 0; v < n; ++v) Vec::store(reinterpret_cast<S*>(to) + v * Vec::N, Vec::relu(x[v]));
  }
};

struct Int8 {
  using Vec = PortableVec<float>;
  using S = float;
  typedef int32_t Acc __attribute__((vector_size(16)));
  using Pair = Acc;     // two 16-bit numbers in each lane
  using Weights = Acc;
  static constexpr int rows = kTileRows, panel = 2, group = 2, act_bytes = 2;
  static constexpr Element element = kS16;
  static constexpr bool strict = true, dynamic = false;
  static Acc start(const float*) { return Acc{}; }
  static Pair broadcast(const char* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, 4);
    return Acc{} + pair;
  }
  static Weights load(const char* p) {
    Weights w;
    __builtin_memcpy(&w, p, sizeof w);
    return w;
  }
  static Acc dot(Acc acc, Pair a, Weights w) {
#if defined(__SSE2__)
    return acc + (Acc)_mm_madd_epi16((__m128i)a, (__m128i)w);
#else
    return acc + (a & 0xffff) * ((w << 16) >> 16) + (a >> 16) * (w >> 16);
#endif
  }
  static Vec::R value(Acc acc, const float* multiplier, const float* bias) {
    return Vec::add(Vec::mul(__builtin_convertvector(acc, Vec::R), Vec::load(multiplier)), Vec::load(bias));
  }
  template <int n>
  static void put(char* to, const Vec::R* x) {
    int16_t words[n * Vec::N];
    for (int v = 0; v < n; ++v) {
      for (int i = 0; i < Vec::N; ++i) {
        const float low = x[v][i] > 0 ? x[v][i] : 0;  // NaN: 0
        // Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the mantissa.
        const float shifted = (low < 255 ? low : 255) + 12582912.0f;
        int32_t bits;
        __builtin_memcpy(&bits, &shifted, 4);
        words[v * Vec::N + i] = int16_t(bits & 0xff);
      }
    }
    __builtin_memcpy(to, words, sizeof words);
  }
};

using Float32 = Float<float, kF32>;
using Float64 = Float<double, kF64>;
const HeadKernel<float> float32 = LIIF_TRAINING_KERNEL("portable", Float32);
const HeadKernel<float> int8 = LIIF_HEAD_KERNEL("portable", Int8);
const GatherKernel<float> gather = LIIF_GATHER_KERNEL("portable", PortableVec<float>);
}  // namespace

extern const PathKernels path_portable = {"portable", &gather, &float32, nullptr, &int8};

// float64 hidden maps take the place of float32 ones; there is no double head with narrower features.
extern const HeadKernel<double> head_double = {
    "portable", kF64, Float64::Vec::N, Float64::panel, 1, 8, {render<Float64, double>, nullptr, nullptr},
    {gradient<Float64, double>, nullptr, nullptr}, gradient_scratch<Float64>};
extern const GatherKernel<double> gather_double = {"portable",
                                                   {gather_forward<PortableVec<double>, double>, nullptr, nullptr},
                                                   {gather_backward<PortableVec<double>, double>, nullptr, nullptr},
                                                   {gather_round<PortableVec<double>, double>, nullptr, nullptr}};
}  // namespace liif
