// render and render_int8 on CPU: checks, packing of the weights, threads. The arithmetic is in head_impl.h.
#include <cmath>
#include <limits>

#include "queries.h"

namespace liif {
namespace {

// A weight as kernels read it.
struct Bf16Weight {
  uint16_t bits;
  Bf16Weight(float x) {
    uint32_t b;
    __builtin_memcpy(&b, &x, 4);
    bits = x == x ? uint16_t((b + 0x7fff + ((b >> 16) & 1)) >> 16) : uint16_t(0x7fc0);
  }
};

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

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

template <class S>
struct Parameters {
  Buffer<char> weights;
  Buffer<S> bias, multiplier, w_out, b_out;
};

void check_layers(const Tensor& w_mlp, const Tensor& b_mlp, const Tensor& w_out, const Tensor& b_out, int64_t d,
                  const char* w_name) {
  check(w_mlp.dim() == 3 && w_mlp.size(1) == d && w_mlp.size(2) == d, w_name, ": shape [L, ", d, ", ", d,
        "] is wanted, got ", shape(w_mlp));
  check(b_mlp.dim() == 2 && b_mlp.size(0) == w_mlp.size(0) && b_mlp.size(1) == d, "b_mlp: shape [", w_mlp.size(0),
        ", ", d, "] is wanted, got ", shape(b_mlp));
  check(w_out.dim() == 2 && w_out.size(1) == d, "w_out: shape [O, ", d, "] is wanted, got ", shape(w_out));
  check(b_out.dim() == 1 && b_out.size(0) == w_out.size(0), "b_out: shape [", w_out.size(0), "] is wanted, got ",
        shape(b_out));
}

// Run the packed head over all queries.
template <class S>
Tensor run(const HeadKernel<S>& kernel, Head<S>& head, const Inputs<S>& in, Parameters<S>& p, const Tensor& hidden,
           const Tensor& w_out, const Tensor& b_out) {
  const int64_t outputs = w_out.size(0), count = in.batch * in.queries.queries;
  Tensor out = torch::stable::new_empty(in.coord, {in.batch, in.queries.queries, outputs});
  if (count == 0 || outputs == 0) return out;
  pad_rows(w_out, outputs, in.queries.d, p.w_out);
  const Tensor b = as(b_out, kScalar<S>);
  head.in = in.queries;
  head.weights = p.weights.data();
  head.bias = p.bias.data();
  head.multiplier = p.multiplier.data();
  head.w_out = p.w_out.data();
  head.b_out = static_cast<const S*>(b.const_data_ptr());
  head.outputs = outputs;
  head.out = static_cast<S*>(out.mutable_data_ptr());
  const auto render = kernel.render[hidden_type(hidden, "hidden")];
  // Enough tasks that no thread waits long for the last one; long enough that partly filled blocks do not matter.
  const int64_t rows = int64_t(kBlockRows), per_block = head.in.ensemble ? rows / 4 : rows;
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t step = std::min<int64_t>(round_up(count / (threads * 8) + 1, per_block), 16 * per_block);
  parallel_tasks((count + step - 1) / step, [&](int64_t task) {
    thread_local Buffer<char> scratch;  // kept: fresh pages for every call would cost more than small calls take
    scratch.resize(scratch_bytes<S>(head.in.width, kernel.act_bytes));
    render(head, task * step, std::min(count, (task + 1) * step), scratch.data());
  });
  in.check_inside();
  return out;
}

// 16-bit fixed point for float weights: scales so that no sum of products with activations up to act_max can leave 32
// bits. Few large weights cost precision of the others in their row only.
int64_t pack_fixed(const HeadKernel<float>& kernel, const float* w, int64_t layers, int64_t d, Head<float>& head,
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

int64_t pack_weights(const HeadKernel<float>& kernel, const float* w, int64_t layers, int64_t d, Head<float>& head,
                     Parameters<float>& p) {
  switch (kernel.element) {
    case kBF16: return pack<Bf16Weight, 2>(kernel, w, layers, d, p.weights);
    case kFixed: return pack_fixed(kernel, w, layers, d, head, p);
    default: return pack<float, 1>(kernel, w, layers, d, p.weights);
  }
}

int64_t pack_weights(const HeadKernel<double>& kernel, const double* w, int64_t layers, int64_t d, Head<double>&,
                     Parameters<double>& p) {
  return pack<double, 1>(kernel, w, layers, d, p.weights);
}

template <class S>
Tensor render(const HeadKernel<S>& kernel, const Tensor& hidden, const Tensor& coord, const std::optional<Tensor>& cell,
              const Tensor& w_pos, const Tensor& w_mlp, const Tensor& b_mlp, const Tensor& w_out, const Tensor& b_out,
              const Pair& size, const Pair& origin, bool ensemble) {
  const Inputs<S> in = inputs<S>(hidden, coord, cell, w_pos, size, origin, ensemble);
  const int64_t d = in.queries.d;
  check_layers(w_mlp, b_mlp, w_out, b_out, d, "w_mlp");
  Parameters<S> p;
  Head<S> head{};
  head.layers = w_mlp.size(0);
  const Tensor w = as(w_mlp, kScalar<S>);
  head.layer_bytes = pack_weights(kernel, static_cast<const S*>(w.const_data_ptr()), head.layers, d, head, p);
  pad_rows(b_mlp, head.layers, d, p.bias);
  head.skip_zeros = true;
  const S* numbers = static_cast<const S*>(w.const_data_ptr());
  for (int64_t i = 0; i < w.numel(); ++i) head.skip_zeros &= numbers[i] - numbers[i] == 0;
  return run(kernel, head, in, p, hidden, w_out, b_out);
}

// Bias and multiplier of the integer layers, in the roundings of the specification below.
void quantized_affine(const Tensor& w_scale, const Tensor& b_mlp, const Tensor& act_scale, int64_t layers, int64_t d,
                      Head<float>& head, Parameters<float>& p) {
  const Tensor scales = as(act_scale, ScalarType::Float);
  const float* act = static_cast<const float*>(scales.const_data_ptr());
  for (int64_t l = 0; l < layers; ++l) {
    check(act[l] >= std::numeric_limits<float>::min() && std::isfinite(act[l]), "act_scale[", l,
          "]: a positive finite number is wanted, got ", act[l]);
  }
  pad_rows(b_mlp, layers, d, p.bias);
  pad_rows(w_scale, layers, d, p.multiplier);
  const int64_t width = padded(d);
  for (int64_t l = 0; l < layers; ++l) {
    for (int64_t i = l * width; i < (l + 1) * width; ++i) {
      p.multiplier[i] *= act[l];
      if (l + 1 == layers) continue;
      const float inverse = 1.0f / act[l + 1];
      p.multiplier[i] *= inverse;
      p.bias[i] *= inverse;
    }
  }
  head.first_scale = layers ? 1.0f / act[0] : 1.0f;
}

}  // namespace

Tensor render_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos, Tensor w_mlp, Tensor b_mlp,
                  Tensor w_out, Tensor b_out, Pair size, Pair origin, bool ensemble) {
  const ScalarType type = hidden.scalar_type();
  if (type == ScalarType::Double) {
    return render(head_double, hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble);
  }
  const auto& kernel = head_kernel(type == ScalarType::BFloat16 ? Compute::kBfloat16 : Compute::kFloat32);
  return render(kernel, hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble);
}

// The 8-bit head. All operations are in float32 and round once; a sequence of them is never contracted.
//   x       = hidden[corner] + (((cell_y * w2 + cell_x * w3) + rel_y * w0) + rel_x * w1)
//             where w0..w3 = columns of w_pos and cell_x * w3 is the product that cell_y * w2 is added to;
//             cell = cell * size, and all cell products are 0 without a cell
//   inv[l]  = 1 / act_scale[l]
//   u[0]    = u8(x * inv[0])
//   s[l]    = sum over i of w_q[l, o, i] * u[l][i], exact in int32, then converted to float32
//   m[l]    = w_scale[l] * act_scale[l],  c[l] = b_mlp[l]                        for the last layer
//   m[l]    = (w_scale[l] * act_scale[l]) * inv[l + 1],  c[l] = b_mlp[l] * inv[l + 1]    for the others
//   u[l+1]  = u8(s[l] * m[l] + c[l])
//   y       = max(s[L-1] * m[L-1] + c[L-1], 0)
//   u8(v)   = v rounded to the nearest integer, ties to even, after v is clamped to [0, 255]; NaN becomes 0
// Blend by area weights and output layer as in render, in float32 (not part of the exact specification: their sums may
// be formed in any order). A NaN coordinate gives a NaN result.
Tensor render_int8_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos, Tensor w_q,
                       Tensor w_scale, Tensor b_mlp, Tensor act_scale, Tensor w_out, Tensor b_out, Pair size,
                       Pair origin, bool ensemble) {
  check(hidden.scalar_type() != ScalarType::Double, "hidden: float32, bfloat16 or float16 is wanted, got float64");
  const Inputs<float> in = inputs<float>(hidden, coord, cell, w_pos, size, origin, ensemble);
  const int64_t d = in.queries.d;
  check_layers(w_q, b_mlp, w_out, b_out, d, "w_q");
  check(w_q.scalar_type() == ScalarType::Char, "w_q: int8 is wanted");
  check(d <= 65536, "w_q: more than 65536 inputs can overflow a 32-bit sum");
  check(shape(w_scale) == shape(b_mlp), "w_scale: shape ", shape(b_mlp), " is wanted, got ", shape(w_scale));
  check(act_scale.dim() == 1 && act_scale.size(0) == w_q.size(0), "act_scale: shape [", w_q.size(0),
        "] is wanted, got ", shape(act_scale));
  const HeadKernel<float>& kernel = head_kernel(Compute::kInt8);
  Parameters<float> p;
  Head<float> head{};
  head.layers = w_q.size(0);
  const Tensor w = torch::stable::contiguous(w_q);
  const int8_t* numbers = static_cast<const int8_t*>(w.const_data_ptr());
  head.layer_bytes = kernel.element == kS8 ? pack<int8_t, 4>(kernel, numbers, head.layers, d, p.weights)
                                           : pack<int16_t, 2>(kernel, numbers, head.layers, d, p.weights);
  head.skip_zeros = true;
  quantized_affine(w_scale, b_mlp, act_scale, head.layers, d, head, p);
  return run(kernel, head, in, p, hidden, w_out, b_out);
}

}  // namespace liif
