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

constexpr const char* kPath = "portable";
#include "kinds.h"

using Float32 = Float<PortableVec<float>, kF32>;
using Float64 = Float<PortableVec<double>, kF64>;

// A pair is two 16-bit numbers in each lane.
struct Int8 : Quantized<PortableVec<float>, kS16, 2> {
  static Acc dot(Acc acc, Pair a, Weights w) {
#if defined(__SSE2__)
    return acc + (Acc)_mm_madd_epi16((__m128i)a, (__m128i)w);
#else
    return acc + (a & 0xffff) * ((w << 16) >> 16) + (a >> 16) * (w >> 16);
#endif
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
}  // namespace

extern const PathKernels path_portable = {kPath, &FloatKernels::gather<PortableVec<float>>,
                                          &FloatKernels::training<Float32>, nullptr, &FloatKernels::inference<Int8>};

// float64 hidden maps take the place of float32 ones; there is no double head with narrower features.
extern const HeadKernel<double> head_double = Kernels<double>::training<Float64>;
extern const GatherKernel<double> gather_double = Kernels<double>::gather<PortableVec<double>>;
}  // namespace liif
