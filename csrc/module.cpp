// Registration. Schemas, fakes and gradients live in liif_fast/head/ops.py; this library adds kernels for dispatch keys.
#include "common.h"

STABLE_TORCH_LIBRARY_IMPL(liif_fast, CPU, m) {
  m.impl("corner_gather", TORCH_BOX(&liif::corner_gather_cpu));
  m.impl("corner_gather_backward", TORCH_BOX(&liif::corner_gather_backward_cpu));
  m.impl("gather_corners", TORCH_BOX(&liif::gather_corners_cpu));
  m.impl("gather_corners_backward", TORCH_BOX(&liif::gather_corners_backward_cpu));
  m.impl("render", TORCH_BOX(&liif::render_cpu));
  m.impl("render_fourier", TORCH_BOX(&liif::render_fourier_cpu));
  m.impl("decode", TORCH_BOX(&liif::decode_cpu));
  m.impl("decode_backward", TORCH_BOX(&liif::decode_backward_cpu));
  m.impl("decode_fourier", TORCH_BOX(&liif::decode_fourier_cpu));
  m.impl("decode_fourier_backward", TORCH_BOX(&liif::decode_fourier_backward_cpu));
  m.impl("render_int8", TORCH_BOX(&liif::render_int8_cpu));
}

// Only this library has these two: which instruction sets the processor offers and which are in use, and a way to force
// one (for tests and measurements).
STABLE_TORCH_LIBRARY_FRAGMENT(liif_fast, m) {
  m.def("cpu_info() -> str");
  m.def("cpu_use(str path) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(liif_fast, CompositeExplicitAutograd, m) {
  m.impl("cpu_info", TORCH_BOX(&liif::cpu_info));
  m.impl("cpu_use", TORCH_BOX(&liif::cpu_use));
}
