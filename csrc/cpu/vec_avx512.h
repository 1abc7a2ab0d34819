// Vectors of 16 floats on AVX-512 (F, BW, DQ, VL). Include inside an anonymous namespace.
using Floats = __m512;
using Ints = __m512i;
using Narrow = __m256i;
#define LIIF_MM(name) _mm512_##name
#include "vec_x86.h"

struct Vec : VecX86 {
  static constexpr int rows = 6, panel = 4;  // 24 of 32 registers

  static R nearest(R x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  using VecX86::store;
  static void store(Bf16* p, R x) {
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    store_narrow(p, _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(round_to_bf16(x), nan, set1_int(0x7fc0))));
  }
  static R where_positive(R mask, R x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(mask, zero(), _CMP_GT_OQ), x); }
  // Write first + i for every lane i that has any bit set; may write 16 entries. Returns how many count.
  static int list_nonzero(R x, uint32_t first, uint32_t* list) {
    const __mmask16 mask = _mm512_test_epi32_mask(bits(x), bits(x));
    const I lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const I entries = _mm512_add_epi32(lanes, set1_int(int(first)));
    _mm512_storeu_si512(list, _mm512_maskz_compress_epi32(mask, entries));
    return __builtin_popcount(mask);
  }
  static float sum(R x) { return _mm512_reduce_add_ps(x); }
  static int largest_int(I x) { return _mm512_reduce_max_epi32(x); }
  // a and b as 16-bit words, one behind the other; clamped to what those hold.
  static I pack_words(I a, I b) {
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), _mm512_packs_epi32(a, b));
  }
  // n vectors, rounded and clamped to [0, 255], as bytes.
  template <int n>
  static void store_bytes(char* to, const R* x) {
    const I zero = zero_int();
    const I a = nearest_up_to_255(x[0]), b = n > 1 ? nearest_up_to_255(x[n > 1 ? 1 : 0]) : zero;
    const I c = n > 2 ? nearest_up_to_255(x[n > 2 ? 2 : 0]) : zero;
    const I d = n > 3 ? nearest_up_to_255(x[n > 3 ? 3 : 0]) : zero;
    const I bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));  // negative: 0
    // Packing works on 128-bit lanes: double word 4 * lane + vector goes to 4 * vector + lane.
    const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    store_int(to, _mm512_permutexvar_epi32(order, bytes));
  }
  // x where the word of its lane is not zero, else 0.
  static R where_word(const char* words, R x) {
    const Narrow w = load_narrow(words);
    return _mm512_maskz_mov_ps(_mm256_test_epi16_mask(w, w), x);
  }
};
