// AVX2 with FMA and F16C: float32 (bfloat16 and float16 features by widening), and 8-bit layers in 16-bit products.
#include "kernels.h"

#ifdef LIIF_X86_PATHS
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx2.h"

constexpr const char* kPath = "avx2";
#include "kinds.h"

using Float32 = Float<Vec, kF32>;

// vpmaddubsw would saturate its 16-bit sums: widened to 16 bits, products and pairs of them are exact.
struct Int8 : Quantized<Vec, kS16, 2> {
  static Acc dot(Acc acc, Pair a, Weights w) { return _mm256_add_epi32(acc, _mm256_madd_epi16(a, w)); }
  template <int n>
  static void put(char* to, const __m256* x) {
    const __m256i a = Vec::nearest_up_to_255(x[0]), b = n > 1 ? Vec::nearest_up_to_255(x[n - 1]) : Vec::zero_int();
    Vec::store_int(to, _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8));  // negative: 0
  }
};
}  // namespace

extern const PathKernels path_avx2 = {kPath, &FloatKernels::gather<Vec>, &FloatKernels::training<Float32>, nullptr,
                                      &FloatKernels::inference<Int8>};
}  // namespace liif

#else
LIIF_NO_KERNELS(avx2)
#endif
