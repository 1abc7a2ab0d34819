// What the operators' torch-facing code shares: LibTorch's stable ABI, checks of arguments, buffers, threads.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

namespace liif {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Pair = std::vector<int64_t>;  // SymInt[2]

// A RuntimeError of one line: what came, what was wanted.
template <class... Args>
void check(bool good, const Args&... message) {
  if (good) return;
  std::ostringstream line;
  line << "liif_fast: ";
  (line << ... << message);
  throw std::runtime_error(line.str());
}

inline std::string shape(const Tensor& t) {
  std::ostringstream s;
  s << '[';
  for (int64_t i = 0; i < t.dim(); ++i) s << (i ? ", " : "") << t.size(i);
  s << ']';
  return s.str();
}

// The tensor as contiguous numbers of one type; the same tensor where it is that already.
inline Tensor as(const Tensor& t, ScalarType type) {
  return torch::stable::contiguous(t.scalar_type() == type ? t : torch::stable::to(t, type));
}

template <class S>
constexpr ScalarType kScalar = sizeof(S) == 8 ? ScalarType::Double : ScalarType::Float;

// Memory aligned to cache lines, zeroed.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) { resize(count); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { ::operator delete(data_, std::align_val_t(64)); }

  // Contents are lost when it grows.
  void resize(int64_t count) {
    if (count <= count_) return;
    ::operator delete(data_, std::align_val_t(64));
    data_ = nullptr, count_ = 0;
    data_ = static_cast<T*>(::operator new(size_t(count) * sizeof(T), std::align_val_t(64)));
    __builtin_memset(static_cast<void*>(data_), 0, size_t(count) * sizeof(T));
    count_ = count;
  }
  T* data() { return data_; }
  T& operator[](int64_t i) { return data_[i]; }

 private:
  T* data_ = nullptr;
  int64_t count_ = 0;
};

// f(i) for every i in [0, count), each on one thread; threads take the next one when they are done, so that one slow
// thread does not hold up the others. What f does must not depend on the thread.
template <class F>
void parallel_tasks(int64_t count, const F& f) {
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(count, torch::stable::get_num_threads());
  torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) f(i);
  });
}

// ---- operators, one file each ---------------------------------------------------------------------------------------

std::tuple<Tensor, Tensor> corner_gather_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos,
                                             Pair size, Pair origin, bool ensemble);
std::tuple<Tensor, Tensor> corner_gather_backward_cpu(Tensor grad_h, Tensor h, Tensor coord, std::optional<Tensor> cell,
                                                      Tensor w_pos, Pair hidden_size, Pair size, Pair origin,
                                                      bool ensemble);
std::tuple<Tensor, Tensor, Tensor> gather_corners_cpu(Tensor hidden, Tensor coord, Pair size, Pair origin,
                                                      bool ensemble);
Tensor gather_corners_backward_cpu(Tensor grad_rows, Tensor coord, Pair hidden_size, Pair size, Pair origin,
                                   bool ensemble);
Tensor render_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos, Tensor w_mlp, Tensor b_mlp,
                  Tensor w_out, Tensor b_out, Pair size, Pair origin, bool ensemble);
Tensor render_fourier_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_phase, Tensor w_mlp,
                          Tensor b_mlp, Tensor w_out, Tensor b_out, Pair size, Pair origin, bool ensemble);
Tensor decode_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos, Tensor w_mlp, Tensor b_mlp,
                  Tensor w_out, Tensor b_out, bool ensemble);
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> decode_backward_cpu(Tensor grad_out, Tensor hidden, Tensor coord,
                                                                       std::optional<Tensor> cell, Tensor w_pos,
                                                                       Tensor w_mlp, Tensor b_mlp, Tensor w_out,
                                                                       bool ensemble);
Tensor decode_fourier_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_phase, Tensor w_mlp,
                          Tensor b_mlp, Tensor w_out, Tensor b_out, bool ensemble);
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> decode_fourier_backward_cpu(
    Tensor grad_out, Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_phase, Tensor w_mlp,
    Tensor b_mlp, Tensor w_out, bool ensemble);
Tensor render_int8_cpu(Tensor hidden, Tensor coord, std::optional<Tensor> cell, Tensor w_pos, Tensor w_q,
                       Tensor w_scale, Tensor b_mlp, Tensor act_scale, Tensor w_out, Tensor b_out, Pair size,
                       Pair origin, bool ensemble);

std::string cpu_info();            // see cpu/paths.cpp
void cpu_use(std::string path);

}  // namespace liif
