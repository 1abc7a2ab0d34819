// AVX2 with FMA and F16C: float32 (bfloat16 and float16 features by widening), and 8-bit layers in 16-bit products.
#include "kernels.h"

#if defined(__x86_64__) && !defined(LIIF_FAST_SKIP)
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx2.h"

#include "first_layer.h"
#include "gather_impl.h"
#include "head_impl.h"
#include "head_grad.h"

struct Float32 {
  using Vec = ::liif::Vec;
  using S = float;
  using Acc = __m256;
  using Pair = __m256;
  using Weights = __m256;
  static constexpr int rows = 6, panel = 2, group = 1, act_bytes = 4;
  static constexpr Element element = kF32;
  static constexpr bool strict = false, dynamic = false;
  static Acc start(const float* bias) { return _mm256_loadu_ps(bias); }
  static Pair broadcast(const char* p) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(p)); }
  static Weights load(const char* p) { return _mm256_load_ps(reinterpret_cast<const float*>(p)); }
  static Acc dot(Acc acc, Pair a, Weights w) { return _mm256_fmadd_ps(a, w, acc); }
  static __m256 value(Acc acc, const float*, const float*) { return acc; }
  template <int n>
  static void put(char* to, const __m256* x) {
    for (int v = 0; v < n; ++v) _mm256_storeu_ps(reinterpret_cast<float*>(to) + 8 * v, Vec::relu(x[v]));
  }
};

// vpmaddubsw would saturate its 16-bit sums: widened to 16 bits, products and pairs of them are exact.
struct Int8 {
  using Vec = ::liif::Vec;
  using S = float;
  using Acc = __m256i;
  using Pair = __m256i;
  using Weights = __m256i;
  static constexpr int rows = 6, panel = 2, group = 2, act_bytes = 2;
  static constexpr Element element = kS16;
  static constexpr bool strict = true, dynamic = false;
  static Acc start(const float*) { return _mm256_setzero_si256(); }
  static Pair broadcast(const char* p) { return _mm256_set1_epi32(*reinterpret_cast<const int*>(p)); }
  static Weights load(const char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static Acc dot(Acc acc, Pair a, Weights w) { return _mm256_add_epi32(acc, _mm256_madd_epi16(a, w)); }
  static __m256 value(Acc acc, const float* multiplier, const float* bias) {
    return _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(multiplier)), _mm256_loadu_ps(bias));
  }
  // vminps hands on a NaN that stands second; the conversion makes it the smallest integer, the packing 0.
  static __m256i round(__m256 x) { return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(255), x)); }
  template <int n>
  static void put(char* to, const __m256* x) {
    const __m256i a = round(x[0]), b = n > 1 ? round(x[n - 1]) : _mm256_setzero_si256();
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);  // negative: 0
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words);
  }
};

const HeadKernel<float> float32 = LIIF_TRAINING_KERNEL("avx2", Float32);
const HeadKernel<float> int8 = LIIF_HEAD_KERNEL("avx2", Int8);
const GatherKernel<float> gather = LIIF_GATHER_KERNEL("avx2", Vec);
}  // namespace

extern const PathKernels path_avx2 = {"avx2", &gather, &float32, nullptr, &int8};
}  // namespace liif

#else
namespace liif {
extern const PathKernels path_avx2 = {"avx2", nullptr, nullptr, nullptr, nullptr};
}
#endif
