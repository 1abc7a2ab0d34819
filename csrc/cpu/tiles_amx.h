// Tiles of AMX: eight registers of 16 rows x 64 bytes. Include inside an anonymous namespace. tiles_plain.h is the same
// in plain C++, to the bit.
//
// Own assembly: g++ 12's _tile_loadd has no "memory" clobber (stores to the tile's memory could be moved behind it),
// and its _tile_loadconfig declares 8 of the 64 bytes as read. How the operands are ordered in time: tile_period.h.
struct Tiles {
  struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  // Around every task: a new thread begins with its maker's configuration, and other libraries (oneDNN) set their own.
  static void begin() {
    static const Config config;
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
  }
  static void end() { __asm__ volatile("tilerelease"); }

  template <int t>
  static LIIF_HD void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(t));
  }
  template <int t>
  static LIIF_HD void load(const void* p, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(t) : "memory");
  }
  template <int t>  // past L1: what is used once leaves the rest there
  static LIIF_HD void stream(const void* p, int64_t stride) {
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(t) : "memory");
  }
  template <int t>
  static LIIF_HD void store(void* p, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(t) : "memory");
  }
  // c[m][n] += sum over k of a[m][k] * b[k / 2][n][k % 2], float32 sums of 32 bfloat16 products
  template <int c, int a, int b>
  static LIIF_HD void dot_bf16() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
  // c[m][n] += sum over k of a[m][k] * b[k / 4][n][k % 4], exact 32-bit sums of 64 products, unsigned x signed bytes
  template <int c, int a, int b>
  static LIIF_HD void dot_int8() {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
};
