// AVX-VNNI (processors without AVX-512), exact 32-bit sums: 8-bit layers, and bfloat16 features in 16-bit fixed point.
#include "kernels.h"

#ifdef LIIF_X86_PATHS
#include <immintrin.h>

namespace liif {
namespace {
#include "vec_avx2.h"

constexpr const char* kPath = "avx_vnni";
#define LIIF_VNNI "%{vex%} "  // the encoding of processors without AVX-512
#include "kinds_vnni.h"
}  // namespace

extern const PathKernels path_avx_vnni = kVnni;
}  // namespace liif

#else
LIIF_NO_KERNELS(avx_vnni)
#endif
