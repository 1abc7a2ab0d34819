// The machine's own ceiling: loops of nothing but multiply-adds in registers, on as many threads as asked, with one
// register of each operand; on AMX with tiles of real numbers. Returns operations (2 per multiply-add) per second.
// Compiled and called by ceiling.py; AMX with -DWITH_AMX, which needs an assembler that knows it.
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace {

#define REPEAT24(OP) \
  OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11) OP(12) OP(13) OP(14) OP(15) OP(16) OP(17) \
  OP(18) OP(19) OP(20) OP(21) OP(22) OP(23)
#define FMA(i) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n"
#define BF16(i) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #i "\n"
#define INT16(i) "vpdpwssd %%zmm30, %%zmm31, %%zmm" #i "\n"
#define INT8(i) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #i "\n"
#define ZERO(i) "vpxord %%zmm" #i ", %%zmm" #i ", %%zmm" #i "\n"
#define LOOP(OP)                                                                                            \
  __asm__ volatile(REPEAT24(ZERO) "vpxord %%zmm30, %%zmm30, %%zmm30\n vpxord %%zmm31, %%zmm31, %%zmm31\n"   \
                   "1:\n" REPEAT24(OP) "sub $1, %0\n jnz 1b\n" : "+r"(n) : : "memory", "cc",                \
                   "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                   "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", \
                   "xmm21", "xmm22", "xmm23", "xmm30", "xmm31")

__attribute__((target("avx512f"), noinline)) void spin(int kind, long n) {
  if (kind == 0) LOOP(FMA);
  if (kind == 1) LOOP(BF16);
  if (kind == 2) LOOP(INT8);
  if (kind == 3) LOOP(INT16);
}

#ifdef WITH_AMX
// Four accumulators (tmm0 to 3) of two tiles of activations (4, 5) and two of weights (6, 7), as a kernel has them.
#define DOTS(OP)                                                                             \
  __asm__ volatile("tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3\n" \
                   "1:\n" OP " %%tmm6, %%tmm4, %%tmm0\n" OP " %%tmm7, %%tmm4, %%tmm1\n"      \
                   OP " %%tmm6, %%tmm5, %%tmm2\n" OP " %%tmm7, %%tmm5, %%tmm3\n"             \
                   "sub $1, %0\n jnz 1b\n" : "+r"(n) : : "cc")

__attribute__((noinline)) void spin_amx(bool bfloat16, long n) {
  if (bfloat16) DOTS("tdpbf16ps");
  else DOTS("tdpbusd");
}

// Numbers as the head has them: half of the activations are zero. With tiles of zeros alone the dots, throttled by what
// they switch, run a quarter faster.
void begin_amx(bool bfloat16) {
  struct alignas(64) {
    uint8_t palette = 1, zero[15] = {};
    uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } configuration;
  alignas(64) uint8_t tiles[4 * 1024] = {};
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int size = bfloat16 ? 2 : 1;
  for (int i = 0; i < int(sizeof tiles); i += size) {
    if (i < 2048 && random() % 2) continue;
    const float number = normal(random);
    if (bfloat16) memcpy(tiles + i, reinterpret_cast<const char*>(&number) + 2, 2);
    else tiles[i] = uint8_t(random());
  }
  __asm__ volatile("ldtilecfg %0\n tileloadd (%1, %2, 1), %%tmm4\n tileloadd 1024(%1, %2, 1), %%tmm5\n"
                   "tileloadd 2048(%1, %2, 1), %%tmm6\n tileloadd 3072(%1, %2, 1), %%tmm7\n"
                   : : "m"(configuration), "r"(tiles), "r"(64L) : "memory");
}

void end_amx() { __asm__ volatile("tilerelease"); }
#else  // the program does not ask for these kinds then
void spin_amx(bool, long) {}
void begin_amx(bool) {}
void end_amx() {}
#endif

// Of this thread: other programs on the machine do not count.
double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

}  // namespace

// Asks for the tiles' registers, for the whole process. 0: they may be used.
extern "C" long amx_permission() {
  const long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, of the kernel's headers since Linux 5.16
  return syscall(SYS_arch_prctl, request, tile_data);
}

// kind: 0 float32, 1 bfloat16, 2 int8, 3 int16, 4 bfloat16 on AMX, 5 int8 on AMX.
extern "C" double ceiling(int kind, int threads, double seconds) {
  const bool amx = kind >= 4;
  const long chunk = amx ? 1 << 12 : 1 << 16;
  const double ops = amx ? 4.0 * 2 * 16 * 16 * (kind == 4 ? 32 : 64) : 24.0 * 2 * (16 << (kind == 3 ? 1 : kind));
  std::vector<double> rate(threads);
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      if (amx) begin_amx(kind == 4);
      const double start = cpu_seconds();
      double passed = 0;
      long n = 0;
      while (passed < seconds) {
        amx ? spin_amx(kind == 4, chunk) : spin(kind, chunk);
        n += chunk;
        passed = cpu_seconds() - start;
      }
      if (amx) end_amx();
      rate[t] = n * ops / passed;
    });
  }
  double sum = 0;
  for (int t = 0; t < threads; ++t) pool[t].join(), sum += rate[t];
  return sum;
}
