// NEON with FEAT_I8MM: 8-bit layers by products of unsigned with signed bytes (USDOT), exact. Not the extension's
// matrix product USMMLA, which takes two rows of activations at a time: they would have to lie side by side.
#include "kernels.h"

#ifdef LIIF_ARM_PATHS
#include <arm_neon.h>

namespace liif {
namespace {
#include "vec_neon.h"

constexpr const char* kPath = "neon_i8mm";
#include "kinds.h"

struct Int8 : Quantized<Vec, kS8, 1> {
  static Acc dot(Acc acc, Pair a, Weights w) {
    return vusdotq_s32(acc, vreinterpretq_u8_s32(a), vreinterpretq_s8_s32(w));
  }
  template <int n>
  static void put(char* to, const Vec::R* x) {
    Vec::store_bytes<n>(to, x);
  }
};
}  // namespace

extern const PathKernels path_neon_i8mm = {kPath, nullptr, nullptr, nullptr, &FloatKernels::inference<Int8>};
}  // namespace liif

#elif defined(__aarch64__)
LIIF_NO_KERNELS(neon_i8mm)
#endif
