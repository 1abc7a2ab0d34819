// corner_gather, gather_corners and their gradients on CUDA: checks, memory, the current stream. The kernels are in
// corner_gather.cu.
// Nothing here waits for the device and all memory is torch's, so that the operators can be captured in a CUDA graph.
#include "../arguments.h"
#include "gather.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

// Weak: a CPU build of torch has no such function, and this library loads there too.
extern "C" __attribute__((weak, visibility("default"))) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace liif {
namespace {

void succeed(const char* error) { check(!error, "CUDA: ", error ? error : ""); }

// The queries of one call on one device, which is current while this lives.
template <class S>
struct Call {
  torch::stable::accelerator::DeviceGuard guard;
  Tensor coord;
  std::optional<Tensor> cell, w_pos;
  cuda::Gather<S> gather;
  void* stream = nullptr;

  Call(const Tensor& rows, const Pair& hidden_size, int64_t d, const Tensor& coord_, const std::optional<Tensor>& cell_,
       const std::optional<Tensor>& w_pos_, const Pair& size, const Pair& origin, bool ensemble)
      : guard(rows.get_device_index()), coord(as_geometry<S>("coord", coord_)) {
    if (w_pos_) w_pos = as(*w_pos_, kScalar<S>);
    if (cell_) cell = as_geometry<S>("cell", *cell_);
    check_queries(hidden_size, d, coord, cell, w_pos, size, origin);
    same_device("coord", coord, rows);
    if (w_pos) same_device("w_pos", *w_pos, rows);
    if (cell) same_device("cell", *cell, rows);
    gather.y = make_axis<S>(size[0], origin[0], hidden_size[0], ensemble);
    gather.x = make_axis<S>(size[1], origin[1], hidden_size[1], ensemble);
    gather.coord = static_cast<const S*>(coord.const_data_ptr());
    gather.cell = cell ? static_cast<const S*>(cell->const_data_ptr()) : nullptr;
    gather.w_pos = w_pos ? static_cast<const S*>(w_pos->const_data_ptr()) : nullptr;
    gather.count = coord.size(0) * coord.size(1);
    gather.queries = coord.size(1);
    gather.image = hidden_size[0] * hidden_size[1];
    gather.d = d;
    gather.ensemble = ensemble;
    gather.first_layer = w_pos.has_value();
  }

  static void same_device(const char* name, const Tensor& t, const Tensor& rows) {
    check(t.is_cuda() && t.get_device_index() == rows.get_device_index(), name, ": the device of the features, cuda:",
          rows.get_device_index(), ", is wanted");
  }

  // Before the first launch.
  void begin() {
    const int32_t device = coord.get_device_index();
    check(aoti_torch_get_current_cuda_stream && !aoti_torch_get_current_cuda_stream(device, &stream),
          "torch has no current CUDA stream: is this a CUDA build of torch?");
    succeed(cuda::use_device(device));
  }
};

void check_numbers(const char* name, const Tensor& t, int64_t count, const Tensor& h) {
  check(t.scalar_type() == ScalarType::Long && t.numel() == count && t.is_contiguous(), name, ": contiguous int64 [",
        count, "] is wanted");
  check(t.is_cuda() && t.get_device_index() == h.get_device_index(), name, ": the device of the features is wanted");
}

bool is_double(const Tensor& t) { return t.scalar_type() == ScalarType::Double; }

struct Gathered {
  Tensor rows;                // [B, Q, K, D]
  std::optional<Tensor> rel;  // [B, Q, K, 2], where rows are as they are
  Tensor weight;              // [B, Q, K]
};

// w_pos: of the first layer; none: rows as they are.
template <class S>
Gathered forward(const Tensor& hidden_, const Tensor& coord, const std::optional<Tensor>& cell,
                 const std::optional<Tensor>& w_pos, const Pair& size, const Pair& origin, bool ensemble) {
  check_hidden(hidden_, coord);
  const HiddenType type = hidden_type(hidden_, "hidden");
  const int64_t d = hidden_.size(3), K = ensemble ? 4 : 1;
  Call<S> call(hidden_, {hidden_.size(1), hidden_.size(2)}, d, coord, cell, w_pos, size, origin, ensemble);
  const Tensor hidden = torch::stable::contiguous(hidden_);
  Gathered out{torch::stable::new_empty(hidden, {coord.size(0), coord.size(1), K, d}), std::nullopt,
               torch::stable::new_empty(call.coord, {coord.size(0), coord.size(1), K})};
  if (!w_pos) out.rel = torch::stable::new_empty(call.coord, {coord.size(0), coord.size(1), K, 2});
  if (call.gather.count > 0) {
    call.begin();
    succeed(cuda::gather_forward(call.gather, type, hidden.const_data_ptr(), out.rows.mutable_data_ptr(),
                                 out.rel ? static_cast<S*>(out.rel->mutable_data_ptr()) : nullptr,
                                 static_cast<S*>(out.weight.mutable_data_ptr()), call.stream));
  }
  return out;
}

// Gradients of hidden and, where there is one, of w_pos. h: what the first layer gave, with w_pos; else null. like: h,
// or the gradient of rows. after, first: lists of rows as head/row_lists.py makes them, see gather_backward; without
// them they are made here.
template <class S>
std::tuple<Tensor, std::optional<Tensor>> backward(const char* name, const Tensor& like, const Tensor& grad,
                                                   const Tensor* h_, const Tensor& coord,
                                                   const std::optional<Tensor>& cell,
                                                   const std::optional<Tensor>& w_pos,
                                                   const std::optional<Tensor>& after,
                                                   const std::optional<Tensor>& first, const Pair& hidden_size,
                                                   const Pair& size, const Pair& origin, bool ensemble) {
  const HiddenType type = hidden_type(like, name);
  const int64_t B = like.size(0), d = like.size(3), K = ensemble ? 4 : 1;
  Call<S> call(like, hidden_size, d, coord, cell, w_pos, size, origin, ensemble);
  check_rows(name, like, call.coord, ensemble);
  Call<S>::same_device("grad_h", grad, like);
  std::optional<Tensor> h;
  if (h_) h = torch::stable::contiguous(*h_);
  const Tensor grad_h = as(grad, like.scalar_type());
  const int64_t pixels = B * call.gather.image, rows = call.gather.count * K;
  const std::vector<int64_t> map{B, hidden_size[0], hidden_size[1], d};
  if (call.gather.count == 0 || d == 0) {
    std::optional<Tensor> none;
    if (w_pos) none = torch::stable::new_zeros(*w_pos, {d, 4});
    return {torch::stable::new_zeros(grad_h, map), none};
  }
  check(after.has_value() == first.has_value(), "after, first: both or none are wanted");
  if (after) {
    check_numbers("after", *after, rows, grad_h);
    const int64_t least = pixels * cuda::lists_of(ensemble);
    check(first->numel() >= least && first->numel() % least == 0, "first: as many segments for each of ", pixels,
          " pixels are wanted, not ", first->numel(), " lists");
    check_numbers("first", *first, first->numel(), grad_h);
  }
  const int64_t segments =
      first ? first->numel() / (pixels * cuda::lists_of(ensemble)) : cuda::segments_of(pixels, rows);
  const int64_t lists = pixels * segments * cuda::lists_of(ensemble);
  call.begin();
  Tensor head = first ? *first : torch::stable::new_zeros(grad_h, {lists}, ScalarType::Long);
  Tensor link = torch::stable::new_empty(grad_h, {rows, int64_t(sizeof(cuda::Link<S>) / 8)}, ScalarType::Long);
  Tensor sums = torch::stable::new_empty(call.coord, {segments > 1 ? pixels * segments : 0, d});
  Tensor grad_hidden = torch::stable::new_empty(grad_h, map);
  Tensor partial = torch::stable::new_empty(call.coord, {w_pos ? cuda::kMostBlocks : 0, 4, d});
  Tensor grad_w_pos = torch::stable::new_empty(call.coord, {w_pos ? d : 0, 4});
  const cuda::Lists<S> all{pixels, segments, static_cast<int64_t*>(head.mutable_data_ptr()),
                           static_cast<cuda::Link<S>*>(link.mutable_data_ptr()),
                           segments > 1 ? static_cast<S*>(sums.mutable_data_ptr()) : nullptr};
  succeed(cuda::gather_backward(call.gather, type, grad_h.const_data_ptr(), h ? h->const_data_ptr() : nullptr,
                                after ? static_cast<const int64_t*>(after->const_data_ptr()) : nullptr, all,
                                grad_hidden.mutable_data_ptr(), static_cast<S*>(partial.mutable_data_ptr()),
                                static_cast<S*>(grad_w_pos.mutable_data_ptr()), call.stream));
  if (!w_pos) return {grad_hidden, std::nullopt};
  return {grad_hidden, as(grad_w_pos, w_pos->scalar_type())};
}

std::tuple<Tensor, Tensor> corner_gather_cuda(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos,
                                              Pair size, Pair origin, bool ensemble) {
  check(hidden.is_cuda(), "hidden: the device of the other tensors, CUDA, is wanted");
  const auto run = is_double(hidden) ? forward<double> : forward<float>;
  const Gathered out = run(hidden, coord, cell, w_pos, size, origin, ensemble);
  return {out.rows, out.weight};
}

std::tuple<Tensor, Tensor, Tensor> gather_corners_cuda(Tensor hidden, Tensor coord, Pair size, Pair origin,
                                                       bool ensemble) {
  check(hidden.is_cuda(), "hidden: the device of the other tensors, CUDA, is wanted");
  const auto run = is_double(hidden) ? forward<double> : forward<float>;
  const Gathered out = run(hidden, coord, std::nullopt, std::nullopt, size, origin, ensemble);
  return {out.rows, *out.rel, out.weight};
}

std::tuple<Tensor, Tensor> corner_gather_backward_cuda(Tensor grad_h, Tensor h, Tensor coord,
                                                       std::optional<Tensor> cell, Tensor w_pos,
                                                       std::optional<Tensor> after, std::optional<Tensor> first,
                                                       Pair hidden_size, Pair size, Pair origin, bool ensemble) {
  check(h.is_cuda(), "h: the device of the other tensors, CUDA, is wanted");
  check_gradient(grad_h, h);
  const auto run = is_double(h) ? backward<double> : backward<float>;
  const auto [grad_hidden, grad_w_pos] =
      run("h", h, grad_h, &h, coord, cell, w_pos, after, first, hidden_size, size, origin, ensemble);
  return {grad_hidden, *grad_w_pos};
}

Tensor gather_corners_backward_cuda(Tensor grad_rows, Tensor coord, std::optional<Tensor> after,
                                    std::optional<Tensor> first, Pair hidden_size, Pair size, Pair origin,
                                    bool ensemble) {
  check(grad_rows.is_cuda(), "grad_rows: the device of the other tensors, CUDA, is wanted");
  check(grad_rows.dim() == 4, "grad_rows: shape [B, Q, K, D] is wanted, got ", shape(grad_rows));
  const auto run = is_double(grad_rows) ? backward<double> : backward<float>;
  return std::get<0>(run("grad_rows", grad_rows, grad_rows, nullptr, coord, std::nullopt, std::nullopt, after, first,
                         hidden_size, size, origin, ensemble));
}

}  // namespace
}  // namespace liif

