// From tensors to the plain structs of kernels.h.
#pragma once
#include "../arguments.h"
#include "kernels.h"

namespace liif {

inline int64_t padded(int64_t d) { return (d + 63) / 64 * 64; }

// [rows, D] -> [rows, width], zeros behind.
template <class S>
void pad_rows(const Tensor& t, int64_t rows, int64_t d, Buffer<S>& out) {
  const Tensor numbers = as(t, kScalar<S>);
  const S* p = static_cast<const S*>(numbers.const_data_ptr());
  out.resize(rows * padded(d));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < d; ++i) out[r * padded(d) + i] = p[r * d + i];
  }
}

// Queries and the tensors behind them.
template <class S>
struct Inputs {
  Tensor hidden, coord;
  std::optional<Tensor> cell;
  Buffer<S> w_pos;
  Queries<S> queries;
  int64_t batch;
  mutable int32_t outside = 0;

  // hidden: undefined in the backward pass, which needs only its size.
  Inputs(const Tensor* hidden_map, const Pair& hidden_size, int64_t d, const Tensor& coord_,
         const std::optional<Tensor>& cell_, const std::optional<Tensor>& w_pos_, const Pair& size, const Pair& origin,
         bool ensemble)
      : coord(as_geometry<S>("coord", coord_)) {
    if (hidden_map) hidden = torch::stable::contiguous(*hidden_map);
    if (cell_) cell = as_geometry<S>("cell", *cell_);
    check_queries(hidden_size, d, coord, cell, w_pos_, size, origin);
    batch = coord.size(0);
    if (w_pos_) {
      const Tensor w = as(*w_pos_, kScalar<S>);
      const S* p = static_cast<const S*>(w.const_data_ptr());
      w_pos.resize(4 * padded(d));
      for (int64_t i = 0; i < d; ++i) {
        for (int c = 0; c < 4; ++c) w_pos[c * padded(d) + i] = p[4 * i + c];
      }
    }
    queries.y = make_axis<S>(size[0], origin[0], hidden_size[0], ensemble);
    queries.x = make_axis<S>(size[1], origin[1], hidden_size[1], ensemble);
    queries.ensemble = ensemble;
    queries.waves = false;
    queries.hidden = hidden_map ? hidden.const_data_ptr() : nullptr;
    queries.coord = static_cast<const S*>(coord.const_data_ptr());
    queries.cell = cell ? static_cast<const S*>(cell->const_data_ptr()) : nullptr;
    queries.w_pos = w_pos_ ? w_pos.data() : nullptr;
    queries.queries = coord.size(1);
    queries.image = hidden_size[0] * hidden_size[1];
    queries.d = queries.stride = d;
    queries.width = padded(d);
    queries.outside = &outside;
  }

  // The first layer is that of waves.h: hidden has 2 D channels, w_phase [D / 2, 2].
  void waves(const Tensor& w_phase) {
    const int64_t frequencies = queries.stride / 4;
    check(queries.stride % 128 == 0 && w_phase.dim() == 2 && w_phase.size(0) == frequencies && w_phase.size(1) == 2,
          "hidden [B, h, w, 4 F] and w_phase [F, 2] with F a multiple of 32 are wanted, got ", queries.stride,
          " channels and w_phase ", shape(w_phase));
    queries.waves = true;
    queries.d = 2 * frequencies;
    queries.width = padded(queries.d);
    const Tensor w = as(w_phase, kScalar<S>);
    const S* p = static_cast<const S*>(w.const_data_ptr());
    w_pos.resize(2 * queries.width);
    for (int64_t i = 0; i < frequencies; ++i) {
      for (int c = 0; c < 2; ++c) w_pos[c * queries.width + i] = p[2 * i + c];
    }
    queries.w_pos = w_pos.data();
  }

  void check_inside() const {
    check(!outside, "coord: a query needs a pixel that hidden does not hold: it starts at (", queries.y.origin, ", ",
          queries.x.origin, ") and has ", queries.y.extent, " x ", queries.x.extent, " pixels");
  }
};

template <class S>
Inputs<S> inputs(const Tensor& hidden, const Tensor& coord, const std::optional<Tensor>& cell,
                 const std::optional<Tensor>& w_pos, const Pair& size, const Pair& origin, bool ensemble) {
  check_hidden(hidden, coord);
  return Inputs<S>(&hidden, {hidden.size(1), hidden.size(2)}, hidden.size(3), coord, cell, w_pos, size, origin,
                   ensemble);
}

}  // namespace liif
