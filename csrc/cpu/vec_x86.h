// What vectors of 8 floats (AVX2) and of 16 (AVX-512) spell alike but for the width in the intrinsics' names.
// vec_avx2.h and vec_avx512.h include it: they name the types (Floats, Ints, and Narrow, which is half as long) and the
// spelling, LIIF_MM(add_ps) for _mm256_add_ps or _mm512_add_ps, and derive Vec. kinds.h says what Vec must have.
struct VecX86 {
  using S = float;
  using R = Floats;
  using I = Ints;
  static constexpr int N = int(sizeof(R) / sizeof(S));

  static R zero() { return LIIF_MM(setzero_ps)(); }
  static R set1(float x) { return LIIF_MM(set1_ps)(x); }
  static R load(const float* p) { return LIIF_MM(loadu_ps)(p); }
  static R load(const Bf16* p) { return (R)LIIF_MM(slli_epi32)(load_words(p), 16); }
  static R load(const Half* p) { return LIIF_MM(cvtph_ps)(load_narrow(p)); }
  static void store(float* p, R x) { LIIF_MM(storeu_ps)(p, x); }
  static void store(Half* p, R x) { store_narrow(p, LIIF_MM(cvtps_ph)(x, _MM_FROUND_TO_NEAREST_INT)); }
  static R add(R a, R b) { return LIIF_MM(add_ps)(a, b); }
  static R mul(R a, R b) { return LIIF_MM(mul_ps)(a, b); }
  static R fma(R a, R b, R c) { return LIIF_MM(fmadd_ps)(a, b, c); }
  // vmaxps returns its second operand when one is NaN: NaN stays NaN, as in torch.
  static R relu(R x) { return LIIF_MM(max_ps)(zero(), x); }
  static R abs(R x) { return (R)(bits(x) & set1_int(0x7fffffff)); }
  static R max(R a, R b) { return LIIF_MM(max_ps)(a, b); }
  static R either(R a, R b) { return LIIF_MM(or_ps)(a, b); }

  // ---- the same registers as N integers of 32 bits ----
  static I zero_int() { return I{}; }
  static I set1_int(int x) { return LIIF_MM(set1_epi32)(x); }
  static I load_int(const char* p) { return *reinterpret_cast<const I*>(p); }  // aligned
  static void store_int(char* p, I x) { __builtin_memcpy(p, &x, sizeof x); }
  static I bits(R x) { return (I)x; }
  static R to_float(I x) { return LIIF_MM(cvtepi32_ps)(x); }
  static I nearest_int(R x) { return LIIF_MM(cvtps_epi32)(x); }  // ties to even
  // vminps hands on a NaN that stands second; the conversion makes it the smallest integer, unsigned packing 0.
  static I nearest_up_to_255(R x) { return nearest_int(LIIF_MM(min_ps)(set1(255), x)); }
  static I max_int(I a, I b) { return LIIF_MM(max_epi32)(a, b); }

  // ---- pairs of 16-bit words ----
  static I load_words(const void* p) { return LIIF_MM(cvtepu16_epi32)(load_narrow(p)); }  // N words, widened
  static I low_word(I x) { return x & set1_int(0xffff); }
  static I two_words(I low, I high) { return low | LIIF_MM(slli_epi32)(high, 16); }  // low: below 2^16

  static Narrow load_narrow(const void* p) {
    Narrow x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
  }
  static void store_narrow(void* p, Narrow x) { __builtin_memcpy(p, &x, sizeof x); }
  // The bits of bfloat16, ties to even, of numbers that are not NaN.
  static I round_to_bf16(R x) {
    const I odd = LIIF_MM(srli_epi32)(bits(x), 16) & set1_int(1);
    return LIIF_MM(srli_epi32)(LIIF_MM(add_epi32)(bits(x), LIIF_MM(add_epi32)(odd, set1_int(0x7fff))), 16);
  }
};
