// Number types of the hidden map, shared by all kernels.
#pragma once
#include <cstdint>

namespace liif {

struct Bf16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// Order of the entries in tables of kernels.
enum HiddenType { kFloat = 0, kBf16 = 1, kHalf = 2, kHiddenTypes = 3 };

}  // namespace liif
