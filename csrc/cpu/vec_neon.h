// Vectors of 4 floats on NEON, which every aarch64 processor has. Include inside an anonymous namespace, after
// <arm_neon.h>.
struct Vec {
  using S = float;
  using R = float32x4_t;
  using I = int32x4_t;
  static constexpr int N = 4;
  // 16 of 32 registers for sums; compilers load all of a step's 4 weights and 4 activations before its products
  static constexpr int rows = 4, panel = 4;

  static R zero() { return vdupq_n_f32(0); }
  static R set1(float x) { return vdupq_n_f32(x); }
  static R load(const float* p) { return vld1q_f32(p); }
  static R load(const Bf16* p) { return floats(vshll_n_u16(load_narrow(p), 16)); }
  static R load(const Half* p) { return vcvt_f32_f16(vreinterpret_f16_u16(load_narrow(p))); }
  static void store(float* p, R x) { vst1q_f32(p, x); }
  static void store(Half* p, R x) { store_narrow(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
  static void store(Bf16* p, R x) {  // ties to even
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits(x), 16), vdupq_n_u32(1));
    const uint16x4_t rounded = vshrn_n_u32(vaddq_u32(bits(x), vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    store_narrow(p, vbsl_u16(vmovn_u32(vceqq_f32(x, x)), rounded, vdup_n_u16(0x7fc0)));
  }
  static R add(R a, R b) { return vaddq_f32(a, b); }
  static R mul(R a, R b) { return vmulq_f32(a, b); }
  static R fma(R a, R b, R c) { return vfmaq_f32(c, a, b); }
  static R nearest(R x) { return vrndnq_f32(x); }
  static R relu(R x) { return vmaxq_f32(x, zero()); }  // NaN stays NaN, as in torch
  static R where_positive(R mask, R x) { return floats(vandq_u32(vcgtq_f32(mask, zero()), bits(x))); }
  static R either(R a, R b) { return floats(vorrq_u32(bits(a), bits(b))); }
  // Write first + i for every lane i that has any bit set; returns how many there are.
  static int list_nonzero(R x, uint32_t first, uint32_t* list) {
    const uint32x4_t lanes = bits(x);
    if (!vmaxvq_u32(lanes)) return 0;
    int n = 0;
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      list[n] = first + uint32_t(i);
      n += lanes[i] != 0;
    }
    return n;
  }
  static float sum(R x) { return vaddvq_f32(x); }

  static I zero_int() { return vdupq_n_s32(0); }
  static I set1_int(int x) { return vdupq_n_s32(x); }
  static I load_int(const char* p) { return vreinterpretq_s32_s8(vld1q_s8(reinterpret_cast<const int8_t*>(p))); }
  static R to_float(I x) { return vcvtq_f32_s32(x); }
  // n vectors, rounded (ties to even) and clamped to [0, 255], as bytes; NaN: 0.
  template <int n>
  static void store_bytes(char* to, const R* x) {
#pragma GCC unroll 2
    for (int v = 0; v < n; v += 2) {
      const uint16x4_t first = vqmovun_s32(vcvtnq_s32_f32(x[v]));
      const uint16x4_t second = v + 1 < n ? vqmovun_s32(vcvtnq_s32_f32(x[v + 1 < n ? v + 1 : 0])) : vdup_n_u16(0);
      vst1_u8(reinterpret_cast<uint8_t*>(to) + 4 * v, vqmovn_u16(vcombine_u16(first, second)));
    }
  }

 private:
  static uint32x4_t bits(R x) { return vreinterpretq_u32_f32(x); }
  static R floats(uint32x4_t x) { return vreinterpretq_f32_u32(x); }
  static uint16x4_t load_narrow(const void* p) {
    uint16x4_t x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
  }
  static void store_narrow(void* p, uint16x4_t x) { __builtin_memcpy(p, &x, sizeof x); }
};
