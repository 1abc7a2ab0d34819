// render and render_int8 on CPU: checks, packing of the weights, threads. The arithmetic is in head_impl.h.
#include "parameters.h"

namespace liif {
namespace {

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
    scratch.resize(kernel.scratch(head.in.width));
    render(head, task * step, std::min(count, (task + 1) * step), scratch.data());
  });
  in.check_inside();
  return out;
}

// w_phase: the first layer is that of waves.h; else w_pos.
template <class S>
Tensor render(const HeadKernel<S>& kernel, const Tensor& hidden, const Tensor& coord, const std::optional<Tensor>& cell,
              const std::optional<Tensor>& w_pos, const std::optional<Tensor>& w_phase, const Tensor& w_mlp,
              const Tensor& b_mlp, const Tensor& w_out, const Tensor& b_out, const Pair& size, const Pair& origin,
              bool ensemble) {
  Inputs<S> in = inputs<S>(hidden, coord, cell, w_pos, size, origin, ensemble);
  if (w_phase) in.waves(*w_phase);
  check_layers(w_mlp, b_mlp, w_out, b_out, in.queries.d, "w_mlp");
  Parameters<S> p;
  Head<S> head{};
  pack_layers(kernel, as(w_mlp, kScalar<S>), head, p);
  pad_rows(b_mlp, head.layers, in.queries.d, p.bias);
  return run(kernel, head, in, p, hidden, w_out, b_out);
}

// Bias and multiplier of the integer layers, in the roundings of the specification below. Returns whether no sum can
// leave float32 with them.
bool quantized_affine(const Tensor& w_scale, const Tensor& b_mlp, const Tensor& act_scale, int64_t layers, int64_t d,
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
  const float largest = float(d * 255 * 127);
  bool finite = true;
  for (int64_t l = 0; l < layers; ++l) {
    const float inverse = l + 1 < layers ? 1.0f / act[l + 1] : 1.0f;
    for (int64_t i = l * width; i < (l + 1) * width; ++i) {
      p.multiplier[i] = p.multiplier[i] * act[l] * inverse;
      p.bias[i] *= inverse;
      finite &= std::isfinite(largest * std::abs(p.multiplier[i]) + std::abs(p.bias[i]));
    }
  }
  head.first_scale = layers ? 1.0f / act[0] : 1.0f;
  return finite;
}

}  // namespace

Tensor render_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos, Tensor w_mlp, Tensor b_mlp,
                  Tensor w_out, Tensor b_out, Pair size, Pair origin, bool ensemble) {
  const auto call = [&](const auto& kernel) {
    return render(kernel, hidden, coord, cell, w_pos, std::nullopt, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble);
  };
  return with_kernel(hidden, false, call);
}

Tensor render_fourier_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_phase, Tensor w_mlp,
                          Tensor b_mlp, Tensor w_out, Tensor b_out, Pair size, Pair origin, bool ensemble) {
  const auto call = [&](const auto& kernel) {
    return render(kernel, hidden, coord, cell, std::nullopt, w_phase, w_mlp, b_mlp, w_out, b_out, size, origin,
                  ensemble);
  };
  return with_kernel(hidden, false, call);
}

// The same with the kernels that decode_backward uses.
Tensor decode_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos, Tensor w_mlp, Tensor b_mlp,
                  Tensor w_out, Tensor b_out, bool ensemble) {
  check(hidden.dim() == 4, "hidden: shape [B, h, w, D] is wanted, got ", shape(hidden));
  const Pair size{hidden.size(1), hidden.size(2)};
  const auto call = [&](const auto& kernel) {
    return render(kernel, hidden, coord, cell, w_pos, std::nullopt, w_mlp, b_mlp, w_out, b_out, size, {0, 0}, ensemble);
  };
  return with_kernel(hidden, true, call);
}

Tensor decode_fourier_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_phase, Tensor w_mlp,
                          Tensor b_mlp, Tensor w_out, Tensor b_out, bool ensemble) {
  check(hidden.dim() == 4, "hidden: shape [B, h, w, 4 F] is wanted, got ", shape(hidden));
  const Pair size{hidden.size(1), hidden.size(2)};
  const auto call = [&](const auto& kernel) {
    return render(kernel, hidden, coord, cell, std::nullopt, w_phase, w_mlp, b_mlp, w_out, b_out, size, {0, 0},
                  ensemble);
  };
  return with_kernel(hidden, true, call);
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
//   u8(v)   = v rounded to the nearest integer, ties to even, after v is clamped to [0, 255]
// Integers hold neither NaN nor infinity. So a query that reads an x of either, before inv[0], has the colour NaN; and
// all have it where D * 255 * 127 * |m[l]| + |c[l]| is not finite for any l and unit.
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
  head.layer_bytes = pack_bytes(kernel, numbers, head.layers, d, p.weights);
  head.skip_zeros = true;
  const bool finite = quantized_affine(w_scale, b_mlp, act_scale, head.layers, d, head, p);
  Tensor out = run(kernel, head, in, p, hidden, w_out, b_out);
  if (!finite) std::fill_n(static_cast<float*>(out.mutable_data_ptr()), out.numel(), std::nanf(""));
  return out;
}

}  // namespace liif
