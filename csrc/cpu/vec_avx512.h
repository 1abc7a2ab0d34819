// Vectors of 16 floats on AVX-512 (F, BW, DQ, VL). Include inside an anonymous namespace.
struct Vec {
  using S = float;
  using R = __m512;
  static constexpr int N = 16;

  static R zero() { return _mm512_setzero_ps(); }
  static R set1(float x) { return _mm512_set1_ps(x); }
  static R load(const float* p) { return _mm512_loadu_ps(p); }
  static R load(const Bf16* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static R load(const Half* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static void store(float* p, R x) { _mm512_storeu_ps(p, x); }
  static void store(Bf16* p, R x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(r));
  }
  static void store(Half* p, R x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static R add(R a, R b) { return _mm512_add_ps(a, b); }
  static R mul(R a, R b) { return _mm512_mul_ps(a, b); }
  static R fma(R a, R b, R c) { return _mm512_fmadd_ps(a, b, c); }
  // vmaxps returns its second operand when one is NaN: NaN stays NaN, as in torch.
  static R relu(R x) { return _mm512_max_ps(_mm512_setzero_ps(), x); }
  static R where_positive(R mask, R x) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(mask, _mm512_setzero_ps(), _CMP_GT_OQ), x);
  }
  static R abs(R x) { return _mm512_abs_ps(x); }
  static R max(R a, R b) { return _mm512_max_ps(a, b); }
  static R either(R a, R b) { return _mm512_or_ps(a, b); }
  // Write first + i for every lane i that has any bit set; may write 16 entries. Returns how many count.
  static int list_nonzero(R x, uint32_t first, uint32_t* list) {
    const __m512i bits = _mm512_castps_si512(x);
    const __mmask16 mask = _mm512_test_epi32_mask(bits, bits);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i entries = _mm512_add_epi32(lanes, _mm512_set1_epi32(int(first)));
    _mm512_storeu_si512(list, _mm512_maskz_compress_epi32(mask, entries));
    return __builtin_popcount(mask);
  }
  static float sum(R x) { return _mm512_reduce_add_ps(x); }
};
