// corner_gather and its gradient on CPU: checks, memory, threads. The arithmetic is in gather_impl.h.
#include <utility>

#include "queries.h"

namespace liif {
namespace {

template <class S>
const GatherKernel<S>& kernel();
template <>
const GatherKernel<float>& kernel() { return gather_kernel(); }
template <>
const GatherKernel<double>& kernel() { return gather_double; }

template <class S>
std::tuple<Tensor, Tensor> forward(const Tensor& hidden, const Tensor& coord, const std::optional<Tensor>& cell,
                                   const Tensor& w_pos, const Pair& size, const Pair& origin, bool ensemble) {
  const Inputs<S> in = inputs<S>(hidden, coord, cell, w_pos, size, origin, ensemble);
  const Queries<S>& q = in.queries;
  const int64_t K = ensemble ? 4 : 1, count = in.batch * q.queries;
  Tensor h = torch::stable::new_empty(hidden, {in.batch, q.queries, K, q.d});
  Tensor weight = torch::stable::new_empty(coord, {in.batch, q.queries, K});
  if (count == 0) return {h, weight};
  const auto run = kernel<S>().forward[hidden_type(hidden, "hidden")];
  void* out = h.mutable_data_ptr();
  S* w = static_cast<S*>(weight.mutable_data_ptr());
  torch::stable::parallel_for(0, count, 1 + 32768 / (K * q.d + 1),
                              [&](int64_t begin, int64_t end) { run(q, begin, end, out, w); });
  in.check_inside();
  return {h, weight};
}

// Rows [B * Q * K] of the gathered map, sorted by the pixel that they came from.
template <class S>
struct Sorted {
  std::vector<int32_t> pixel;  // of each row, in its image
  std::vector<S> rel;          // of each row: y, x
  std::vector<int64_t> order;  // sorted rows; rows of one pixel stay in their order
  std::vector<int64_t> start;  // [B * h * w + 1]: where each pixel's rows begin in `order`

  explicit Sorted(const Inputs<S>& in) {
    const Queries<S>& q = in.queries;
    const int64_t K = q.ensemble ? 4 : 1, per_image = q.queries * K;
    pixel.resize(size_t(in.batch * per_image));
    rel.resize(pixel.size() * 2);
    order.resize(pixel.size());
    start.assign(size_t(in.batch * q.image + 1), 0);
    torch::stable::parallel_for(0, in.batch * q.queries, 2048, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t k = 0; k < K; ++k) {
          const Near<S> y = nearest(q.coord[2 * i], q.y, int(k >> 1));
          const Near<S> x = nearest(q.coord[2 * i + 1], q.x, int(k & 1));
          pixel[size_t(i * K + k)] = y.index * q.x.extent + x.index;
          rel[size_t(2 * (i * K + k))] = y.rel;
          rel[size_t(2 * (i * K + k) + 1)] = x.rel;
        }
      }
    });
    // A counting sort for each image: every image's rows occupy the same positions before and after.
    torch::stable::parallel_for(0, in.batch, 1, [&](int64_t begin, int64_t end) {
      std::vector<int64_t> next(static_cast<size_t>(q.image));
      for (int64_t b = begin; b < end; ++b) {
        std::fill(next.begin(), next.end(), 0);
        const int64_t first = b * per_image, last = first + per_image;
        for (int64_t r = first; r < last; ++r) ++next[size_t(pixel[size_t(r)])];
        int64_t position = first;
        for (int64_t p = 0; p < q.image; ++p) {
          start[size_t(b * q.image + p)] = position;
          position += std::exchange(next[size_t(p)], position);
        }
        for (int64_t r = first; r < last; ++r) order[size_t(next[size_t(pixel[size_t(r)])]++)] = r;
      }
    });
    start.back() = int64_t(order.size());
  }
};

constexpr int64_t kRows = 256;  // sorted rows of one task; sums do not depend on the number of threads

// Tasks sum kRows sorted rows each. A pixel whose rows lie in one task is finished there; of a pixel that continues,
// the task keeps a partial sum, and a second pass adds those in order.
template <class S>
class Backward {
 public:
  Backward(const Inputs<S>& in, const Tensor& grad_h, const Tensor& h, Tensor& grad_hidden)
      : in_(in), q_(in.queries), sorted_(in), rows_(int64_t(sorted_.order.size())), tasks_((rows_ + kRows - 1) / kRows),
        type_(hidden_type(h, "h")), element_(int64_t(h.element_size())), grad_h_(grad_h.const_data_ptr()),
        h_(h.const_data_ptr()), grad_hidden_(static_cast<char*>(grad_hidden.mutable_data_ptr())),
        partial_(tasks_ * 2 * q_.width), grad_w_pos_(tasks_ * 4 * q_.width) {
    parallel_tasks(tasks_, [&](int64_t t) { sum(t); });
    parallel_tasks(tasks_, [&](int64_t t) { join(t); });
  }

