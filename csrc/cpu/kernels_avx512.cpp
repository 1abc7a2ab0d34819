// AVX-512 (F, BW, DQ, VL): float32; bfloat16 and float16 features by widening.
#include "kernels.h"

#ifdef LIIF_X86_PATHS
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx512.h"

constexpr const char* kPath = "avx512";
#include "kinds.h"

using Float32 = Float<Vec, kF32>;
}  // namespace

extern const PathKernels path_avx512 = {kPath, &FloatKernels::gather<Vec>, &FloatKernels::training<Float32>, nullptr,
                                        nullptr};
}  // namespace liif

#else
LIIF_NO_KERNELS(avx512)
#endif
