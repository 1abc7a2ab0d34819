// The CPU kernels on one page: the way of a query, which file does what, how to add an instruction set. Below it: what
// the torch-facing code and the kernels of each instruction set agree on.
//
// B images, Q queries each, K = 4 corners (1 without local ensemble), D channels, L hidden layers, O outputs.
//
// ---- from an operator to a kernel: compiled once, and the only code that knows torch ----
//
//   ../module.cpp    render, decode, render_int8       decode_backward       corner_gather, gather_corners, backward
//                               |                             |                                |
//                          render.cpp                decode_backward.cpp        corner_gather.cpp, scatter.h
//                               |                             |                                |
//   ../arguments.h   checks     |                             |                                |
//   queries.h        tensors -> Queries                       |                                |
//   parameters.h     weights packed -> Head           -> HeadGradient: the same,               |
//                               |                     and the layers transposed                |
//   paths.cpp        head_kernel(precision); decode and its backward: of those that train      gather_kernel()
//                               |                             |                                |
//   ../common.h      parallel_tasks: ranges of the B * Q queries on threads                    |
//                               |                             |                                |
//   ===== function pointers: HeadKernel::render     HeadKernel::gradient     GatherKernel::forward, rows, backward ====
//                               |                             |                                |
//                    render<K, T>  head_impl.h     gradient<K, T>  head_grad.h     gather_*<V, T>  gather_impl.h
//                    on tiles:     tile_head.h                     tile_grad.h
//
// Below the line everything is compiled once for each instruction set: kernels_*.cpp include those templates inside an
// anonymous namespace. T: hidden's type. V: a vector class (vec_portable.h; vec_avx2.h and vec_avx512.h, which share
// vec_x86.h; vec_neon.h). K: a kind of arithmetic (kinds.h, kinds_vnni.h, or the kernels_*.cpp that alone has it).
//
// ---- forward: render<K, T> for queries [begin, end) ----
//
//    coord, cell
//        |
//    geometry         first_layer.h    for kGeometryBlock queries: each corner's pixel, rel_y, rel_x and area weight,
//        |                             by the index arithmetic that all devices share (../corners.h); cell in pixels
//    Block::take      head_impl.h      as many queries as fill kBlockRows rows, a row for each corner that counts
//        |
//    first_layer      head_impl.h      row = relu(hidden[pixel] + w_pos x (rel_y, rel_x, cell_y, cell_x)): what is left
//        |                             of the first layer, whose large product was a convolution that gave hidden; or
//        |                             (Queries::waves; render_fourier, decode_fourier) the waves of waves.h, no ReLU
//    hidden_layers    head_impl.h      L times layer():
//      list_groups    head_tile.h        inputs that are zero in all rows of a tile are left out (weights all finite)
//      tile           head_tile.h        K::rows x K::panel registers of sums: K::start, then K::dot for each input,
//        |                               K::value, and K::put, which stores activations for the next layer
//    blend            head_impl.h      sum of weight x row over a query's corners, output layer
//        |
//    out [B, Q, O]
//
// Kinds differ in what an activation is between layers:
//    Float            float32, float64                  as it is (other features are widened as they are loaded)
//    BFloat16         bfloat16, *_bf16                  rounded to bfloat16
//    Fixed16          bfloat16, *_vnni                  16-bit integers and one scale for each row (K::quantize), which
//                                                       is known when a row is complete: `dynamic`
//    Int8             render_int8                       0..255, scales given; the roundings are in render.cpp
//    TileBf16         bfloat16, amx_bf16                as BFloat16, and with gradients
//    TileInt8         render_int8, amx_int8             as Int8
//
// ---- backward: gradient<K, T>, which the kinds that train have: Float, Fixed16 and TileBf16 ----
//
//    forward_again    head_grad.h      the same way, but every layer's activations of the block are kept
//    blend_gradient   head_grad.h      gradient of the last layer's values; of w_out
//    for l = L-1..0:  head_grad.h      weight_gradient: of w_mlp[l] and b_mlp[l]; then layer() with the transposed
//        |                             weights, whose result counts where the activation was positive
//    grad_first [B, Q, K, D]           -> scatter.h: rows sorted by pixel, GatherKernel::backward adds them up in that
//                                      order: gradients of hidden and w_pos, the same with any number of threads
//
// ---- on matrix units (AMX): tile_render and tile_train, for the kinds of tile_kinds.h ----
//
// Tiles            tiles_amx.h, or tiles_plain.h: the same in plain C++, to the bit
// Periods          tile_period.h   two row tiles x two column tiles of sums over all inputs, other periods' vector work
//                                  between the products
// TileHead         tile_head.h     16 queries and their four corners go through the layers, the first one by
//                                  tile_first.h; blend and output as above, but no corner and no input is left out:
//                                  moving rows would cost more. Columns are padded to a multiple of 64 by zero weights,
//                                  so an infinite activation, where D is not one, makes the query NaN
// tile_gradient    tile_grad.h     the blocks of head_grad.h; weight gradients as products of transposed tiles
// kernels_plain_amx.cpp            all of it without instructions of its own: used where it is named (LIIF_FAST_CPU,
//                                  cpu_use), by tests, which so run what the others compute on any processor
//
// The backward passes of corner_gather and of gather_corners, which has no ReLU and no w_pos, enter at scatter.h.
// b_out's gradient is a plain sum, which Python takes.
//
// ---- to add an instruction set NEW of x86 or of aarch64 (elsewhere there is the portable path alone) ----
//
//   1. kernels_NEW.cpp, on the pattern of kernels_avx512.cpp or kernels_neon.cpp: a vector class (that of another path,
//      or vec_NEW.h with what the head of kinds.h lists), kPath, kinds.h, the kinds, and path_NEW with
//      &FloatKernels::training<K> or inference<K> for each. Leave null what it does no faster: the best path below it
//      is used there. A new kind gives what the head of head_tile.h lists; out of Float, Quantized or Fixed (kinds.h)
//      it needs only dot and put. rows must divide kBlockRows, and panel x N the 64 columns to whose multiple rows are
//      padded. Another order of packed weights: Element below, and where parameters.h and render.cpp choose by it.
//   2. path_NEW among the declarations below; in paths.cpp its place in its architecture's kPaths (from slow to fast)
//      and its bit in supported(), which is that place: of x86 CPUID's flags, and that the system saves the registers;
//      of aarch64 what the system says.
//   3. setup.py, INSTRUCTION_SETS: the flags for kernels_NEW.cpp. By a compiler that does not know them the file is
//      compiled with LIIF_FAST_SKIP, and must then give a table of nulls: LIIF_NO_KERNELS.
//   4. The name is then one for LIIF_FAST_CPU and cpu_use, and `liif-fast doctor` lists it. By an ending in "vnni"
//      Python knows that bfloat16 features are multiplied as integers (integer_bfloat16 in liif_fast/head/ops.py).
//   5. Tests take their paths from what the processor offers (tests/helpers/cpu_paths.py): on one that has NEW,
//      test_cpu_kernels, test_decode and test_quantized run it against exact results with nothing to add. Without such
//      a processor: tools/aarch64 builds and tests in an emulator.
//   Matrix units of another type (AMX-FP16): its product in Tiles, a kind in tile_kinds.h, a table in tile_paths.h.
//
// Plain data below: files compiled with different instruction sets include it, so no function here may be instantiated
// twice (see corners.h, LIIF_HD).
#pragma once
#include <cstddef>
#include <cstdint>