  void grad_w_pos(S* out) {
    std::vector<double> total(size_t(4 * q_.width), 0.0);
    for (int64_t t = 0; t < tasks_; ++t) {
      for (size_t i = 0; i < total.size(); ++i) total[i] += grad_w_pos_[t * 4 * q_.width + int64_t(i)];
    }
    for (int64_t i = 0; i < q_.d; ++i) {
      for (int64_t c = 0; c < 4; ++c) out[4 * i + c] = S(total[size_t(c * q_.width + i)]);
    }
  }

 private:
  int64_t end_of(int64_t task) const { return std::min(rows_, (task + 1) * kRows); }

  int64_t pixel_at(int64_t position) const {
    const int64_t row = sorted_.order[size_t(position)], per_image = q_.queries * (q_.ensemble ? 4 : 1);
    return row / per_image * q_.image + sorted_.pixel[size_t(row)];
  }

  void finish(int64_t pixel, const S* sum) {
    kernel<S>().round[type_](sum, q_.d, grad_hidden_ + pixel * q_.d * element_);
  }

  void sum(int64_t task) {
    const int64_t begin = task * kRows, end = end_of(task), K = q_.ensemble ? 4 : 1;
    SortedRow<S> rows[kRows];
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = sorted_.order[size_t(i)], query = row / K;
      rows[i - begin] = {row, {sorted_.rel[size_t(2 * row)], sorted_.rel[size_t(2 * row + 1)], 0, 0}};
      if (q_.cell) {
        rows[i - begin].pos[2] = q_.cell[2 * query] * q_.y.n;
        rows[i - begin].pos[3] = q_.cell[2 * query + 1] * q_.x.n;
      }
    }
    Buffer<S> sum(q_.width);
    for (int64_t at = begin; at < end;) {
      const int64_t pixel = pixel_at(at), first = sorted_.start[size_t(pixel)], last = sorted_.start[size_t(pixel + 1)];
      const bool whole = first >= begin && last <= end;
      S* to = whole ? sum.data() : &partial_[(2 * task + (first < begin ? 0 : 1)) * q_.width];
      if (whole) __builtin_memset(to, 0, size_t(q_.width) * sizeof(S));
      const int64_t stop = std::min(last, end);
      kernel<S>().backward[type_](grad_h_, h_, q_.d, q_.width, rows + (at - begin), stop - at, to,
                                  &grad_w_pos_[task * 4 * q_.width]);
      if (whole) finish(pixel, to);
      at = stop;
    }
  }

  // The pixel that begins in this task and continues, if there is one.
  void join(int64_t task) {
    const int64_t pixel = pixel_at(end_of(task) - 1), last = sorted_.start[size_t(pixel + 1)];
    if (last <= end_of(task) || sorted_.start[size_t(pixel)] < task * kRows) return;
    S* total = &partial_[(2 * task + 1) * q_.width];
    for (int64_t next = task + 1; next * kRows < last; ++next) {
      for (int64_t i = 0; i < q_.width; ++i) total[i] += partial_[2 * next * q_.width + i];
    }
    finish(pixel, total);
  }

  const Inputs<S>& in_;
  const Queries<S>& q_;
  Sorted<S> sorted_;
  int64_t rows_, tasks_;
  HiddenType type_;
  int64_t element_;
  const void *grad_h_, *h_;
  char* grad_hidden_;
  Buffer<S> partial_;     // [tasks, 2, width]: of the pixel that began before, of the one that continues behind
  Buffer<S> grad_w_pos_;  // [tasks, 4, width]
};

template <class S>
std::tuple<Tensor, Tensor> backward(const Tensor& grad_h, const Tensor& h, const Tensor& coord,
                                    const std::optional<Tensor>& cell, const Tensor& w_pos, const Pair& hidden_size,
                                    const Pair& size, const Pair& origin, bool ensemble) {
  const Inputs<S> in(nullptr, hidden_size, h.size(3), coord, cell, w_pos, size, origin, ensemble);
  check(h.size(0) == in.batch && h.size(1) == in.queries.queries && h.size(2) == (ensemble ? 4 : 1),
        "h: shape [B, Q, K, D] of ", shape(coord), " is wanted, got ", shape(h));
  Tensor grad_hidden = torch::stable::new_zeros(h, {in.batch, hidden_size[0], hidden_size[1], in.queries.d});
  Tensor grad_w_pos = torch::stable::new_zeros(w_pos, {in.queries.d, 4}, kScalar<S>);
  if (in.batch * in.queries.queries > 0) {
    const Tensor g = as(grad_h, h.scalar_type()), post = torch::stable::contiguous(h);
    Backward<S>(in, g, post, grad_hidden).grad_w_pos(static_cast<S*>(grad_w_pos.mutable_data_ptr()));
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
  check(h.dim() == 4, "h: shape [B, Q, K, D] is wanted, got ", shape(h));
  check(shape(grad_h) == shape(h), "grad_h: the shape of h, ", shape(h), ", is wanted, got ", shape(grad_h));
  const auto run = h.scalar_type() == ScalarType::Double ? backward<double> : backward<float>;
  return run(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble);
}

}  // namespace liif
