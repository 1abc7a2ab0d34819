// AVX-512-BF16: bfloat16 products, float32 sums.
#include "kernels.h"

#ifdef LIIF_X86_PATHS
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx512.h"

constexpr const char* kPath = "avx512_bf16";
#include "kinds.h"

struct BFloat16 : Float<Vec, kBF16> {
  using Pair = __m512bh;
  using Weights = __m512bh;
  static constexpr int group = 2, act_bytes = 2;
  static Pair broadcast(const char* p) { return (Pair)Vec::set1_int(*reinterpret_cast<const int*>(p)); }
  static Weights load(const char* p) { return (Weights)Vec::load_int(p); }
  static Acc dot(Acc acc, Pair a, Weights w) { return _mm512_dpbf16_ps(acc, a, w); }
  template <int n>
  static void put(char* to, const __m512* x) {
#pragma GCC unroll 2
    for (int v = 0; v < n; v += 2) {
      const __m512 second = v + 1 < n ? x[v + 1] : Vec::zero();
      Vec::store_int(to + 32 * v, (__m512i)_mm512_cvtne2ps_pbh(second, x[v]));
    }
  }
};
}  // namespace

extern const PathKernels path_avx512_bf16 = {kPath, nullptr, nullptr, &FloatKernels::inference<BFloat16>, nullptr};
}  // namespace liif

#else
LIIF_NO_KERNELS(avx512_bf16)
#endif
