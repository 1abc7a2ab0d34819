// Vectors in GCC's vector extension, which clang has too: of 16 bytes SSE2, NEON, whatever the compiler's default is.
// S: float or double. Include inside an anonymous namespace.
template <class Scalar, int bytes = 16>
struct PortableVec {
  using S = Scalar;
  static constexpr int N = int(bytes / sizeof(S));
  typedef S R __attribute__((vector_size(bytes)));
  typedef decltype(R{} < R{}) Bits;  // integers of the same width
  using I = Bits;
#if defined(__aarch64__)
  static constexpr int rows = 8, panel = 2;  // 16 of 32 registers
#else
  static constexpr int rows = 4, panel = 2;  // 8 of 16
#endif

  static R zero() { return R{}; }
  static R set1(S x) { return R{} + x; }
  template <class T>
  static R load(const T* p) {
    R r;
    for (int i = 0; i < N; ++i) r[i] = S(to_float(p[i]));
    return r;
  }
  static R load(const S* p) {
    R r;
    __builtin_memcpy(&r, p, sizeof r);
    return r;
  }
  template <class T>
  static void store(T* p, R x) {
    for (int i = 0; i < N; ++i) from_float(&p[i], float(x[i]));
  }
  static void store(S* p, R x) { __builtin_memcpy(p, &x, sizeof x); }
  static R add(R a, R b) { return a + b; }
  static R mul(R a, R b) { return a * b; }
  static R fma(R a, R b, R c) {
#if defined(__aarch64__)
    if constexpr (sizeof(S) == 4) return R(vfmaq_f32(float32x4_t(c), float32x4_t(a), float32x4_t(b)));
    else return R(vfmaq_f64(float64x2_t(c), float64x2_t(a), float64x2_t(b)));
#else
    return a * b + c;
#endif
  }
  static R nearest(R x) {  // whole numbers, ties to even
    for (int i = 0; i < N; ++i) x[i] = nearest_even(x[i]);
    return x;
  }
  static R relu(R x) { return keep(x, ~(x < zero())); }  // NaN stays NaN, as in torch
  static R where_positive(R mask, R x) { return keep(x, mask > zero()); }
  static R either(R a, R b) { return (R)((Bits)a | (Bits)b); }
  // Write first + i for every lane i that has any bit set; returns how many there are.
  static int list_nonzero(R x, uint32_t first, uint32_t* list) {
    int n = 0;
    for (int i = 0; i < N; ++i) {
      list[n] = first + uint32_t(i);
      n += ((Bits)x)[i] != 0;
    }
    return n;
  }
  static S sum(R x) {
    S s = x[0];
    for (int i = 1; i < N; ++i) s += x[i];
    return s;
  }

  static I zero_int() { return I{}; }
  static I set1_int(int32_t x) { return I{} + x; }
  static I load_int(const char* p) {
    I x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
  }
  static R to_float(I x) { return __builtin_convertvector(x, R); }

 private:
  template <class M>
  static R keep(R x, M mask) { return (R)((M)x & mask); }

  static float to_float(float x) { return x; }
  static float to_float(Bf16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float f;
    __builtin_memcpy(&f, &bits, 4);
    return f;
  }
  static float to_float(Half x) {
    // Shift exponent and mantissa into a float's places and multiply by 2^112: subnormals come out right by themselves.
    const uint32_t bits = uint32_t(x.bits & 0x7fff) << 13;
    float f;
    __builtin_memcpy(&f, &bits, 4);
    f *= 0x1p112f;
    uint32_t r;
    __builtin_memcpy(&r, &f, 4);
    if ((x.bits & 0x7c00) == 0x7c00) r |= 0x7f800000;
    r |= uint32_t(x.bits & 0x8000) << 16;
    __builtin_memcpy(&f, &r, 4);
    return f;
  }
  static void from_float(Bf16* p, float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    p->bits = x == x ? uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) : uint16_t(0x7fc0);
  }
  static void from_float(Half* p, float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    const uint16_t sign = uint16_t(bits >> 16) & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) {
      p->bits = sign | 0x7e00;
    } else if (bits >= 0x47800000) {  // 65536 and above
      p->bits = sign | 0x7c00;
    } else if (bits < 0x38800000) {  // subnormal: adding 0.5 leaves multiples of 2^-24 in the mantissa, rounded to even
      float magnitude;
      __builtin_memcpy(&magnitude, &bits, 4);
      magnitude += 0.5f;
      __builtin_memcpy(&bits, &magnitude, 4);
      p->bits = sign | uint16_t(bits - 0x3f000000);
    } else {
      bits += 0xfff + ((bits >> 13) & 1);
      p->bits = sign | uint16_t((bits - 0x38000000) >> 13);
    }
  }
};
