// The head's parameters as kernels read them: checks, padding, packing of the hidden layers' weights.
#pragma once
#include <cmath>
#include <limits>

#include "queries.h"

namespace liif {

// A weight as kernels read it.
struct Bf16Weight {
  uint16_t bits;
  Bf16Weight(float x) {
    uint32_t b;
    __builtin_memcpy(&b, &x, 4);
    bits = x == x ? uint16_t((b + 0x7fff + ((b >> 16) & 1)) >> 16) : uint16_t(0x7fc0);
  }
};

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// w [L, D, D] (out, in) -> for each layer and panel of columns (out): [input group][column][input in group]; columns up
// to a multiple of the vector length and inputs up to a multiple of the group are zero. Returns bytes per layer.
template <class E, int group, class S, class W>
int64_t pack(const HeadKernel<S>& kernel, const W* w, int64_t layers, int64_t d, Buffer<char>& out) {
  const int64_t groups = round_up(d, group) / group, columns = round_up(d, kernel.lanes);
  const int64_t panel = int64_t(kernel.panel) * kernel.lanes, panels = (columns + panel - 1) / panel;
  const int64_t layer = groups * group * columns;
  out.resize(layers * layer * int64_t(sizeof(E)));
  parallel_tasks(layers * panels, [&](int64_t task) {
    const int64_t l = task / panels, first = task % panels * panel, count = std::min(panel, columns - first);
    E* to = reinterpret_cast<E*>(out.data()) + l * layer + first * groups * group;
    for (int64_t c = 0; c < std::min(count, d - first); ++c) {
      const W* from = w + (l * d + first + c) * d;
      for (int64_t i = 0; i < d; ++i) to[(i / group * count + c) * group + i % group] = E(from[i]);
    }
  });
  return layer * int64_t(sizeof(E));
}

// The same for tiles: [column tile][input group][16 columns][in group], zeros up to multiples of 64 inputs and columns.
// Inputs stand as their activations do (byte_place).
template <class E, int group, class W>
int64_t pack_tiles(const W* w, int64_t layers, int64_t d, Buffer<char>& out) {
  const int64_t width = round_up(d, 64), tiles = width / 16, layer = width * width;
  out.resize(layers * layer * int64_t(sizeof(E)));
  parallel_tasks(layers * tiles, [&](int64_t task) {
    const int64_t l = task / tiles, first = task % tiles * 16;
    E* to = reinterpret_cast<E*>(out.data()) + l * layer + first * width;
    for (int64_t c = 0; c < std::min<int64_t>(16, d - first); ++c) {
      const W* from = w + (l * d + first + c) * d;
      for (int64_t i = 0; i < d; ++i) {
        const int64_t at = group == 4 ? i / 32 * 32 + byte_place(int(i % 32)) : i;
        to[(at / group * 16 + c) * group + at % group] = E(from[i]);
      }
    }
  });
  return layer * int64_t(sizeof(E));
}

inline int64_t pack_bytes(const HeadKernel<float>& kernel, const int8_t* w, int64_t layers, int64_t d,
                          Buffer<char>& out) {
  switch (kernel.element) {
    case kTileS8: return pack_tiles<int8_t, 4>(w, layers, d, out);
    case kS8: return pack<int8_t, 4>(kernel, w, layers, d, out);
    default: return pack<int16_t, 2>(kernel, w, layers, d, out);
  }
}

template <class S>
struct Parameters {
  Buffer<char> weights;
  Buffer<S> bias, multiplier, w_out, b_out;
};

inline void check_layers(const Tensor& w_mlp, const Tensor& b_mlp, const Tensor& w_out, const Tensor& b_out, int64_t d,
                  const char* w_name) {
  check(w_mlp.dim() == 3 && w_mlp.size(1) == d && w_mlp.size(2) == d, w_name, ": shape [L, ", d, ", ", d,
        "] is wanted, got ", shape(w_mlp));
  check(b_mlp.dim() == 2 && b_mlp.size(0) == w_mlp.size(0) && b_mlp.size(1) == d, "b_mlp: shape [", w_mlp.size(0),
        ", ", d, "] is wanted, got ", shape(b_mlp));
  check(w_out.dim() == 2 && w_out.size(1) == d, "w_out: shape [O, ", d, "] is wanted, got ", shape(w_out));
  check(b_out.dim() == 1 && b_out.size(0) == w_out.size(0), "b_out: shape [", w_out.size(0), "] is wanted, got ",
        shape(b_out));
}

// 16-bit fixed point for float weights: scales so that no sum of products with activations up to act_max can leave 32
// bits. Few large weights cost precision of the others in their row only.
inline int64_t pack_fixed(const HeadKernel<float>& kernel, const float* w, int64_t layers, int64_t d, Head<float>& head,
                          Parameters<float>& p) {
  // Errors of activations (2^-bits of the largest) and of weights (2^(bits - 31) of a row's sum) balance here.
  int bits = 17;
  for (int64_t n = 1; n < d; n *= 4) --bits;
  bits = std::min(bits, 15);
  check(bits >= 8, "w_mlp: more than 2^18 inputs are not supported with bfloat16 features");
  head.act_max = float((1 << bits) - 1);
  // each weight rounds up by 1/2 at most
  const float sum_max = float(((int64_t(1) << 31) - 1) / ((1 << bits) - 1) - d / 2 - 1);
  const int64_t width = padded(d);
  p.multiplier.resize(layers * width);
  std::vector<int16_t> fixed(size_t(layers * d * d));
  torch::stable::parallel_for(0, layers * d, 1 + 16384 / (d + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* from = w + r * d;
      double sum = 0;
      float largest = 0;
      for (int64_t i = 0; i < d; ++i) {
        const float magnitude = std::abs(from[i]);
        sum += magnitude;
        largest = magnitude > largest ? magnitude : largest;
      }
      const float scale = std::max(float(sum) / sum_max * 1.000001f, largest / 32767);
      // A row that is not finite gives NaN, as its products would.
      p.multiplier[r / d * width + r % d] = std::isfinite(scale) ? scale : std::numeric_limits<float>::quiet_NaN();
      if (!(scale > std::numeric_limits<float>::min() && std::isfinite(scale))) continue;  // zeros
      const float inverse = 1 / scale;
      for (int64_t i = 0; i < d; ++i) {
        // Adding 1.5 * 2^23 leaves the nearest integer in the mantissa.
        fixed[size_t(r * d + i)] = int16_t(int32_t(from[i] * inverse + 12582912.0f - 12582912.0f));
      }
    }
  });
  return pack<int16_t, 2>(kernel, fixed.data(), layers, d, p.weights);
}

