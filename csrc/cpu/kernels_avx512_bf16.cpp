// AVX-512-BF16: bfloat16 products, float32 sums.
#include "kernels.h"

#if defined(__x86_64__) && !defined(LIIF_FAST_SKIP)
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx512.h"

#include "first_layer.h"
#include "head_impl.h"

struct BFloat16 {
  using Vec = ::liif::Vec;
  using S = float;
  using Acc = __m512;
  using Pair = __m512bh;
  using Weights = __m512bh;
  static constexpr int rows = 6, panel = 4, group = 2, act_bytes = 2;
  static constexpr Element element = kBF16;
  static constexpr bool strict = false, dynamic = false;
  static Acc start(const float* bias) { return _mm512_loadu_ps(bias); }
  static Pair broadcast(const char* p) { return (Pair)_mm512_set1_epi32(*reinterpret_cast<const int*>(p)); }
  static Weights load(const char* p) { return (Weights)_mm512_load_si512(p); }
  static Acc dot(Acc acc, Pair a, Weights w) { return _mm512_dpbf16_ps(acc, a, w); }
  static __m512 value(Acc acc, const float*, const float*) { return acc; }
  template <int n>
  static void put(char* to, const __m512* x) {
#pragma GCC unroll 2
    for (int v = 0; v < n; v += 2) {
      const __m512 second = v + 1 < n ? Vec::relu(x[v + 1]) : Vec::zero();
      _mm512_storeu_si512(to + 32 * v, (__m512i)_mm512_cvtne2ps_pbh(second, Vec::relu(x[v])));
    }
  }
};

const HeadKernel<float> bfloat16 = LIIF_HEAD_KERNEL("avx512_bf16", BFloat16);
}  // namespace

extern const PathKernels path_avx512_bf16 = {"avx512_bf16", nullptr, nullptr, &bfloat16, nullptr};
}  // namespace liif

#else
namespace liif {
extern const PathKernels path_avx512_bf16 = {"avx512_bf16", nullptr, nullptr, nullptr, nullptr};
}
#endif
