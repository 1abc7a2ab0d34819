// From tensors to the plain structs of kernels.h.
#pragma once
#include "../common.h"
#include "kernels.h"

namespace liif {

inline HiddenType hidden_type(const Tensor& t, const char* name) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
    case ScalarType::Double: return kFloat;  // the tables for double have one entry
    case ScalarType::BFloat16: return kBf16;
    case ScalarType::Half: return kHalf;
    default: check(false, name, ": float32, bfloat16, float16 or float64 is wanted"); return kFloat;
  }
}

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
         const std::optional<Tensor>& cell_, const Tensor& w_pos_, const Pair& size, const Pair& origin, bool ensemble)
      : coord(as_geometry("coord", coord_)) {
    if (hidden_map) hidden = torch::stable::contiguous(*hidden_map);
    if (cell_) {
      cell = as_geometry("cell", *cell_);
      check(cell->size(0) == coord.size(0) && cell->size(1) == coord.size(1), "cell: the shape of coord, ",
            shape(coord), ", is wanted, got ", shape(*cell));
    }
    check(w_pos_.dim() == 2 && w_pos_.size(0) == d && w_pos_.size(1) == 4, "w_pos: shape [", d,
          ", 4] is wanted, got ", shape(w_pos_));
    check(size.size() == 2 && origin.size() == 2, "size and origin: two numbers each are wanted");
    const int64_t limit = int64_t(1) << 24;  // pixel numbers are exact in float32
    for (int i = 0; i < 2; ++i) {
      check(hidden_size[i] > 0, "hidden: an empty map (", hidden_size[0], " x ", hidden_size[1], ")");
      check(size[i] > 0 && size[i] <= limit && origin[i] >= 0 && origin[i] + hidden_size[i] <= size[i],
            "size, origin: hidden (", hidden_size[0], " x ", hidden_size[1], ") at (", origin[0], ", ", origin[1],
            ") must lie in a map of size (", size[0], ", ", size[1], ")");
    }
    batch = coord.size(0);
    const Tensor w = as(w_pos_, kScalar<S>);
    const S* p = static_cast<const S*>(w.const_data_ptr());
    w_pos.resize(4 * padded(d));
    for (int64_t i = 0; i < d; ++i) {
      for (int c = 0; c < 4; ++c) w_pos[c * padded(d) + i] = p[4 * i + c];
    }
    queries.y = make_axis<S>(size[0], origin[0], hidden_size[0], ensemble);
    queries.x = make_axis<S>(size[1], origin[1], hidden_size[1], ensemble);
    queries.ensemble = ensemble;
    queries.hidden = hidden_map ? hidden.const_data_ptr() : nullptr;
    queries.coord = static_cast<const S*>(coord.const_data_ptr());
    queries.cell = cell ? static_cast<const S*>(cell->const_data_ptr()) : nullptr;
    queries.w_pos = w_pos.data();
    queries.queries = coord.size(1);
    queries.image = hidden_size[0] * hidden_size[1];
    queries.d = d;
    queries.width = padded(d);
    queries.outside = &outside;
  }

  static Tensor as_geometry(const char* name, const Tensor& t) {
    check(t.dim() == 3 && t.size(2) == 2, name, ": shape [B, Q, 2] is wanted, got ", shape(t));
    check(t.scalar_type() == kScalar<S>, name, sizeof(S) == 8 ? ": float64 is wanted with float64 features"
                                                              : ": float32 is wanted, whatever the features are");
    return torch::stable::contiguous(t);
  }

  void check_inside() const {
    check(!outside, "coord: a query needs a pixel that hidden does not hold: it starts at (", queries.y.origin, ", ",
          queries.x.origin, ") and has ", queries.y.extent, " x ", queries.x.extent, " pixels");
  }
};

template <class S>
Inputs<S> inputs(const Tensor& hidden, const Tensor& coord, const std::optional<Tensor>& cell, const Tensor& w_pos,
                 const Pair& size, const Pair& origin, bool ensemble) {
  check(hidden.dim() == 4, "hidden: shape [B, h, w, D] is wanted, got ", shape(hidden));
  check(coord.dim() == 3 && coord.size(0) == hidden.size(0), "coord: shape [B, Q, 2] with B = ", hidden.size(0),
        " is wanted, got ", shape(coord));
  return Inputs<S>(&hidden, {hidden.size(1), hidden.size(2)}, hidden.size(3), coord, cell, w_pos, size, origin,
                   ensemble);
}

}  // namespace liif
