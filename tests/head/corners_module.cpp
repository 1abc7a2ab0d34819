// Test only: csrc/corners.h, the very header that the CPU and CUDA kernels compile, as a Python module.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "../../csrc/corners.h"

namespace py = pybind11;

// coord [Q, 2] -> index [Q, K, 2] in the part of the map at hand, rel [Q, K, 2], weight [Q, K], inside [Q, K]
template <class T>
py::tuple corners(py::array_t<T, py::array::c_style> coord, int64_t h, int64_t w, bool ensemble, int64_t origin_y,
                  int64_t origin_x, int64_t part_h, int64_t part_w) {
  const auto y_axis = liif::make_axis<T>(h, origin_y, part_h, ensemble);
  const auto x_axis = liif::make_axis<T>(w, origin_x, part_w, ensemble);
  const py::ssize_t Q = coord.shape(0), K = ensemble ? 4 : 1;
  py::array_t<int64_t> index({Q, K, py::ssize_t(2)});
  py::array_t<T> rel({Q, K, py::ssize_t(2)}), weight({Q, K});
  py::array_t<bool> inside({Q, K});
  for (py::ssize_t q = 0; q < Q; ++q) {
    liif::Near<T> y[2], x[2];
    for (int side = 0; side < (ensemble ? 2 : 1); ++side) {
      y[side] = liif::nearest(coord.at(q, 0), y_axis, side);
      x[side] = liif::nearest(coord.at(q, 1), x_axis, side);
    }
    T w4[4] = {1};
    if (ensemble) {
      const T ry[2] = {y[0].rel, y[1].rel}, rx[2] = {x[0].rel, x[1].rel};
      liif::area_weights(ry, rx, w4);
    }
    for (py::ssize_t k = 0; k < K; ++k) {
      index.mutable_at(q, k, 0) = y[k >> 1].index;
      index.mutable_at(q, k, 1) = x[k & 1].index;
      rel.mutable_at(q, k, 0) = y[k >> 1].rel;
      rel.mutable_at(q, k, 1) = x[k & 1].rel;
      weight.mutable_at(q, k) = w4[k];
      inside.mutable_at(q, k) = y[k >> 1].inside && x[k & 1].inside;
    }
  }
  return py::make_tuple(index, rel, weight, inside);
}

PYBIND11_MODULE(corners_module, m) {
  m.def("corners_f32", &corners<float>);
  m.def("corners_f64", &corners<double>);
}
