// Gradients of decode on CPU: memory, threads, sums over tasks. The arithmetic is in head_grad.h.
#include "parameters.h"
#include "scatter.h"

namespace liif {
namespace {

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Every task sums the gradients of its queries' parameters, and these sums are added in order: the result does not
// depend on the number of threads. Few enough tasks that their sums stay small, enough for many threads.
constexpr int64_t kTasks = 64, kLeastQueries = 3 * kGeometryBlock;

template <class S>
Tensor unpad(const Tensor& like, const S* from, const Pair& sizes, int64_t width) {
  Tensor out = torch::stable::new_empty(like, sizes, kScalar<S>);
  S* to = static_cast<S*>(out.mutable_data_ptr());
  const int64_t d = sizes.back(), rows = d ? out.numel() / d : 0;
  for (int64_t r = 0; r < rows; ++r) std::copy(from + r * width, from + r * width + d, to + r * d);
  return as(out, like.scalar_type());
}

// w_first: w_pos, or w_phase where the first layer is that of waves.h.
template <class S>
Gradients backward(const HeadKernel<S>& kernel, const Tensor& grad_out, const Tensor& hidden, const Tensor& coord,
                   const std::optional<Tensor>& cell, const Tensor& w_first, bool waves, const Tensor& w_mlp,
                   const Tensor& b_mlp, const Tensor& w_out, bool ensemble) {
  const Pair size{hidden.size(1), hidden.size(2)};
  const std::optional<Tensor> w_pos = waves ? std::nullopt : std::optional<Tensor>(w_first);
  Inputs<S> in = inputs<S>(hidden, coord, cell, w_pos, size, {0, 0}, ensemble);
  if (waves) in.waves(w_first);
  const int64_t d = in.queries.d, width = in.queries.width, outputs = w_out.size(0);
  const int64_t count = in.batch * in.queries.queries;
  check_layers(w_mlp, b_mlp, w_out, torch::stable::new_empty(w_out, {outputs}), d, "w_mlp");
  check(shape(grad_out) == shape(torch::stable::new_empty(coord, {in.batch, in.queries.queries, outputs})),
        "grad_out: shape [B, Q, O] is wanted, got ", shape(grad_out));

  Parameters<S> p, transposed;
  HeadGradient<S> grad{};
  Head<S>& head = grad.head;
  head.in = in.queries;
  const Tensor w = as(w_mlp, kScalar<S>);
  pack_layers(kernel, w, head, p);
  pad_rows(b_mlp, head.layers, d, p.bias);
  pad_rows(w_out, outputs, d, p.w_out);
  Buffer<S> constants(2 * width), zeros((head.layers + 1) * width);
  std::fill(&constants[width], &constants[width] + width, S(1));
  grad.back.in = head.in;
  pack_layers(kernel, torch::stable::contiguous(torch::stable::transpose(w, 1, 2)), grad.back, transposed);
  const auto set = [](Head<S>& h, Parameters<S>& from, S* bias) {
    h.weights = from.weights.data();
    h.multiplier = from.multiplier.data();
    h.bias = bias;
  };
  set(head, p, p.bias.data());
  set(grad.back, transposed, zeros.data());
  head.w_out = p.w_out.data();
  head.outputs = outputs;
  grad.constants = constants.data();
  const Tensor g = as(grad_out, kScalar<S>);
  grad.grad_out = static_cast<const S*>(g.const_data_ptr());
  Tensor first = torch::stable::new_empty(hidden, {in.batch, in.queries.queries, ensemble ? 4 : 1, d});
  grad.grad_first = first.mutable_data_ptr();

  const auto run = kernel.gradient[hidden_type(hidden, "hidden")];
  const int64_t step = std::max(kLeastQueries, round_up((count + kTasks - 1) / kTasks, kGeometryBlock));
  const int64_t tasks = (count + step - 1) / step, length = grad.sums();
  Buffer<S> sums(std::max<int64_t>(tasks, 1) * length);
  parallel_tasks(tasks, [&](int64_t task) {
    thread_local Buffer<char> scratch;
    scratch.resize(kernel.gradient_scratch(head.layers, width));
    run(grad, task * step, std::min(count, (task + 1) * step), scratch.data(), &sums[task * length]);
  });
  in.check_inside();
  torch::stable::parallel_for(0, length, 8192, [&](int64_t begin, int64_t end) {
    for (int64_t task = 1; task < tasks; ++task) {
      for (int64_t i = begin; i < end; ++i) sums[i] += sums[task * length + i];
    }
  });

  Tensor grad_hidden = torch::stable::new_zeros(hidden, {in.batch, size[0], size[1], in.queries.stride});
  Tensor grad_first = torch::stable::new_zeros(w_first, {w_first.size(0), w_first.size(1)}, kScalar<S>);
  if (count) Scatter<S>(in, first, nullptr, grad_hidden).grad_w_pos(static_cast<S*>(grad_first.mutable_data_ptr()));
  return {grad_hidden, as(grad_first, w_first.scalar_type()),
          unpad(w_mlp, &sums[grad.weight_at(0)], {head.layers, d, d}, width),
          unpad(b_mlp, &sums[grad.bias_at(0)], {head.layers, d}, width),
          unpad(w_out, &sums[grad.out_at(0)], {outputs, d}, width)};
}

}  // namespace

Gradients decode_backward_cpu(Tensor grad_out, Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos,
                              Tensor w_mlp, Tensor b_mlp, Tensor w_out, bool ensemble) {
  check(hidden.dim() == 4, "hidden: shape [B, h, w, D] is wanted, got ", shape(hidden));
  return with_kernel(hidden, true, [&](const auto& kernel) {
    return backward(kernel, grad_out, hidden, coord, cell, w_pos, false, w_mlp, b_mlp, w_out, ensemble);
  });
}

Gradients decode_fourier_backward_cpu(Tensor grad_out, Tensor hidden, Tensor coord, std::optional<Tensor> cell,
                                      Tensor w_phase, Tensor w_mlp, Tensor b_mlp, Tensor w_out, bool ensemble) {
  check(hidden.dim() == 4, "hidden: shape [B, h, w, 4 F] is wanted, got ", shape(hidden));
  return with_kernel(hidden, true, [&](const auto& kernel) {
    return backward(kernel, grad_out, hidden, coord, cell, w_phase, true, w_mlp, b_mlp, w_out, ensemble);
  });
}

}  // namespace liif