inline int64_t pack_weights(const HeadKernel<float>& kernel, const float* w, int64_t layers, int64_t d,
                            Head<float>& head, Parameters<float>& p) {
  switch (kernel.element) {
    case kTileBF16: return pack_tiles<Bf16Weight, 2>(w, layers, d, p.weights);
    case kBF16: return pack<Bf16Weight, 2>(kernel, w, layers, d, p.weights);
    case kFixed: return pack_fixed(kernel, w, layers, d, head, p);
    default: return pack<float, 1>(kernel, w, layers, d, p.weights);
  }
}

inline int64_t pack_weights(const HeadKernel<double>& kernel, const double* w, int64_t layers, int64_t d,
                            Head<double>&, Parameters<double>& p) {
  return pack<double, 1>(kernel, w, layers, d, p.weights);
}

// Everything about the hidden layers in head, out of w [L, D, D] (contiguous, of type S).
template <class S>
void pack_layers(const HeadKernel<S>& kernel, const Tensor& w, Head<S>& head, Parameters<S>& p) {
  const S* numbers = static_cast<const S*>(w.const_data_ptr());
  head.layers = w.size(0);
  head.layer_bytes = pack_weights(kernel, numbers, head.layers, w.size(1), head, p);
  head.skip_zeros = true;
  for (int64_t i = 0; i < w.numel(); ++i) head.skip_zeros &= numbers[i] - numbers[i] == 0;
}

// f(kernel) with the kernel for hidden's type.
template <class F>
auto with_kernel(const Tensor& hidden, bool training, const F& f) {
  const ScalarType type = hidden.scalar_type();
  if (type == ScalarType::Double) return f(head_double);
  return f(head_kernel(type == ScalarType::BFloat16 ? Compute::kBfloat16 : Compute::kFloat32, training));
}

}  // namespace liif
