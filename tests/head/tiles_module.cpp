// The products of tiles_plain.h alone, for test_amx_tiles.py.
#include <cstdint>

namespace {
#include "../../csrc/cpu/tiles_plain.h"
}

// c and c8: 16 x 16 float32 and int32, added to; a: 16 rows of 64 bytes; b: 16 groups of inputs x 16 columns, 4 bytes each.
extern "C" void products(const void* a, const void* b, void* c, void* c8) {
  Tiles::begin();
  Tiles::load<0>(c, 64), Tiles::load<1>(a, 64), Tiles::stream<2>(b, 64), Tiles::load<3>(c8, 64);
  Tiles::dot_bf16<0, 1, 2>();
  Tiles::dot_int8<3, 1, 2>();
  Tiles::store<0>(c, 64), Tiles::store<3>(c8, 64);
  Tiles::end();
}
