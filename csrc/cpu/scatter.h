// The gather backwards: rows sorted by pixel, sums in an order that does not depend on the number of threads.
#pragma once
#include <limits>
#include <utility>

#include "queries.h"

namespace liif {

template <class S>
const GatherKernel<S>& gather_kernel_of() {
  if constexpr (sizeof(S) == 8) return gather_double;
  else return gather_kernel();
}

// Rows [B * Q * K] of the gathered map, sorted by the pixel that they came from.
template <class S>
struct Sorted {
  std::vector<int32_t> pixel;  // of each row, in its image
  std::vector<S> rel;          // of each row: y, x; empty without w_pos
  std::vector<int64_t> order;  // sorted rows; rows of one pixel stay in their order
  std::vector<int64_t> start;  // [B * h * w + 1]: where each pixel's rows begin in `order`

  explicit Sorted(const Inputs<S>& in) {
    const Queries<S>& q = in.queries;
    const int64_t K = q.ensemble ? 4 : 1, per_image = q.queries * K;
    check(q.image <= std::numeric_limits<int32_t>::max(), "hidden: gradients of more than 2^31 - 1 pixels an image (",
          q.y.extent, " x ", q.x.extent, ") are not supported");
    pixel.resize(size_t(in.batch * per_image));
    rel.resize(q.w_pos ? pixel.size() * 2 : 0);
    order.resize(pixel.size());
    start.assign(size_t(in.batch * q.image + 1), 0);
    torch::stable::parallel_for(0, in.batch * q.queries, 2048, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t k = 0; k < K; ++k) {
          const Near<S> y = nearest(q.coord[2 * i], q.y, int(k >> 1));
          const Near<S> x = nearest(q.coord[2 * i + 1], q.x, int(k & 1));
          pixel[size_t(i * K + k)] = y.index * q.x.extent + x.index;
          if (!q.w_pos) continue;
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

constexpr int64_t kScatterRows = 256;  // sorted rows of one task; sums do not depend on the number of threads

// Gradients of gathered rows summed into the pixels that they came from, and the gradient of w_pos, where there is one
// (of waves: of w_phase).
// Tasks sum kScatterRows sorted rows each. A pixel whose rows lie in one task is finished there; of one that continues,
// the task keeps a partial sum, and a second pass adds those in order.
template <class S>
class Scatter {
 public:
  // h: what the first layer gave, whose zeros stop the gradient; null when grad_h has those zeros itself, or there was
  // no first layer.
  Scatter(const Inputs<S>& in, const Tensor& grad_h, const Tensor* h, Tensor& grad_hidden)
      : in_(in), q_(in.queries), sorted_(in), rows_(int64_t(sorted_.order.size())),
        tasks_((rows_ + kScatterRows - 1) / kScatterRows), type_(hidden_type(grad_h, "grad_h")),
        element_(int64_t(grad_h.element_size())), grad_h_(grad_h.const_data_ptr()),
        h_(h ? h->const_data_ptr() : nullptr), grad_hidden_(static_cast<char*>(grad_hidden.mutable_data_ptr())),
        length_(padded(q_.stride)), partial_(tasks_ * 2 * length_), grad_w_pos_(q_.w_pos ? tasks_ * 4 * q_.width : 0) {
    parallel_tasks(tasks_, [&](int64_t t) { sum(t); });
    parallel_tasks(tasks_, [&](int64_t t) { join(t); });
  }

  // w_pos [D, 4], or w_phase [D / 2, 2].
  void grad_w_pos(S* out) {
    const int64_t columns = q_.waves ? 2 : 4, count = q_.waves ? q_.d / 2 : q_.d;
    std::vector<double> total(size_t(4 * q_.width), 0.0);
    for (int64_t t = 0; t < tasks_; ++t) {
      for (size_t i = 0; i < total.size(); ++i) total[i] += grad_w_pos_[t * 4 * q_.width + int64_t(i)];
    }
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t c = 0; c < columns; ++c) out[columns * i + c] = S(total[size_t(c * q_.width + i)]);
    }
  }

 private:
  int64_t end_of(int64_t task) const { return std::min(rows_, (task + 1) * kScatterRows); }

  int64_t pixel_at(int64_t position) const {
    const int64_t row = sorted_.order[size_t(position)], per_image = q_.queries * (q_.ensemble ? 4 : 1);
    return row / per_image * q_.image + sorted_.pixel[size_t(row)];
  }

  void finish(int64_t pixel, const S* sum) {
    gather_kernel_of<S>().round[type_](sum, q_.stride, grad_hidden_ + pixel * q_.stride * element_);
  }

  void sum(int64_t task) {
    const int64_t begin = task * kScatterRows, end = end_of(task), K = q_.ensemble ? 4 : 1;
    SortedRow<S> rows[kScatterRows];
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = sorted_.order[size_t(i)], query = row / K;
      rows[i - begin] = {row, {}};
      if (q_.w_pos) {
        rows[i - begin].pos[0] = sorted_.rel[size_t(2 * row)];
        rows[i - begin].pos[1] = sorted_.rel[size_t(2 * row + 1)];
      }
      if (q_.cell) {
        rows[i - begin].pos[2] = q_.cell[2 * query] * q_.y.n;
        rows[i - begin].pos[3] = q_.cell[2 * query + 1] * q_.x.n;
      }
    }
    Buffer<S> sum(length_);
    for (int64_t at = begin; at < end;) {
      const int64_t pixel = pixel_at(at), first = sorted_.start[size_t(pixel)], last = sorted_.start[size_t(pixel + 1)];
      const bool whole = first >= begin && last <= end;
      S* to = whole ? sum.data() : &partial_[(2 * task + (first < begin ? 0 : 1)) * length_];
      if (whole) __builtin_memset(to, 0, size_t(length_) * sizeof(S));
      const int64_t stop = std::min(last, end);
      const GatherKernel<S>& kernel = gather_kernel_of<S>();
      S* of_w_pos = q_.w_pos ? &grad_w_pos_[task * 4 * q_.width] : nullptr;
      if (q_.waves) kernel.waves[type_](q_, grad_h_, pixel, rows + (at - begin), stop - at, to, of_w_pos);
      else kernel.backward[type_](grad_h_, h_, q_.d, q_.width, rows + (at - begin), stop - at, to, of_w_pos);
      if (whole) finish(pixel, to);
      at = stop;
    }
  }

  // The pixel that begins in this task and continues, if there is one.
  void join(int64_t task) {
    const int64_t pixel = pixel_at(end_of(task) - 1), last = sorted_.start[size_t(pixel + 1)];
    if (last <= end_of(task) || sorted_.start[size_t(pixel)] < task * kScatterRows) return;
    S* total = &partial_[(2 * task + 1) * length_];
    for (int64_t next = task + 1; next * kScatterRows < last; ++next) {
      for (int64_t i = 0; i < length_; ++i) total[i] += partial_[2 * next * length_ + i];
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
  int64_t length_;        // of a pixel's sums
  Buffer<S> partial_;     // [tasks, 2, length_]: of the pixel that began before, of the one that continues behind
  Buffer<S> grad_w_pos_;  // [tasks, 4, width]; empty without w_pos
};

}  // namespace liif
