// corner_gather, gather_corners and their gradients on CPU: checks, memory, threads. The arithmetic is in
// gather_impl.h.
#include "scatter.h"

namespace liif {
namespace {

struct Gathered {
  Tensor rows;                // [B, Q, K, D]
  std::optional<Tensor> rel;  // [B, Q, K, 2], where rows are as they are
  Tensor weight;              // [B, Q, K]
};

// w_pos: of the first layer; none: rows as they are.
template <class S>
Gathered forward(const Tensor& hidden, const Tensor& coord, const std::optional<Tensor>& cell,
                 const std::optional<Tensor>& w_pos, const Pair& size, const Pair& origin, bool ensemble) {
  const Inputs<S> in = inputs<S>(hidden, coord, cell, w_pos, size, origin, ensemble);
  const Queries<S>& q = in.queries;
  const int64_t K = ensemble ? 4 : 1, count = in.batch * q.queries;
  Gathered out{torch::stable::new_empty(hidden, {in.batch, q.queries, K, q.d}), std::nullopt,
               torch::stable::new_empty(coord, {in.batch, q.queries, K})};
  if (!w_pos) out.rel = torch::stable::new_empty(coord, {in.batch, q.queries, K, 2});
  const GatherKernel<S>& kernel = gather_kernel_of<S>();
  const auto run = (w_pos ? kernel.forward : kernel.rows)[hidden_type(hidden, "hidden")];
  if (count == 0) return out;
  void* rows = out.rows.mutable_data_ptr();
  S* rel = out.rel ? static_cast<S*>(out.rel->mutable_data_ptr()) : nullptr;
  S* weight = static_cast<S*>(out.weight.mutable_data_ptr());
  torch::stable::parallel_for(0, count, 1 + 32768 / (K * q.d + 1),
                              [&](int64_t begin, int64_t end) { run(q, begin, end, rows, rel, weight); });
  in.check_inside();
  return out;
}

template <class S>
std::tuple<Tensor, Tensor> backward(const Tensor& grad_h, const Tensor& h, const Tensor& coord,
                                    const std::optional<Tensor>& cell, const Tensor& w_pos, const Pair& hidden_size,
                                    const Pair& size, const Pair& origin, bool ensemble) {
  const Inputs<S> in(nullptr, hidden_size, h.size(3), coord, cell, w_pos, size, origin, ensemble);
  check_rows("h", h, coord, ensemble);
  Tensor grad_hidden = torch::stable::new_zeros(h, {in.batch, hidden_size[0], hidden_size[1], in.queries.d});
  Tensor grad_w_pos = torch::stable::new_zeros(w_pos, {in.queries.d, 4}, kScalar<S>);
  if (in.batch * in.queries.queries > 0) {
    const Tensor g = as(grad_h, h.scalar_type()), post = torch::stable::contiguous(h);
    Scatter<S>(in, g, &post, grad_hidden).grad_w_pos(static_cast<S*>(grad_w_pos.mutable_data_ptr()));
  }
  return {grad_hidden, as(grad_w_pos, w_pos.scalar_type())};
}

template <class S>
Tensor rows_backward(const Tensor& grad_rows, const Tensor& coord, const Pair& hidden_size, const Pair& size,
                     const Pair& origin, bool ensemble) {
  const Inputs<S> in(nullptr, hidden_size, grad_rows.size(3), coord, std::nullopt, std::nullopt, size, origin,
                     ensemble);
  check_rows("grad_rows", grad_rows, coord, ensemble);
  hidden_type(grad_rows, "grad_rows");
  Tensor grad_hidden = torch::stable::new_zeros(grad_rows, {in.batch, hidden_size[0], hidden_size[1], in.queries.d});
  if (in.batch * in.queries.queries > 0) {
    Scatter<S>(in, torch::stable::contiguous(grad_rows), nullptr, grad_hidden);
  }
  return grad_hidden;
}

bool is_double(const Tensor& t) { return t.scalar_type() == ScalarType::Double; }

}  // namespace

std::tuple<Tensor, Tensor> corner_gather_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos,
                                             Pair size, Pair origin, bool ensemble) {
  const auto run = is_double(hidden) ? forward<double> : forward<float>;
  const Gathered out = run(hidden, coord, cell, w_pos, size, origin, ensemble);
  return {out.rows, out.weight};
}

std::tuple<Tensor, Tensor> corner_gather_backward_cpu(Tensor grad_h, Tensor h, Tensor coord, std::optional<Tensor> cell,
                                                      Tensor w_pos, Pair hidden_size, Pair size, Pair origin,
                                                      bool ensemble) {
  check_gradient(grad_h, h);
  const auto run = is_double(h) ? backward<double> : backward<float>;
  return run(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble);
}

std::tuple<Tensor, Tensor, Tensor> gather_corners_cpu(Tensor hidden, Tensor coord, Pair size, Pair origin,
                                                      bool ensemble) {
  const auto run = is_double(hidden) ? forward<double> : forward<float>;
  const Gathered out = run(hidden, coord, std::nullopt, std::nullopt, size, origin, ensemble);
  return {out.rows, *out.rel, out.weight};
}

Tensor gather_corners_backward_cpu(Tensor grad_rows, Tensor coord, Pair hidden_size, Pair size, Pair origin,
                                   bool ensemble) {
  check(grad_rows.dim() == 4, "grad_rows: shape [B, Q, K, D] is wanted, got ", shape(grad_rows));
  const auto run = is_double(grad_rows) ? rows_backward<double> : rows_backward<float>;
  return run(grad_rows, coord, hidden_size, size, origin, ensemble);
}

}  // namespace liif
