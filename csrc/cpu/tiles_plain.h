// Tiles in plain C++, with the results of AMX (tiles_amx.h) to the bit: what the kernels compute is tested on every
// processor, and on one that has AMX against it. Include inside an anonymous namespace.
#if defined(__clang__)
#define FAST __attribute__((noinline))
#else
#define FAST __attribute__((noinline, optimize("O3")))  // the file is compiled for size
#endif

struct Tiles {
  struct alignas(64) Tile {
    char bytes[16][64];
  };
  static Tile& tile(int t) {
    static thread_local Tile tiles[8];
    return tiles[t];
  }

  static void begin() {}
  static void end() {}
  template <int t>
  static void zero() {
    __builtin_memset(&tile(t), 0, sizeof(Tile));
  }
  template <int t>
  static void load(const void* p, int64_t stride) {
    read(t, static_cast<const char*>(p), stride);
  }
  template <int t>
  static void stream(const void* p, int64_t stride) {
    read(t, static_cast<const char*>(p), stride);
  }
  template <int t>
  static void store(void* p, int64_t stride) {
    write(t, static_cast<char*>(p), stride);
  }
  template <int c, int a, int b>
  static void dot_bf16() {
    product_bf16(tile(c), tile(a), tile(b));
  }
  template <int c, int a, int b>
  static void dot_int8() {
    product_int8(tile(c), tile(a), tile(b));
  }

 private:
  // not inlined: a period's copies of them would take the compiler minutes
  static __attribute__((noinline)) void read(int t, const char* p, int64_t stride) {
    for (int r = 0; r < 16; ++r) __builtin_memcpy(tile(t).bytes[r], p + r * stride, 64);
  }
  static __attribute__((noinline)) void write(int t, char* p, int64_t stride) {
    for (int r = 0; r < 16; ++r) __builtin_memcpy(p + r * stride, tile(t).bytes[r], 64);
  }

  // tdpbf16ps: two chains of fused multiply-adds from +0, over even and odd inputs in order; even + odd; that added to
  // c. Subnormal inputs count as zero.
  FAST static void product_bf16(Tile& c, const Tile& a, const Tile& b) {
    double w[2][16][16];  // even and odd inputs, [input][column]
    for (int k = 0; k < 16; ++k) {
      uint32_t pair[16];
      __builtin_memcpy(pair, b.bytes[k], 64);
      for (int n = 0; n < 16; ++n) {
        w[0][k][n] = number(pair[n] << 16);
        w[1][k][n] = number(pair[n] & 0xffff0000);
      }
    }
    for (int m = 0; m < 16; ++m) {
      uint32_t in[16], sum[16];
      __builtin_memcpy(in, a.bytes[m], 64);
      __builtin_memcpy(sum, c.bytes[m], 64);
      double chain[2][16] = {};
      for (int k = 0; k < 16; ++k) {
        const double x[2] = {number(in[k] << 16), number(in[k] & 0xffff0000)};
        for (int odd = 0; odd < 2; ++odd) {
          for (int n = 0; n < 16; ++n) chain[odd][n] = rounded(x[odd] * w[odd][k][n] + chain[odd][n]);
        }
      }
      float out[16];
      for (int n = 0; n < 16; ++n) out[n] = float(rounded(number(sum[n]) + rounded(chain[0][n] + chain[1][n])));
      __builtin_memcpy(c.bytes[m], out, 64);
    }
  }

  static double number(uint32_t bits) {
    const uint32_t normal = bits & 0x7f800000 ? bits : bits & 0x80000000;
    float x;
    __builtin_memcpy(&x, &normal, 4);
    return double(x);
  }

  // To float32, ties to even; what is below 2^-126 after rounding to 24 bits becomes a zero of its sign. The double
  // holds the sum of a float and a product of two bfloat16 exactly, or, if one of them lies far below the other's last
  // bit, rounded in such a place that rounding twice is rounding once.
  static double rounded(double x) {
    const double tiny = 0x1.ffffffp-127;  // halfway between the last such number and 2^-126
    const double zero = __builtin_copysign(0.0, x);
    return __builtin_fabs(x) < tiny ? zero : double(float(x));
  }

  FAST static void product_int8(Tile& c, const Tile& a, const Tile& b) {
    for (int m = 0; m < 16; ++m) {
      uint32_t sum[16];  // wraps as the processor's do
      __builtin_memcpy(sum, c.bytes[m], 64);
      for (int k = 0; k < 64; ++k) {
        const int x = uint8_t(a.bytes[m][k]);
        for (int n = 0; n < 16; ++n) sum[n] += uint32_t(x * int(int8_t(b.bytes[k / 4][4 * n + k % 4])));
      }
      __builtin_memcpy(c.bytes[m], sum, 64);
    }
  }
};
