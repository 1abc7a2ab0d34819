// AVX-VNNI (processors without AVX-512), exact 32-bit sums: 8-bit layers, and bfloat16 features in 16-bit fixed point.
#include "kernels.h"

#if defined(__x86_64__) && !defined(LIIF_FAST_SKIP)
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx2.h"

#include "first_layer.h"
#include "head_impl.h"
#include "head_grad.h"

struct Int8 {
  using Vec = ::liif::Vec;
  using S = float;
  using Acc = __m256i;
  using Pair = __m256i;
  using Weights = __m256i;
  static constexpr int rows = 6, panel = 2, group = 4, act_bytes = 1;
  static constexpr Element element = kS8;
  static constexpr bool strict = true, dynamic = false;
  static Acc start(const float*) { return _mm256_setzero_si256(); }
  static Pair broadcast(const char* p) { return _mm256_set1_epi32(*reinterpret_cast<const int*>(p)); }
  static Weights load(const char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  // In words, so that it needs no compiler flag of its own and no copies of accumulators are made.
  static Acc dot(Acc acc, Pair a, Weights w) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(w));
    return acc;
  }
  static __m256 value(Acc acc, const float* multiplier, const float* bias) {
    return _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(multiplier)), _mm256_loadu_ps(bias));
  }
  // vminps hands on a NaN that stands second; the conversion makes it the smallest integer, the packing 0.
  static __m256i round(__m256 x) { return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(255), x)); }
  template <int n>
  static void put(char* to, const __m256* x) {
    const __m256i a = round(x[0]), b = n > 1 ? round(x[n - 1]) : _mm256_setzero_si256();
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);  // negative: 0
  }
};

struct Fixed16 {
  using Vec = ::liif::Vec;
  using S = float;
  using Acc = __m256i;
  using Pair = __m256i;
  using Weights = __m256i;
  static constexpr int rows = 6, panel = 2, group = 2, act_bytes = 2;
  static constexpr Element element = kFixed;
  static constexpr bool strict = false, dynamic = true;
  static Acc start(const float*) { return _mm256_setzero_si256(); }
  static Pair broadcast(const char* p) { return _mm256_set1_epi32(*reinterpret_cast<const int*>(p)); }
  static Weights load(const char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static Acc dot(Acc acc, Pair a, Weights w) {
    __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(w));
    return acc;
  }
  static __m256 value(Acc acc, const float* multiplier, const float* bias, float scale) {
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(multiplier), _mm256_set1_ps(scale));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), scaled, _mm256_loadu_ps(bias));
  }
  static float quantize(const float* x, int64_t d, float act_max, char* to) {
    // Largest bit pattern without the sign: NaN is above infinity, and nothing is negative after ReLU.
    __m256i top = _mm256_setzero_si256();
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    for (int64_t col = 0; col < d; col += 8) {
      top = _mm256_max_epi32(top, _mm256_and_si256(magnitude, _mm256_castps_si256(_mm256_loadu_ps(x + col))));
    }
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    const RowScale<float> scale(_mm_cvtsi128_si32(half), act_max);
    const __m256 inverse = _mm256_set1_ps(scale.inverse);
    for (int64_t col = 0; col < d; col += 16) {
      const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + col), inverse));
      const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + col + 8), inverse));
      const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2 * col), words);
    }
    return scale.scale;
  }
  static __m256i wide(const char* p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static __m256 where_active(const char* acts, __m256 x) {
    const __m256i zero = _mm256_cmpeq_epi32(wide(acts), _mm256_setzero_si256());
    return _mm256_andnot_ps(_mm256_castsi256_ps(zero), x);
  }
  static void pair_acts(const char* even, const char* odd, int64_t columns, char* to) {
    for (int64_t col = 0; col < columns; col += 8) {
      const __m256i pairs = _mm256_or_si256(wide(even + 2 * col), _mm256_slli_epi32(wide(odd + 2 * col), 16));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 4 * col), pairs);
    }
  }
  static void pair_gradients(const float* even, const float* odd, const float* factors, const float* inverse,
                             int64_t columns, char* to) {
    const __m256 f0 = _mm256_set1_ps(factors[0]), f1 = _mm256_set1_ps(factors[1]);
    for (int64_t col = 0; col < columns; col += 8) {
      const __m256 scale = _mm256_loadu_ps(inverse + col);
      const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(even + col), f0), scale));
      const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(odd + col), f1), scale));
      const __m256i low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
      const __m256i pairs = _mm256_or_si256(low, _mm256_slli_epi32(b, 16));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 4 * col), pairs);
    }
  }
};

const HeadKernel<float> fixed16 = LIIF_TRAINING_KERNEL("avx_vnni", Fixed16);
const HeadKernel<float> int8 = LIIF_HEAD_KERNEL("avx_vnni", Int8);
}  // namespace

extern const PathKernels path_avx_vnni = {"avx_vnni", nullptr, nullptr, &fixed16, &int8};
}  // namespace liif

#else
namespace liif {
extern const PathKernels path_avx_vnni = {"avx_vnni", nullptr, nullptr, nullptr, nullptr};
}
#endif
