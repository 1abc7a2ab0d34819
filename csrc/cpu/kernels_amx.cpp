// AMX: the head on tiles, bfloat16 with its gradients and 8-bit, exact. Every processor that has it has AVX-512-BF16.
#include "kernels.h"

#ifdef LIIF_X86_PATHS
#include <immintrin.h>

namespace liif {
namespace {
namespace avx512 {
#include "vec_avx512.h"
}

struct Vec : avx512::Vec {
  static LIIF_HD void put_words(char* to, R a, R b) { store_int(to, (I)_mm512_cvtne2ps_pbh(b, a)); }
  static LIIF_HD void put_bytes(char* to, char* next, R a, R b, R c, R d) {
    const I row = _mm512_packs_epi32(nearest_up_to_255(a), nearest_up_to_255(b));
    const I other = _mm512_packs_epi32(nearest_up_to_255(c), nearest_up_to_255(d));
    const I order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    const I bytes = _mm512_permutexvar_epi64(order, _mm512_packus_epi16(row, other));  // negative: 0
    store_narrow(to, _mm512_castsi512_si256(bytes));
    store_narrow(next, _mm512_extracti64x4_epi64(bytes, 1));
  }
  static LIIF_HD R where_active(const char* words, R x) {
    const __m256i w = load_narrow(words);
    return _mm512_maskz_mov_ps(_mm256_test_epi16_mask(w, _mm256_set1_epi16(0x7fff)), x);
  }
  static LIIF_HD R load_sum(const char* p) { return to_float(load_int(p)); }
  static LIIF_HD void transpose(const I* x, char* to, int64_t stride) {
    I y[16], z[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
      y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {  // z[4 j + c], lane l: column 4 l + c of rows 4 j to 4 j + 3
      const int from = i / 2 * 4 + i % 2, at = i / 2 * 4 + i % 2 * 2;
      z[at] = _mm512_unpacklo_epi64(y[from], y[from + 2]);
      z[at + 1] = _mm512_unpackhi_epi64(y[from], y[from + 2]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const I a = _mm512_shuffle_i32x4(z[c], z[4 + c], 0x44), b = _mm512_shuffle_i32x4(z[c], z[4 + c], 0xee);
      const I e = _mm512_shuffle_i32x4(z[8 + c], z[12 + c], 0x44), f = _mm512_shuffle_i32x4(z[8 + c], z[12 + c], 0xee);
      store_int(to + c * stride, _mm512_shuffle_i32x4(a, e, 0x88));
      store_int(to + (4 + c) * stride, _mm512_shuffle_i32x4(a, e, 0xdd));
      store_int(to + (8 + c) * stride, _mm512_shuffle_i32x4(b, f, 0x88));
      store_int(to + (12 + c) * stride, _mm512_shuffle_i32x4(b, f, 0xdd));
    }
  }
};
#ifndef LIIF_TILES  // a test puts the plain ones here
#define LIIF_TILES "tiles_amx.h"
#endif
#include LIIF_TILES

constexpr const char *kPathBf16 = "amx_bf16", *kPathInt8 = "amx_int8";
#include "tile_paths.h"
}  // namespace

extern const PathKernels path_amx_bf16 = kBf16Path, path_amx_int8 = kInt8Path;
}  // namespace liif

#else
LIIF_NO_KERNELS(amx_bf16)
LIIF_NO_KERNELS(amx_int8)
#endif
