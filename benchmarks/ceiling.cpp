// The machine's own ceiling: loops of nothing but multiply-adds in registers, on as many threads as asked, with one
// register of each operand. Returns operations (2 per multiply-add) per second. Compiled and called by speed.py.
#include <time.h>

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

// Of this thread: other programs on the machine do not count.
double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

}  // namespace

// kind: 0 float32, 1 bfloat16, 2 int8, 3 int16.
extern "C" double ceiling(int kind, int threads, double seconds) {
  const long chunk = 1 << 16;
  const double ops = 24.0 * 2 * (16 << (kind == 3 ? 1 : kind));
  std::vector<double> rate(threads);
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      const double start = cpu_seconds();
      double passed = 0;
      long n = 0;
      while (passed < seconds) {
        spin(kind, chunk);
        n += chunk;
        passed = cpu_seconds() - start;
      }
      rate[t] = n * ops / passed;
    });
  }
  double sum = 0;
  for (int t = 0; t < threads; ++t) pool[t].join(), sum += rate[t];
  return sum;
}