#include "../corners.h"
#include "../types.h"

namespace liif {

// Everything about the queries. S: float, or double with a double hidden map.
template <class S>
struct Queries {
  Axis<S> y, x;
  bool ensemble;
  const void* hidden;  // [B, h, w, D]
  const S* coord;      // [B, Q, 2]
  const S* cell;       // [B, Q, 2] or null
  const S* w_pos;      // [4, width]: one row per column of the operator's w_pos, padded with zeros; of waves
                       // [2, width]; or null: see rows
  int64_t queries;     // Q
  int64_t image;       // h * w
  int64_t d;           // D: inputs of the hidden layers
  int64_t stride;      // numbers in a row of hidden: D, of waves 2 D
  bool waves;          // the first layer is that of waves.h
  int64_t width;       // D padded to a multiple of 64
  int32_t* outside;    // set to 1 when a query needs a pixel that hidden does not hold
};

// ---- the whole head: gather, hidden layers, blend, output -----------------------------------------------------------

// Of packed weights. kFixed: 16-bit fixed point, quantized from floats when they are packed (see Head::act_max).
// kTile...: for products of tiles.
enum Element { kF64, kF32, kBF16, kS8, kS16, kFixed, kTileBF16, kTileS8 };

template <class S>
struct Head {
  Queries<S> in;
  int64_t layers;       // L
  const char* weights;  // L x layer_bytes, packed as HeadKernel says
  int64_t layer_bytes;
  const S* bias;        // [L, width]
  const S* multiplier;  // [L, width], integer kernels: sums are multiplied by it before bias is added
  S first_scale;        // 8-bit kernels: the first layer's values are multiplied by it before they are rounded
  bool skip_zeros;      // inputs that are zero need no product: false when weights are not finite
  S act_max;            // fixed-point kernels: each row of activations is scaled so that its largest becomes this
  const S* w_out;       // [O, width]
  const S* b_out;       // [O]
  int64_t outputs;      // O
  S* out;               // [B, Q, O]
};

// Corners below this weight need no MLP in float32: the rest is scaled up to a sum of 1, which changes the result by
// less than 3e-6 of the *difference* between two corners' colours. float64 leaves none out.
constexpr double kNoWeight = 1e-6;

// Rows (corners of queries) that go through all the layers together: activations and one layer's weights stay in L2.
// A multiple of every kernel's tile.
constexpr int kBlockRows = 192;
constexpr int kGeometryBlock = 192;

// What its gradient takes and gives. Sums of gradients of parameters lie in one block: w_mlp [L, D, width],
// b_mlp [L, width], w_out [O, width], and some room behind.
template <class S>
struct HeadGradient {
  Head<S> head;
  Head<S> back;        // its layers transposed, without bias
  const S* constants;  // [2, width]: zeros, ones
  const S* grad_out;   // [B, Q, O]
  void* grad_first;    // [B, Q, K, D] of hidden's type: gradient of the first layer's sums

