// The tables of kernels on tiles. Include inside an anonymous namespace, after Tiles, a vector class (tile_kinds.h says
// what it has) and kPathBf16 and kPathInt8, the paths' names.
//
// The compiler knows the number of steps for 256 channels, those of the official models.
constexpr const char* kPath = nullptr;  // kinds.h's tables are not used
constexpr int64_t kKnown = 256;
#include "tile_kinds.h"
#include "tile_grad.h"
#include "tile_head.h"

// Without hidden layers there is nothing to multiply.
template <class K, class T>
void render_no_layers(const Head<float>& head, int64_t begin, int64_t end, char* scratch) {
  float* blended = reinterpret_cast<float*>(scratch);
  char* values = scratch + row_bytes(head.in.width, 4);
  each_block(head.in, begin, end, [&](const Geometry<float>& g, int first, int64_t query, Block<float>& block) {
    first_layer<K, T, true>(head, g, first, block, values);
    blend<Vec>(head, block, values, blended, head.out + query * head.outputs);
  });
}

template <class K>
int64_t tile_scratch(int64_t width) {
  const int64_t all = bytes_of<TileScratch<K>>(width), rows = (kBlockRows + 1) * row_bytes(width, 4);
  return all > rows ? all : rows;
}

template <class K, class T>
void tile_render(const Head<float>& head, int64_t begin, int64_t end, char* scratch) {
  if (begin >= end) return;
  if (head.layers == 0) render_no_layers<K, T>(head, begin, end, scratch);
  else if (head.in.width == kKnown) TileHead<K, T, kKnown * K::act_bytes / 64>(head, begin, end, scratch).run();
  else TileHead<K, T, 0>(head, begin, end, scratch).run();
}

template <class K, class T>
void tile_train(const HeadGradient<float>& grad, int64_t begin, int64_t end, char* scratch, float* sums) {
  if (grad.head.in.width == kKnown) tile_gradient<K, T, kKnown * K::act_bytes / 64>(grad, begin, end, scratch, sums);
  else tile_gradient<K, T, 0>(grad, begin, end, scratch, sums);
}

// Zeros: of an order of weights that tiles do not have.
template <class... T>
struct TileKernels {
  static constexpr HeadKernel<float> bfloat16 = {
      kPathBf16,
      kTileBF16,
      0,
      0,
      0,
      tile_scratch<TileBf16>,
      {tile_render<TileBf16, T>...},
      {tile_train<TileBf16, T>...},
      tile_gradient_scratch<TileBf16>};
  static constexpr HeadKernel<float> int8 = {
      kPathInt8, kTileS8, 0, 0, 0, tile_scratch<TileInt8>, {tile_render<TileInt8, T>...}, {}, nullptr};
};
constexpr PathKernels kBf16Path = {kPathBf16, nullptr, nullptr, &TileKernels<float, Bf16, Half>::bfloat16, nullptr};
constexpr PathKernels kInt8Path = {kPathInt8, nullptr, nullptr, nullptr, &TileKernels<float, Bf16, Half>::int8};
