// NEON, which every aarch64 processor has: float32 (bfloat16 and float16 features by widening). 8-bit layers are those
// of the portable path, in whose multiply-adds of 32 bits nothing is to be gained without FEAT_DotProd.
#include "kernels.h"

#ifdef LIIF_ARM_PATHS
#include <arm_neon.h>

namespace liif {
namespace {
#include "vec_neon.h"

constexpr const char* kPath = "neon";
#include "kinds.h"

using Float32 = Float<Vec, kF32>;
}  // namespace

extern const PathKernels path_neon = {kPath, &FloatKernels::gather<Vec>, &FloatKernels::training<Float32>, nullptr,
                                      nullptr};
}  // namespace liif

#elif defined(__aarch64__)
LIIF_NO_KERNELS(neon)
#endif
