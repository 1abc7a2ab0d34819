// What kernels_amx.cpp computes, on any processor, with its results to the bit; only on request, for tests.
#include "kernels.h"

#ifdef LIIF_FAST_SKIP
LIIF_NO_KERNELS(plain_amx_bf16)
LIIF_NO_KERNELS(plain_amx_int8)
#else
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace liif {
namespace {
#include "vec_portable.h"

// AVX-512's results: multiply-adds round once, sums go by halves. Not inlined, for the compiler's sake.
#define APART static __attribute__((noinline))
struct Vec : PortableVec<float, 64> {
  static constexpr int rows = 4, panel = 4;
  template <class T>
  APART R load(const T* p) {
    return PortableVec<float, 64>::load(p);
  }
  template <class T>
  APART void store(T* p, R x) {
    PortableVec<float, 64>::store(p, x);
  }
  APART R fma(R a, R b, R c) {
    for (int i = 0; i < N; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
  }
  APART float sum(R x) {
    for (int n = N / 2; n; n /= 2) {
      for (int i = 0; i < n; ++i) x[i] += x[i + n];
    }
    return x[0];
  }
  // vcvtne2ps2bf16: subnormal numbers are zero
  APART void put_words(char* to, R a, R b) {
    for (int i = 0; i < 2 * N; ++i) {
      const float x = i < N ? a[i] : b[i - N];
      uint32_t bits;
      __builtin_memcpy(&bits, &x, 4);
      if (!(bits & 0x7f800000)) bits &= 0x80000000;
      const uint16_t word = x == x ? uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16) : uint16_t(bits >> 16 | 0x40);
      __builtin_memcpy(to + 2 * i, &word, 2);
    }
  }
  APART void put_bytes(char* to, char* next, R a, R b, R c, R d) {
    const auto byte = [](float x) {  // NaN: 0
      const float low = x > 0 ? x : 0;
      return char(uint8_t(nearest_even(low < 255 ? low : 255)));
    };
    for (int i = 0; i < N; ++i) {
      to[byte_place(i)] = byte(a[i]), to[byte_place(N + i)] = byte(b[i]);
      next[byte_place(i)] = byte(c[i]), next[byte_place(N + i)] = byte(d[i]);
    }
  }
  APART R where_active(const char* words, R x) {
    for (int i = 0; i < N; ++i) {
      uint16_t word;
      __builtin_memcpy(&word, words + 2 * i, 2);
      if (!(word & 0x7fff)) x[i] = 0;
    }
    return x;
  }
  static R load_sum(const char* p) { return to_float(load_int(p)); }
  APART I load_words(const char* p) {
    I x;
    for (int i = 0; i < N; ++i) {
      uint16_t word;
      __builtin_memcpy(&word, p + 2 * i, 2);
      x[i] = word;
    }
    return x;
  }
  static I two_words(I low, I high) { return low | high << 16; }
  static void store_int(char* p, I x) { __builtin_memcpy(p, &x, sizeof x); }
  APART void transpose(const I* x, char* to, int64_t stride) {
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j < N; ++j) {
        const int32_t number = x[j][i];
        __builtin_memcpy(to + i * stride + 4 * j, &number, 4);
      }
    }
  }
};
#include "tiles_plain.h"

constexpr const char *kPathBf16 = "plain_amx_bf16", *kPathInt8 = "plain_amx_int8";
#include "tile_paths.h"
}  // namespace

extern const PathKernels path_plain_amx_bf16 = kBf16Path, path_plain_amx_int8 = kInt8Path;
}  // namespace liif
#endif
