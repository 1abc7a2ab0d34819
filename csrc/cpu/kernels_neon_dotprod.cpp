// NEON with FEAT_DotProd: 8-bit layers by products of signed bytes, exact.
#include "kernels.h"

#ifdef LIIF_ARM_PATHS
#include <arm_neon.h>

namespace liif {
namespace {
#include "vec_neon.h"

constexpr const char* kPath = "neon_dotprod";
#include "kinds.h"

// SDOT takes signed bytes, activations are 0..255: a = (a & 127) - (a & 128 as a signed byte, which is 0 or -128), each
// part with sums of its own. At most 65536 inputs keep both within 32 bits.
struct Int8 : Quantized<Vec, kS8, 1> {
  static constexpr int panel = 2;  // two sums for each
  struct Pair {
    int8x16_t low, high;
  };
  struct Acc {
    Vec::I low, high;
  };
  static Acc start(const float*) { return {Vec::zero_int(), Vec::zero_int()}; }
  static Pair broadcast(const char* p) {
    const int8x16_t a = vreinterpretq_s8_s32(Quantized::broadcast(p));
    return {vandq_s8(a, vdupq_n_s8(0x7f)), vandq_s8(a, vdupq_n_s8(-0x80))};
  }
  static Acc dot(Acc acc, Pair a, Weights w) {
    const int8x16_t weights = vreinterpretq_s8_s32(w);
    return {vdotq_s32(acc.low, a.low, weights), vdotq_s32(acc.high, a.high, weights)};
  }
  static Vec::R value(Acc acc, const float* multiplier, const float* bias) {
    return Quantized::value(vsubq_s32(acc.low, acc.high), multiplier, bias);
  }
  template <int n>
  static void put(char* to, const Vec::R* x) {
    Vec::store_bytes<n>(to, x);
  }
};
}  // namespace

extern const PathKernels path_neon_dotprod = {kPath, nullptr, nullptr, nullptr, &FloatKernels::inference<Int8>};
}  // namespace liif

#elif defined(__aarch64__)
LIIF_NO_KERNELS(neon_dotprod)
#endif
