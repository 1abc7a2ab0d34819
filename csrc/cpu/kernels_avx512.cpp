// AVX-512 (F, BW, DQ, VL): float32; bfloat16 and float16 features by widening.
#include "kernels.h"

#if defined(__x86_64__) && !defined(LIIF_FAST_SKIP)
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx512.h"

#include "first_layer.h"
#include "gather_impl.h"
#include "head_impl.h"
#include "head_grad.h"

struct Float32 {
  using Vec = ::liif::Vec;
  using S = float;
  using Acc = __m512;
  using Pair = __m512;
  using Weights = __m512;
  static constexpr int rows = 6, panel = 4, group = 1, act_bytes = 4;
  static constexpr Element element = kF32;
  static constexpr bool strict = false, dynamic = false;
  static Acc start(const float* bias) { return _mm512_loadu_ps(bias); }
  static Pair broadcast(const char* p) { return _mm512_set1_ps(*reinterpret_cast<const float*>(p)); }
  static Weights load(const char* p) { return _mm512_load_ps(p); }
  static Acc dot(Acc acc, Pair a, Weights w) { return _mm512_fmadd_ps(a, w, acc); }
  static __m512 value(Acc acc, const float*, const float*) { return acc; }
  template <int n>
  static void put(char* to, const __m512* x) {
    for (int v = 0; v < n; ++v) _mm512_storeu_ps(to + 64 * v, Vec::relu(x[v]));
  }
};

const HeadKernel<float> float32 = LIIF_TRAINING_KERNEL("avx512", Float32);
const GatherKernel<float> gather = LIIF_GATHER_KERNEL("avx512", Vec);
}  // namespace

extern const PathKernels path_avx512 = {"avx512", &gather, &float32, nullptr, nullptr};
}  // namespace liif

#else
namespace liif {
extern const PathKernels path_avx512 = {"avx512", nullptr, nullptr, nullptr, nullptr};
}
#endif