  LIIF_HD int64_t weight_at(int64_t l) const { return l * head.in.d * head.in.width; }
  LIIF_HD int64_t bias_at(int64_t l) const { return weight_at(head.layers) + l * head.in.width; }
  LIIF_HD int64_t out_at(int64_t o) const { return bias_at(head.layers) + o * head.in.width; }
  LIIF_HD int64_t sums() const { return out_at(head.outputs) + 32 * head.in.width; }
};

template <class S>
struct HeadKernel {
  const char* path;
  Element element;
  int lanes;         // columns per vector
  int panel;         // vectors of columns per weight panel; the last panel holds what is left
  int group;         // consecutive inputs of one column that lie together
  int64_t (*scratch)(int64_t width);  // bytes that render takes, aligned to 64
  // Queries [begin, end) of B * Q.
  void (*render[kHiddenTypes])(const Head<S>&, int64_t begin, int64_t end, char* scratch);
  // The same queries' gradients; sums are added to. Null: this kernel is for inference.
  void (*gradient[kHiddenTypes])(const HeadGradient<S>&, int64_t begin, int64_t end, char* scratch, S* sums);
  int64_t (*gradient_scratch)(int64_t layers, int64_t width);
};

// Bytes of one row of activations: an odd number of cache lines, as rows a power of two apart would share cache sets.
LIIF_HD constexpr int64_t row_bytes(int64_t width, int64_t element) {
  return width * element + (width * element / 64 % 2 ? 128 : 64);
}

// Where column i of 32 stands in a row of 8-bit activations for tiles: as AVX-512 packs two vectors of 16.
LIIF_HD constexpr int byte_place(int i) { return i % 16 / 4 * 8 + i / 16 * 4 + i % 4; }

// ---- the gather alone, for training ---------------------------------------------------------------------------------

// A row of the gathered map in the order of hidden pixels, for the backward pass.
template <class S>
struct SortedRow {
  int64_t row;  // of h and grad_h, in [0, B * Q * K)
  S pos[4];     // rel_y, rel_x, cell_y, cell_x
};

template <class S>
struct GatherKernel {
  const char* path;
  // h [B, Q, K, D] and weight [B, Q, K] of queries [begin, end); rel is not used.
  void (*forward[kHiddenTypes])(const Queries<S>&, int64_t begin, int64_t end, void* h, S* rel, S* weight);
  // The rows of hidden themselves in h's place, rel [B, Q, K, 2] and weight.
  void (*rows[kHiddenTypes])(const Queries<S>&, int64_t begin, int64_t end, void* rows, S* rel, S* weight);
  // sum[D] += gradient, grad_w_pos[4, width] += gradient x pos, where gradient = grad_h * (h > 0), rows in order. h
  // null: without ReLU; grad_w_pos null: not wanted.
  void (*backward[kHiddenTypes])(const void* grad_h, const void* h, int64_t d, int64_t width, const SortedRow<S>* rows,
                                 int64_t count, S* sum, S* grad_w_pos);
  // The same of waves.h's first layer: sum[4 F] and grad_phase[2, width] of one pixel of hidden, whose rows these are.
  void (*waves[kHiddenTypes])(const Queries<S>&, const void* grad_h, int64_t pixel, const SortedRow<S>* rows,
                              int64_t count, S* sum, S* grad_phase);
  // Round a sum to the hidden type.
  void (*round[kHiddenTypes])(const S* sum, int64_t d, void* out);
};

// ---- one table per file that is compiled for an instruction set; null where it was not compiled in ------------------

struct PathKernels {
  const char* name;
  const GatherKernel<float>* gather;
  const HeadKernel<float>* float32;
  const HeadKernel<float>* bfloat16;  // activations rounded to bfloat16 between layers
  const HeadKernel<float>* int8;
};

extern const PathKernels path_portable, path_avx2, path_avx_vnni, path_avx512, path_avx512_vnni, path_avx512_bf16;
extern const PathKernels path_neon, path_neon_dotprod, path_neon_i8mm, path_neon_bf16;
extern const PathKernels path_amx_bf16, path_amx_int8, path_plain_amx_bf16, path_plain_amx_int8;
extern const GatherKernel<double> gather_double;
extern const HeadKernel<double> head_double;

// ---- choice at run time (paths.cpp) ---------------------------------------------------------------------------------

enum class Compute { kFloat32, kBfloat16, kInt8 };
const HeadKernel<float>& head_kernel(Compute compute, bool training = false);
const GatherKernel<float>& gather_kernel();

}  // namespace liif

// Files for an architecture's instruction sets leave their kernels out on other processors, and where the compiler does
// not know the instructions (setup.py).
#if defined(__x86_64__) && !defined(LIIF_FAST_SKIP)
#define LIIF_X86_PATHS
#elif defined(__aarch64__) && !defined(LIIF_FAST_SKIP)
#define LIIF_ARM_PATHS
#endif
#define LIIF_NO_KERNELS(name) \
  const liif::PathKernels liif::path_##name = {#name, nullptr, nullptr, nullptr, nullptr};
