// kernels_amx.cpp on a processor that has AVX-512-BF16 but no AMX: its vectors on tiles in plain C++, against
// kernels_plain_amx.cpp, which is plain altogether: colours and gradients agree to the bit. Compiled by
// test_amx_tiles.py with -DLIIF_TILES="tiles_plain.h" and linked with that file.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "../../csrc/cpu/kernels_amx.cpp"

namespace {
std::mt19937 g_random(1);

float normal() { return std::normal_distribution<float>()(g_random); }
std::vector<float> normals(size_t n, float scale) {
  std::vector<float> x(n);
  for (float& value : x) value = scale * normal();
  return x;
}

template <class T>
T* aligned(std::vector<char>& memory, int64_t count) {
  memory.assign(size_t(count) * sizeof(T) + 64, 0);
  return reinterpret_cast<T*>(memory.data() + (-uintptr_t(memory.data()) & 63));
}

struct Case {
  int64_t d, layers, outputs, queries;
  bool ensemble, cell, grid;
  float pixel;  // of hidden's first pixel, where it is not 0
  bool waves = false;  // the first layer is that of waves.h
};

struct Problem {
  std::vector<float> w_pos, bias, multiplier, w_out, b_out, coord, cell, grad_out, zeros;
  std::vector<char> hidden, weights_memory, back_memory;
  int32_t outside = 0;
  liif::HeadGradient<float> grad{};

  Problem(const Case& c, int type, bool int8) {
    const int64_t h = 5, w = 7, batch = 2, width = (c.d + 63) / 64 * 64, stride = c.waves ? 2 * c.d : c.d;
    const int64_t images = batch * h * w * stride;
    const std::vector<float> numbers = normals(images, 1);
    hidden.resize(images * 4);
    for (int64_t i = 0; i < images; ++i) {
      const float x = i < c.d && c.pixel != 0 ? c.pixel : numbers[i];
      uint32_t bits;
      memcpy(&bits, &x, 4);
      const uint16_t bf16 = bits >> 16;
      const _Float16 half = _Float16(x);
      if (type == liif::kFloat) memcpy(&hidden[i * 4], &x, 4);
      else memcpy(&hidden[i * 2], type == liif::kBf16 ? static_cast<const void*>(&bf16) : &half, 2);
    }
    w_pos = normals(4 * width, 0.3f), bias = normals(c.layers * width, 0.1f), w_out = normals(c.outputs * width, 0.1f);
    b_out = normals(c.outputs, 1), multiplier = normals(c.layers * width, 0.02f / c.d);
    grad_out = normals(batch * c.queries * c.outputs, 1), zeros.assign(2 * width + c.layers * width, 0);
    for (int64_t i = 0; i < batch * c.queries; ++i) {
      coord.push_back(c.grid ? -0.9f + 0.2f * float(i / 40) : std::tanh(normal()));
      coord.push_back(c.grid ? -1 + 0.05f * float(i % 40) : std::tanh(normal()));
      cell.push_back(c.grid ? 0.1f : 0.1f * normal()), cell.push_back(c.grid ? 0.2f : 0.1f * normal());
    }
    liif::Head<float>& head = grad.head;
    const int64_t bytes = int8 ? 1 : 2;
    head.layers = c.layers, head.layer_bytes = width * width * bytes, head.outputs = c.outputs;
    for (auto* memory : {&weights_memory, &back_memory}) {
      char* weights = aligned<char>(*memory, c.layers * head.layer_bytes);
      for (int64_t i = 0; i < c.layers * width * width; ++i) {
        const float x = normal() * (int8 ? 40 : std::sqrt(2.0f / float(c.d)));
        uint32_t bits;
        memcpy(&bits, &x, 4);
        const int8_t byte = int8_t(std::max(-127.0f, std::min(127.0f, x)));
        const uint16_t bf16 = uint16_t(bits >> 16);
        memcpy(weights + i * bytes, int8 ? static_cast<const void*>(&byte) : &bf16, size_t(bytes));
      }
      head.weights = memory == &weights_memory ? weights : head.weights;
    }
    auto& in = head.in;
    in.y = liif::make_axis<float>(h, 0, h, c.ensemble), in.x = liif::make_axis<float>(w, 0, w, c.ensemble);
    in.ensemble = c.ensemble, in.hidden = hidden.data(), in.coord = coord.data(), in.cell = c.cell ? cell.data() : nullptr;
    in.w_pos = w_pos.data(), in.queries = c.queries, in.image = h * w, in.d = c.d, in.stride = stride, in.width = width;
    in.waves = c.waves, in.outside = &outside;
    head.bias = bias.data(), head.multiplier = multiplier.data(), head.first_scale = 40, head.skip_zeros = true;
    head.w_out = w_out.data(), head.b_out = b_out.data();
    grad.back = head;
    grad.back.weights = back_memory.data() + (-uintptr_t(back_memory.data()) & 63), grad.back.bias = zeros.data();
    grad.constants = zeros.data(), grad.grad_out = grad_out.data();
  }
  int64_t count() const { return int64_t(coord.size() / 2); }
};

bool same(const float* a, const float* b, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if (memcmp(a + i, b + i, 4) && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  }
  return true;
}

std::vector<float> colours(const liif::HeadKernel<float>& kernel, Problem& p, int type) {
  std::vector<float> out(size_t(p.count() * p.grad.head.outputs), -1);
  p.grad.head.out = out.data();
  std::vector<char> memory;
  char* scratch = aligned<char>(memory, kernel.scratch(p.grad.head.in.width));
  kernel.render[type](p.grad.head, 0, p.count(), scratch);
  return out;
}

std::vector<float> gradients(const liif::HeadKernel<float>& kernel, Problem& p, int type) {
  const auto& in = p.grad.head.in;
  std::vector<char> first(size_t(p.count() * (in.ensemble ? 4 : 1) * in.d * 4)), memory, sums_memory;
  p.grad.grad_first = first.data();
  char* scratch = aligned<char>(memory, kernel.gradient_scratch(p.grad.head.layers, in.width));
  float* sums = aligned<float>(sums_memory, p.grad.sums());
  kernel.gradient[type](p.grad, 0, p.count(), scratch, sums);
  std::vector<float> all(sums, sums + p.grad.sums());
  const size_t words = first.size() / 4;
  all.resize(all.size() + words);
  memcpy(all.data() + all.size() - words, first.data(), first.size());
  return all;
}
}  // namespace

