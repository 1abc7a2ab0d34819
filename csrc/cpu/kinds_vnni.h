// The integer kinds of processors that add products to 32-bit sums in one instruction, exactly. Include inside an
// anonymous namespace, after a vector class, kPath and LIIF_VNNI, the instructions' prefix.
#include "kinds.h"

// In words: the intrinsics make g++ 12 copy and spill accumulators, less than half the speed. Nor does AVX-VNNI need a
// compiler flag of its own so.
struct Int8 : Quantized<Vec, kS8, 1> {
  static Acc dot(Acc acc, Pair a, Weights w) {
    __asm__(LIIF_VNNI "vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(w));
    return acc;
  }
  template <int n>
  static void put(char* to, const Vec::R* x) {
    Vec::store_bytes<n>(to, x);
  }
};

struct Fixed16 : Fixed<Vec> {
  static Acc dot(Acc acc, Pair a, Weights w) {
    __asm__(LIIF_VNNI "vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(w));
    return acc;
  }
};

constexpr PathKernels kVnni = {kPath, nullptr, nullptr, &FloatKernels::training<Fixed16>,
                               &FloatKernels::inference<Int8>};
