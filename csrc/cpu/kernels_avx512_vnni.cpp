// AVX-512-VNNI, exact 32-bit sums: 8-bit layers, and bfloat16 features in 16-bit fixed point. Intel's processors do
// vdpbf16ps at a quarter of vpdpwssd's rate, half of float32's.
#include "kernels.h"

#if defined(__x86_64__) && !defined(LIIF_FAST_SKIP)
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx512.h"

#include "first_layer.h"
#include "head_impl.h"
#include "head_grad.h"

struct Int8 {
  using Vec = ::liif::Vec;
  using S = float;
  using Acc = __m512i;
  using Pair = __m512i;
  using Weights = __m512i;
  static constexpr int rows = 6, panel = 4, group = 4, act_bytes = 1;
  static constexpr Element element = kS8;
  static constexpr bool strict = true, dynamic = false;
  static Acc start(const float*) { return _mm512_setzero_si512(); }
  static Pair broadcast(const char* p) { return _mm512_set1_epi32(*reinterpret_cast<const int*>(p)); }
  static Weights load(const char* p) { return _mm512_load_si512(p); }
  // The intrinsic makes g++ 12 copy and spill accumulators: less than half the speed.
  static Acc dot(Acc acc, Pair a, Weights w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(w));
    return acc;
  }
  static __m512 value(Acc acc, const float* multiplier, const float* bias) {
    return _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(multiplier)), _mm512_loadu_ps(bias));
  }
  // vminps hands on a NaN that stands second; the conversion makes it the smallest integer, the packing 0.
  static __m512i round(__m512 x) { return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(255), x)); }
  template <int n>
  static void put(char* to, const __m512* x) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i a = round(x[0]), b = n > 1 ? round(x[n > 1 ? 1 : 0]) : zero;
    const __m512i c = n > 2 ? round(x[n > 2 ? 2 : 0]) : zero, d = n > 3 ? round(x[n > 3 ? 3 : 0]) : zero;
    const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));  // negative: 0
    // Packing works on 128-bit lanes: double word 4 * lane + vector goes to 4 * vector + lane.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, bytes));
  }
};

struct Fixed16 {
  using Vec = ::liif::Vec;
  using S = float;
  using Acc = __m512i;
  using Pair = __m512i;
  using Weights = __m512i;
  static constexpr int rows = 6, panel = 4, group = 2, act_bytes = 2;
  static constexpr Element element = kFixed;
  static constexpr bool strict = false, dynamic = true;
  static Acc start(const float*) { return _mm512_setzero_si512(); }
  static Pair broadcast(const char* p) { return _mm512_set1_epi32(*reinterpret_cast<const int*>(p)); }
  static Weights load(const char* p) { return _mm512_load_si512(p); }
  static Acc dot(Acc acc, Pair a, Weights w) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(w));
    return acc;
  }
  static __m512 value(Acc acc, const float* multiplier, const float* bias, float scale) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(multiplier), _mm512_set1_ps(scale));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), scaled, _mm512_loadu_ps(bias));
  }
  static float quantize(const float* x, int64_t d, float act_max, char* to) {
    // Largest bit pattern without the sign: NaN is above infinity, and nothing is negative after ReLU.
    __m512i top = _mm512_setzero_si512();
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    for (int64_t col = 0; col < d; col += 16) {
      top = _mm512_max_epi32(top, _mm512_and_si512(magnitude, _mm512_castps_si512(_mm512_loadu_ps(x + col))));
    }
    const RowScale<float> scale(_mm512_reduce_max_epi32(top), act_max);
    const __m512 inverse = _mm512_set1_ps(scale.inverse);
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    for (int64_t col = 0; col < d; col += 32) {
      const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + col), inverse));
      const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + col + 16), inverse));
      _mm512_storeu_si512(to + 2 * col, _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b)));
    }
    return scale.scale;
  }
  static __m512 where_active(const char* acts, __m512 x) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(acts));
    return _mm512_maskz_mov_ps(_mm256_test_epi16_mask(words, words), x);
  }
  static void pair_acts(const char* even, const char* odd, int64_t columns, char* to) {
    for (int64_t col = 0; col < columns; col += 16) {
      const auto wide = [&](const char* p) {
        return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2 * col)));
      };
      _mm512_storeu_si512(to + 4 * col, _mm512_or_si512(wide(even), _mm512_slli_epi32(wide(odd), 16)));
    }
  }
  static void pair_gradients(const float* even, const float* odd, const float* factors, const float* inverse,
                             int64_t columns, char* to) {
    const __m512 f0 = _mm512_set1_ps(factors[0]), f1 = _mm512_set1_ps(factors[1]);
    for (int64_t col = 0; col < columns; col += 16) {
      const __m512 scale = _mm512_loadu_ps(inverse + col);
      const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(even + col), f0), scale));
      const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(odd + col), f1), scale));
      const __m512i low = _mm512_and_si512(a, _mm512_set1_epi32(0xffff));
      _mm512_storeu_si512(to + 4 * col, _mm512_or_si512(low, _mm512_slli_epi32(b, 16)));
    }
  }
};

const HeadKernel<float> fixed16 = LIIF_TRAINING_KERNEL("avx512_vnni", Fixed16);
const HeadKernel<float> int8 = LIIF_HEAD_KERNEL("avx512_vnni", Int8);
}  // namespace

extern const PathKernels path_avx512_vnni = {"avx512_vnni", nullptr, nullptr, &fixed16, &int8};
}  // namespace liif

#else
namespace liif {
extern const PathKernels path_avx512_vnni = {"avx512_vnni", nullptr, nullptr, nullptr, nullptr};
}
#endif