int main() {
  int failures = 0, done = 0;
  const auto expect = [&](bool good, const Case& c, const char* what, int type) {
    ++done;
    if (good) return;
    ++failures;
    printf("FAILED %s: hidden type %d, D %d, L %d, O %d, ensemble %d, grid %d\n", what, type, int(c.d), int(c.layers),
           int(c.outputs), c.ensemble, c.grid);
  };
  const float inf = INFINITY;
  for (const Case& c : {Case{256, 3, 3, 40, true, true, true, 0}, Case{256, 2, 4, 35, false, false, true, 0},
                        Case{20, 3, 1, 45, true, true, false, 0}, Case{64, 1, 3, 40, true, true, true, 0},
                        Case{100, 2, 7, 33, false, true, false, 0}, Case{512, 1, 3, 9, true, false, true, 0},
                        Case{180, 4, 3, 20, true, true, true, 0}, Case{72, 0, 3, 50, true, true, true, 0},
                        Case{40, 2, 3, 80, true, true, true, inf}, Case{40, 2, 3, 150, false, true, false, NAN},
                        Case{256, 3, 3, 40, true, true, true, 0, true}, Case{64, 0, 3, 35, false, true, false, 0, true},
                        Case{128, 2, 1, 45, false, false, false, 0, true}}) {
    for (int type : {liif::kFloat, liif::kBf16, liif::kHalf}) {
      for (bool int8 : {false, true}) {
        if (int8 && c.waves) continue;
        Problem p(c, type, int8);
        const auto& kernel = int8 ? *liif::path_amx_int8.int8 : *liif::path_amx_bf16.bfloat16;
        const auto& plain = int8 ? *liif::path_plain_amx_int8.int8 : *liif::path_plain_amx_bf16.bfloat16;
        const std::vector<float> a = colours(kernel, p, type), b = colours(plain, p, type);
        expect(same(a.data(), b.data(), a.size()), c, int8 ? "int8 colours" : "colours", type);
        if (c.pixel != 0) {
          bool some = false, all = true;
          for (float x : a) some |= std::isfinite(x), all &= std::isfinite(x);
          expect(some && !all, c, "some queries are not finite", type);
        }
        if (int8 || c.pixel != 0) continue;
        const std::vector<float> x = gradients(kernel, p, type), y = gradients(plain, p, type);
        expect(same(x.data(), y.data(), x.size()), c, "gradients", type);
      }
    }
  }
  printf("%d of %d wrong\n", failures, done);
  return failures != 0;
}
