// csrc/cuda's kernels on a CPU: as a library for test_cuda_on_cpu.py, and as a program for the sanitizers.
#include "cuda_on_cpu.h"

#include "../../csrc/cuda/gather_launch.h"

#include <algorithm>
#include <cstdio>

using namespace liif;

cuda::Words cuda::load_words_once(const void* p) { return *static_cast<const Words*>(p); }

template <class S>
cuda::Gather<S> gather(const void* coord, const void* cell, const void* w_pos, const int64_t* n) {
  // n: count, queries, d, ensemble, then hidden_size, size, origin, first_layer
  cuda::Gather<S> g;
  g.y = make_axis<S>(n[6], n[8], n[4], n[3]);
  g.x = make_axis<S>(n[7], n[9], n[5], n[3]);
  g.coord = static_cast<const S*>(coord);
  g.cell = static_cast<const S*>(cell);
  g.w_pos = static_cast<const S*>(w_pos);
  g.count = n[0], g.queries = n[1], g.d = n[2], g.ensemble = n[3];
  g.image = n[4] * n[5];
  g.first_layer = n[10];
  return g;
}

template <class S>
const char* forward_as(int type, const void* hidden, const void* coord, const void* cell, const void* w_pos,
                       const int64_t* n, void* h, void* rel, void* weight) {
  return cuda::gather_forward(gather<S>(coord, cell, w_pos, n), HiddenType(type), hidden, h, static_cast<S*>(rel),
                              static_cast<S*>(weight), nullptr);
}

// next, head: lists that are given, segments for each pixel, or null.
template <class S>
const char* backward_as(int type, const void* grad_h, const void* h, const void* coord, const void* cell,
                        const void* w_pos, const int64_t* n, int64_t segments, const int64_t* next,
                        const int64_t* head, void* grad_hidden, void* grad_w_pos) {
  const cuda::Gather<S> g = gather<S>(coord, cell, w_pos, n);
  const int64_t K = g.ensemble ? 4 : 1, pixels = g.count / g.queries * g.image;
  std::vector<S> partial(size_t(cuda::kMostBlocks * 4 * g.d));
  if (!head) segments = cuda::segments_of(pixels, g.count * K);
  std::vector<int64_t> heads(size_t(pixels * segments * cuda::lists_of(g.ensemble)));
  if (head) std::copy(head, head + heads.size(), heads.begin());
  std::vector<cuda::Link<S>> links(size_t(g.count * K));
  std::vector<S> sums(size_t(segments > 1 ? pixels * segments * g.d : 0));
  const cuda::Lists<S> all{pixels, segments, heads.data(), links.data(), segments > 1 ? sums.data() : nullptr};
  return cuda::gather_backward<S>(g, HiddenType(type), grad_h, h, next, all, grad_hidden, partial.data(),
                                  static_cast<S*>(grad_w_pos), nullptr);
}

extern "C" {

// type: HiddenType, or 3 for double. Without first_layer w_pos and grad_w_pos, h in backward, else rel may be null.
const char* forward(int type, const void* hidden, const void* coord, const void* cell, const void* w_pos,
                    const int64_t* n, void* h, void* rel, void* weight) {
  return (type == 3 ? forward_as<double> : forward_as<float>)(type, hidden, coord, cell, w_pos, n, h, rel, weight);
}

const char* backward(int type, const void* grad_h, const void* h, const void* coord, const void* cell,
                     const void* w_pos, const int64_t* n, int64_t segments, const int64_t* next,
                     const int64_t* head, void* grad_hidden, void* grad_w_pos) {
  return (type == 3 ? backward_as<double> : backward_as<float>)(type, grad_h, h, coord, cell, w_pos, n, segments, next,
                                                                head, grad_hidden, grad_w_pos);
}

}  // extern "C"

// Every kernel on exactly as much memory as it may touch: queries inside, outside and nowhere, two images, rows that are
// aligned to 16 bytes and rows that are not, more columns than a block has.
template <class S>
void exercise(int type, int64_t element, int64_t d, bool ensemble) {
  const int64_t B = 2, Q = 101, h = 3, w = 5, K = ensemble ? 4 : 1, rows = B * Q * K;
  const int64_t n[] = {B * Q, Q, d, ensemble, h, w, 4, 7, 1, 1, true};
  const int64_t plain[] = {B * Q, Q, d, ensemble, h, w, 4, 7, 1, 1, false};
  std::vector<S> coord(size_t(2 * B * Q)), cell(coord.size(), S(0.1)), w_pos(size_t(4 * d), S(0.5));
  for (size_t i = 0; i < coord.size(); ++i) coord[i] = S(double(i * 37 % 211) / 100 - 1);
  coord[0] = S(__builtin_nan("")), coord[5] = S(1e30), coord[9] = S(-1e30);
  const auto bytes = [&](int64_t count) { return std::vector<char>(size_t(count * element), 0x3c); };
  const std::vector<char> hidden = bytes(B * h * w * d), grad = bytes(rows * d);
  std::vector<char> out = bytes(rows * d), sums = bytes(B * h * w * d);
  std::vector<S> weight(static_cast<size_t>(rows)), grad_w_pos(size_t(4 * d));
  std::vector<S> rel(size_t(2 * rows));
  forward(type, hidden.data(), coord.data(), nullptr, nullptr, plain, out.data(), rel.data(), weight.data());
  backward(type, grad.data(), nullptr, coord.data(), nullptr, nullptr, plain, 0, nullptr, nullptr, sums.data(), nullptr);
  forward(type, hidden.data(), coord.data(), cell.data(), w_pos.data(), n, out.data(), nullptr, weight.data());
  backward(type, grad.data(), out.data(), coord.data(), cell.data(), w_pos.data(), n, 0, nullptr, nullptr,
           sums.data(), grad_w_pos.data());
  // one list of all rows but the last
  std::vector<int64_t> next(static_cast<size_t>(rows));
  for (int64_t i = 0; i + 2 < rows; ++i) next[size_t(i)] = i + 2;
  for (int64_t segments : {1, 3}) {
    std::vector<int64_t> head(size_t(B * h * w * segments * cuda::lists_of(ensemble)));
    head[1] = 1;
    backward(type, grad.data(), out.data(), coord.data(), cell.data(), w_pos.data(), n, segments, next.data(),
             head.data(), sums.data(), grad_w_pos.data());
    backward(type, grad.data(), nullptr, coord.data(), nullptr, nullptr, plain, segments, next.data(), head.data(),
             sums.data(), nullptr);
  }
}

int main(int count, char**) {
  without_barriers = count > 1;  // any argument
  for (bool ensemble : {true, false}) {
    for (int64_t d : {5, 72}) {
      exercise<float>(kFloat, 4, d, ensemble);
      exercise<float>(kBf16, 2, d, ensemble);
      exercise<float>(kHalf, 2, d, ensemble);
      exercise<double>(3, 8, d, ensemble);
    }
  }
  std::puts("done");
}
