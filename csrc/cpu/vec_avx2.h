// Vectors of 8 floats on AVX2 with FMA and F16C. Include inside an anonymous namespace.
using Floats = __m256;
using Ints = __m256i;
using Narrow = __m128i;
#define LIIF_MM(name) _mm256_##name
#include "vec_x86.h"

struct Vec : VecX86 {
  static constexpr int rows = 6, panel = 2;  // 12 of 16 registers

  static R nearest(R x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  using VecX86::store;
  static void store(Bf16* p, R x) {
    const I nan = bits(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const I r = _mm256_blendv_epi8(round_to_bf16(x), set1_int(0x7fc0), nan);
    store_narrow(p, _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0x08)));
  }
  static R where_positive(R mask, R x) { return _mm256_and_ps(_mm256_cmp_ps(mask, zero(), _CMP_GT_OQ), x); }
  // Write first + i for every lane i that has any bit set; returns how many there are.
  static int list_nonzero(R x, uint32_t first, uint32_t* list) {
    const I none = _mm256_cmpeq_epi32(bits(x), zero_int());
    unsigned mask = unsigned(_mm256_movemask_ps(_mm256_castsi256_ps(none))) ^ 0xff;
    int n = 0;
    for (; mask; mask &= mask - 1) list[n++] = first + uint32_t(__builtin_ctz(mask));
    return n;
  }
  static float sum(R x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static int largest_int(I x) {
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
  }
  // a and b as 16-bit words, one behind the other; clamped to what those hold.
  static I pack_words(I a, I b) { return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8); }
  // n vectors, rounded and clamped to [0, 255], as bytes.
  template <int n>
  static void store_bytes(char* to, const R* x) {
    const I words = pack_words(nearest_up_to_255(x[0]), n > 1 ? nearest_up_to_255(x[n - 1]) : zero_int());
    const Narrow bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    store_narrow(to, bytes);  // negative: 0
  }
  // x where the word of its lane is not zero, else 0.
  static R where_word(const char* words, R x) {
    return _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(load_words(words), zero_int())), x);
  }
};
