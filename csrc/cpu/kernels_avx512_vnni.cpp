// AVX-512-VNNI, exact 32-bit sums: 8-bit layers, and bfloat16 features in 16-bit fixed point. Intel's processors do
// vdpbf16ps at a quarter of vpdpwssd's rate, half of float32's.
#include "kernels.h"

#ifdef LIIF_X86_PATHS
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx512.h"

constexpr const char* kPath = "avx512_vnni";
#define LIIF_VNNI
#include "kinds_vnni.h"
}  // namespace

extern const PathKernels path_avx512_vnni = kVnni;
}  // namespace liif

#else
LIIF_NO_KERNELS(avx512_vnni)
#endif
