// corner_gather and its gradient on CPU: checks, memory, threads. The arithmetic is in gather_impl.h.
#include "scatter.h"

namespace liif {
namespace {

template <class S>
std::tuple<Tensor, Tensor> forward(const Tensor& hidden, const Tensor& coord, const std::optional<Tensor>& cell,
                                   const Tensor& w_pos, const Pair& size, const Pair& origin, bool ensemble) {
  const Inputs<S> in = inputs<S>(hidden, coord, cell, w_pos, size, origin, ensemble);
  const Queries<S>& q = in.queries;
  const int64_t K = ensemble ? 4 : 1, count = in.batch * q.queries;
  Tensor h = torch::stable::new_empty(hidden, {in.batch, q.queries, K, q.d});
  Tensor weight = torch::stable::new_empty(coord, {in.batch, q.queries, K});
  if (count == 0) return {h, weight};
  const auto run = gather_kernel_of<S>().forward[hidden_type(hidden, "hidden")];
  void* out = h.mutable_data_ptr();
  S* w = static_cast<S*>(weight.mutable_data_ptr());
  torch::stable::parallel_for(0, count, 1 + 32768 / (K * q.d + 1),
                              [&](int64_t begin, int64_t end) { run(q, begin, end, out, w); });
  in.check_inside();
  return {h, weight};
}

template <class S>
std::tuple<Tensor, Tensor> backward(const Tensor& grad_h, const Tensor& h, const Tensor& coord,
                                    const std::optional<Tensor>& cell, const Tensor& w_pos, const Pair& hidden_size,
                                    const Pair& size, const Pair& origin, bool ensemble) {
  const Inputs<S> in(nullptr, hidden_size, h.size(3), coord, cell, w_pos, size, origin, ensemble);
  check_rows(h, coord, ensemble);
  Tensor grad_hidden = torch::stable::new_zeros(h, {in.batch, hidden_size[0], hidden_size[1], in.queries.d});
  Tensor grad_w_pos = torch::stable::new_zeros(w_pos, {in.queries.d, 4}, kScalar<S>);
  if (in.batch * in.queries.queries > 0) {
    const Tensor g = as(grad_h, h.scalar_type()), post = torch::stable::contiguous(h);
    Scatter<S>(in, g, &post, grad_hidden).grad_w_pos(static_cast<S*>(grad_w_pos.mutable_data_ptr()));
  }
  return {grad_hidden, as(grad_w_pos, w_pos.scalar_type())};
}

}  // namespace

std::tuple<Tensor, Tensor> corner_gather_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos,
                                             Pair size, Pair origin, bool ensemble) {
  const auto run = hidden.scalar_type() == ScalarType::Double ? forward<double> : forward<float>;
  return run(hidden, coord, cell, w_pos, size, origin, ensemble);
}

std::tuple<Tensor, Tensor> corner_gather_backward_cpu(Tensor grad_h, Tensor h, Tensor coord, std::optional<Tensor> cell,
                                                      Tensor w_pos, Pair hidden_size, Pair size, Pair origin,
                                                      bool ensemble) {
  check_gradient(grad_h, h);
  const auto run = h.scalar_type() == ScalarType::Double ? backward<double> : backward<float>;
  return run(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble);
}

}  // namespace liif
