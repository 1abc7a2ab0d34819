// NEON with FEAT_BF16: exact products of bfloat16, float32 sums. BFDOT rounds every sum to odd and takes subnormal
// numbers for zero: errors of up to 2^-23, where rounding the activations to bfloat16 makes ones of 2^-9. Not the
// matrix product BFMMLA, which takes two rows of activations at a time: they would have to lie side by side.
#include "kernels.h"

#ifdef LIIF_ARM_PATHS
#include <arm_neon.h>

namespace liif {
namespace {
#include "vec_neon.h"

constexpr const char* kPath = "neon_bf16";
#include "kinds.h"

struct BFloat16 : Float<Vec, kBF16> {
  using Pair = bfloat16x8_t;
  using Weights = bfloat16x8_t;
  static constexpr int group = 2, act_bytes = 2;
  static Pair broadcast(const char* p) {
    int32_t two;
    __builtin_memcpy(&two, p, sizeof two);
    return vreinterpretq_bf16_s32(Vec::set1_int(two));
  }
  static Weights load(const char* p) { return vreinterpretq_bf16_s32(Vec::load_int(p)); }
  static Acc dot(Acc acc, Pair a, Weights w) { return vbfdotq_f32(acc, a, w); }
  template <int n>
  static void put(char* to, const Vec::R* x) {  // ties to even
#pragma GCC unroll 2
    for (int v = 0; v < n; v += 2) {
      const bfloat16x8_t first = vcvtq_low_bf16_f32(x[v]);
      const bfloat16x8_t both = vcvtq_high_bf16_f32(first, v + 1 < n ? x[v + 1 < n ? v + 1 : 0] : Vec::zero());
      __builtin_memcpy(to + 8 * v, &both, sizeof both);
    }
  }
};
}  // namespace

extern const PathKernels path_neon_bf16 = {kPath, nullptr, nullptr, &FloatKernels::inference<BFloat16>, nullptr};
}  // namespace liif

#elif defined(__aarch64__)
LIIF_NO_KERNELS(neon_bf16)
#endif
