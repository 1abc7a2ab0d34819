// Numbers as the kernels load and store them: 16 bytes at once, or one where rows are not aligned to 16 bytes.
//
// LIIF_DEVICE and the like come from the file that includes this: corner_gather.cu, or a test that runs the kernels on
// a CPU and brings its own conversions of 16-bit numbers.
#pragma once
#include "../types.h"

namespace liif::cuda {

struct alignas(16) Words {
  uint32_t word[4];
};

#if defined(__CUDACC__)
LIIF_DEVICE float from_bits(uint32_t bits) { return __uint_as_float(bits); }
LIIF_DEVICE uint32_t to_bits(float x) { return __float_as_uint(x); }
LIIF_DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
LIIF_DEVICE double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
LIIF_DEVICE float relu(float x) {  // NaN stays
  float y;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
  return y;
}
LIIF_DEVICE double relu(double x) { return x < 0 ? 0 : x; }
LIIF_DEVICE float half_to_float(uint16_t bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
LIIF_DEVICE uint32_t two_halves(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
LIIF_DEVICE uint32_t two_bf16(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
// Read once, so that it takes no place in the cache of the multiprocessor.
LIIF_DEVICE Words load_words_once(const void* p) {
  Words x;
  asm volatile("ld.global.nc.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.word[0]), "=r"(x.word[1]), "=r"(x.word[2]), "=r"(x.word[3])
               : "l"(__cvta_generic_to_global(p)));
  return x;
}
LIIF_DEVICE int64_t exchange(int64_t* p, int64_t x) {
  return int64_t(atomicExch(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(x)));
}
// An assignment becomes four stores where the compiler takes the struct apart. Not read here, and so the first to leave
// the cache, whose place is the map's.
LIIF_DEVICE void store_words(void* p, const Words& x) {
  asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(x.word[0]),
               "r"(x.word[1]), "r"(x.word[2]), "r"(x.word[3])
               : "memory");
}
#endif

template <class T>
struct Number;

template <>
struct Number<float> {
  using S = float;
  static constexpr int kWide = 4;
  LIIF_DEVICE static void unpack(const Words& in, float* out) {
    for (int i = 0; i < 4; ++i) out[i] = from_bits(in.word[i]);
  }
  LIIF_DEVICE static Words pack(const float* in) {
    return {{to_bits(in[0]), to_bits(in[1]), to_bits(in[2]), to_bits(in[3])}};
  }
  LIIF_DEVICE static float get(float x) { return x; }
  LIIF_DEVICE static float put(float x) { return x; }
};

template <>
struct Number<double> {
  using S = double;
  static constexpr int kWide = 1;  // for checks of gradients, not for speed
  LIIF_DEVICE static double get(double x) { return x; }
  LIIF_DEVICE static double put(double x) { return x; }
};

template <>
struct Number<Bf16> {
  using S = float;
  static constexpr int kWide = 8;
  LIIF_DEVICE static void unpack(const Words& in, float* out) {
    for (int i = 0; i < 4; ++i) {
      out[2 * i] = from_bits(in.word[i] << 16);
      out[2 * i + 1] = from_bits(in.word[i] & 0xffff0000u);
    }
  }
  LIIF_DEVICE static Words pack(const float* in) {
    return {{two_bf16(in[0], in[1]), two_bf16(in[2], in[3]), two_bf16(in[4], in[5]), two_bf16(in[6], in[7])}};
  }
  LIIF_DEVICE static float get(Bf16 x) { return from_bits(uint32_t(x.bits) << 16); }
  LIIF_DEVICE static Bf16 put(float x) { return {uint16_t(two_bf16(x, 0.f))}; }
};

template <>
struct Number<Half> {
  using S = float;
  static constexpr int kWide = 8;
  LIIF_DEVICE static void unpack(const Words& in, float* out) {
    for (int i = 0; i < 4; ++i) {
      out[2 * i] = half_to_float(uint16_t(in.word[i]));
      out[2 * i + 1] = half_to_float(uint16_t(in.word[i] >> 16));
    }
  }
  LIIF_DEVICE static Words pack(const float* in) {
    return {{two_halves(in[0], in[1]), two_halves(in[2], in[3]), two_halves(in[4], in[5]), two_halves(in[6], in[7])}};
  }
  LIIF_DEVICE static float get(Half x) { return half_to_float(x.bits); }
  LIIF_DEVICE static Half put(float x) { return {uint16_t(two_halves(x, 0.f))}; }
};

// N consecutive numbers as they lie in memory. N: 1, or Number<T>::kWide with p aligned to 16 bytes.
template <class T, int N>
struct Raw {
  using S = typename Number<T>::S;
  Words words;
  LIIF_DEVICE static Raw load(const T* p) { return {*reinterpret_cast<const Words*>(p)}; }
  LIIF_DEVICE static Raw load_once(const T* p) { return {load_words_once(p)}; }
  LIIF_DEVICE void unpack(S* out) const { Number<T>::unpack(words, out); }
  LIIF_DEVICE static void store(T* p, const S* in) { store_words(p, Number<T>::pack(in)); }
  LIIF_DEVICE void copy_to(T* p) const { store_words(p, words); }
  LIIF_DEVICE static Raw nan() { return {{{~0u, ~0u, ~0u, ~0u}}}; }  // of any type
};

template <class T>
struct Raw<T, 1> {
  using S = typename Number<T>::S;
  T number;
  LIIF_DEVICE static Raw load(const T* p) { return {*p}; }
  LIIF_DEVICE static Raw load_once(const T* p) { return {*p}; }
  LIIF_DEVICE void unpack(S* out) const { out[0] = Number<T>::get(number); }
  LIIF_DEVICE static void store(T* p, const S* in) { *p = Number<T>::put(in[0]); }
  LIIF_DEVICE void copy_to(T* p) const { *p = number; }
  LIIF_DEVICE static Raw nan() { return {Number<T>::put(S(__builtin_nanf("")))}; }
};

}  // namespace liif::cuda