// The gradients have names of their own: whether their sums must be deterministic is known in Python alone, where
// liif_fast/head/ops.py registers corner_gather_backward and gather_corners_backward for CUDA by calling these with or
// without lists.
STABLE_TORCH_LIBRARY_FRAGMENT(liif_fast, m) {
  m.def(
      "corner_gather_backward_cuda(Tensor grad_h, Tensor h, Tensor coord, Tensor? cell, Tensor w_pos, Tensor? after, "
      "Tensor? first, SymInt[2] hidden_size, SymInt[2] size, SymInt[2] origin, bool ensemble) -> (Tensor grad_hidden, "
      "Tensor grad_w_pos)");
  m.def(
      "gather_corners_backward_cuda(Tensor grad_rows, Tensor coord, Tensor? after, Tensor? first, SymInt[2] "
      "hidden_size, SymInt[2] size, SymInt[2] origin, bool ensemble) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(liif_fast, CUDA, m) {
  m.impl("corner_gather", TORCH_BOX(&liif::corner_gather_cuda));
  m.impl("corner_gather_backward_cuda", TORCH_BOX(&liif::corner_gather_backward_cuda));
  m.impl("gather_corners", TORCH_BOX(&liif::gather_corners_cuda));
  m.impl("gather_corners_backward_cuda", TORCH_BOX(&liif::gather_corners_backward_cuda));
}
