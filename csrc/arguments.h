// Checks of the operators' arguments, the same on every device.
#pragma once
#include "common.h"
#include "types.h"

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

// coord or cell, contiguous.
template <class S>
Tensor as_geometry(const char* name, const Tensor& t) {
  check(t.dim() == 3 && t.size(2) == 2, name, ": shape [B, Q, 2] is wanted, got ", shape(t));
  check(t.scalar_type() == kScalar<S>, name, sizeof(S) == 8 ? ": float64 is wanted with float64 features"
                                                            : ": float32 is wanted, whatever the features are");
  return torch::stable::contiguous(t);
}

inline void check_hidden(const Tensor& hidden, const Tensor& coord) {
  check(hidden.dim() == 4, "hidden: shape [B, h, w, D] is wanted, got ", shape(hidden));
  check(coord.dim() == 3 && coord.size(0) == hidden.size(0), "coord: shape [B, Q, 2] with B = ", hidden.size(0),
        " is wanted, got ", shape(coord));
}

inline void check_gradient(const Tensor& grad_h, const Tensor& h) {
  check(h.dim() == 4, "h: shape [B, Q, K, D] is wanted, got ", shape(h));
  check(shape(grad_h) == shape(h), "grad_h: the shape of h, ", shape(h), ", is wanted, got ", shape(grad_h));
}

// What must hold between them.
inline void check_queries(const Pair& hidden_size, int64_t d, const Tensor& coord, const std::optional<Tensor>& cell,
                          const std::optional<Tensor>& w_pos, const Pair& size, const Pair& origin) {
  if (cell) {
    check(cell->size(0) == coord.size(0) && cell->size(1) == coord.size(1), "cell: the shape of coord, ",
          shape(coord), ", is wanted, got ", shape(*cell));
  }
  if (w_pos) {
    check(w_pos->dim() == 2 && w_pos->size(0) == d && w_pos->size(1) == 4, "w_pos: shape [", d, ", 4] is wanted, got ",
          shape(*w_pos));
  }
  check(hidden_size.size() == 2 && size.size() == 2 && origin.size() == 2,
        "hidden_size, size and origin: two numbers each are wanted");
  const int64_t limit = int64_t(1) << 24;  // pixel numbers are exact in float32
  for (int i = 0; i < 2; ++i) {
    check(hidden_size[i] > 0, "hidden: an empty map (", hidden_size[0], " x ", hidden_size[1], ")");
    check(size[i] > 0 && size[i] <= limit && origin[i] >= 0 && origin[i] <= size[i] - hidden_size[i],
          "size, origin: hidden (", hidden_size[0], " x ", hidden_size[1], ") at (", origin[0], ", ", origin[1],
          ") must lie in a map of size (", size[0], ", ", size[1], ")");
  }
}

// h, or the gradient of rows, belongs to these queries.
inline void check_rows(const char* name, const Tensor& h, const Tensor& coord, bool ensemble) {
  check(h.dim() == 4 && h.size(0) == coord.size(0) && h.size(1) == coord.size(1) && h.size(2) == (ensemble ? 4 : 1),
        name, ": shape [B, Q, K, D] with K = ", ensemble ? 4 : 1, " for coord ", shape(coord), " is wanted, got ",
        shape(h));
}

}  // namespace liif
