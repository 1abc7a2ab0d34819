// Gradients of the whole head on tiles in bfloat16: as head_grad.h, whose blocks of rows these are, but products take
// activations and gradients rounded to bfloat16; sums, the bias' and the output layer's gradients are float32. Include
// inside an anonymous namespace, after tile_kinds.h.

constexpr int64_t kRowsBytes = row_bytes(kBlockRows, 2);  // of a matrix whose columns were a block's rows
constexpr int kStepsOfBlock = kBlockRows / 32;

// A layer's gradient of its sums, from those of the next one: where its activation was positive. Not masked: of waves,
// which no ReLU follows.
template <class K, bool masked>
struct ToGradients {
  const char* sums;
  const char* acts;  // of the layer, rows `row` bytes apart
  char* grads;       // the same for the gradient in bfloat16
  float* values;     // and in float32, rows `value_row` bytes apart
  int64_t row, value_row;
  LIIF_HD void run(int unit) const {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const int r = 2 * unit + i;
      const float* from = reinterpret_cast<const float*>(sums + r / 16 * 2048 + r % 16 * 64);
      typename K::Acc a = Vec::load(from), b = Vec::load(from + 256);
      if constexpr (masked) {
        a = Vec::where_active(acts + r * row, a);
        b = Vec::where_active(acts + r * row + 32, b);
      }
      float* out = reinterpret_cast<float*>(reinterpret_cast<char*>(values) + r * value_row);
      Vec::store(out, a);
      Vec::store(out + 16, b);
      Vec::put_words(grads + r * row, a, b);
    }
  }
};

// All products of a layer for `halves` pairs of row tiles. work(half, pair, sums): the vector work for such a period.
template <class K, int kSteps, class Work>
void tile_layer(const Head<float>& head, int64_t l, const char* acts, int halves, char* sums, const Work& work) {
  const int64_t width = head.in.width, row = row_bytes(width, K::act_bytes);
  const Periods<K, kSteps> periods{row, int(width * K::act_bytes / 64)};
  const int pairs = int(width / 32), count = halves * pairs;
  const char* weights = head.weights + l * head.layer_bytes;
  const auto operands = [&](int j) {
    return Operands{acts + j / pairs * 32 * row, weights + j % pairs * 2048 * int64_t(periods.steps())};
  };
  const auto at = [&](int j) { return sums + (j + 3) % 3 * kStaged; };
  periods.begin(operands(0));
  for (int j = 0; j < count; ++j) {
    const auto period = [&](const auto& pending) {
      const Operands next = operands(j + 1 < count ? j + 1 : j);
      periods.template run<true>(operands(j), next, Staged{}, nullptr, at(j - 1), pending);
    };
    if (j < 2) period(Nothing{});
    else period(work((j - 2) / pairs, (j - 2) % pairs, at(j - 2)));
  }
  periods.end(Staged{}, at(count - 1));
  for (int j = count - 2; j < count; ++j) {
    const auto pending = work(j / pairs, j % pairs, at(j));
    for (int unit = 0; unit < kUnits; ++unit) pending.run(unit);
  }
}

// Rows 2 k and 2 k + 1 of bfloat16, columns [col, col + 16), entry by entry side by side.
LIIF_HD Vec::I row_pair(const char* rows, int64_t row, int k, int64_t col) {
  const char* from = rows + 2 * k * row + 2 * col;
  return Vec::two_words(Vec::load_words(from), Vec::load_words(from + row));
}

// As the second operand of products that sum over rows: [column tile][step][16 pairs of rows][16 columns][2].
inline void pack_pairs(const char* rows, int64_t row, int steps, int64_t width, char* to) {
  for (int64_t col = 0; col < width; col += 16) {
    for (int k = 0; k < 16 * steps; ++k, to += 64) Vec::store_int(to, row_pair(rows, row, k, col));
  }
}

// As their first operand: transposed, rows of kRowsBytes.
inline void pack_transposed(const char* rows, int64_t row, int steps, int64_t width, char* to) {
  for (int64_t col = 0; col < width; col += 16) {
    for (int s = 0; s < steps; ++s) {
      Vec::I x[16];
      for (int k = 0; k < 16; ++k) x[k] = row_pair(rows, row, 16 * s + k, col);
      Vec::transpose(x, to + col * kRowsBytes + 64 * s, kRowsBytes);
    }
  }
}

// sums[o, i] += sum over rows of grads[row, o] * acts[row, i], both packed.
template <class K, int kSteps>
void outer_products(const char* grads, const char* acts, int steps, int64_t d, int64_t width, float* sums,
                    char* nowhere) {
  const Periods<K, kSteps> periods{kRowsBytes, steps};
  const InRows layout{width * 4};
  const int pairs = int(width / 32), rows = int((d + 31) / 32), count = rows * pairs;
  const auto operands = [&](int j) {
    return Operands{grads + j / pairs * 32 * kRowsBytes, acts + j % pairs * 2048 * int64_t(steps)};
  };
  const auto at = [&](int j) { return reinterpret_cast<char*>(sums + j / pairs * 32 * width + j % pairs * 32); };
  periods.begin(operands(0));
  char* last = nowhere;
  for (int j = 0; j < count; ++j) {
    periods.template run<false>(operands(j), operands(j + 1 < count ? j + 1 : j), layout, at(j), last, Nothing{});
    last = at(j);
  }
  periods.end(layout, last);
}

// Memory of one thread.
template <class K>
struct TileGradientScratch {
  char *acts, *grads[2], *values;     // [L] blocks: input of every hidden layer; two blocks; a block of float32
  char *packed_acts, *packed_grads;
  char *sums, *nowhere;
  char* end;

  TileGradientScratch(char* p, int64_t layers, int64_t width) {
    Memory memory{p};
    const int64_t block = kBlockRows * row_bytes(width, K::act_bytes);
    memory.take(acts, layers * block);
    for (char*& g : grads) memory.take(g, block);
    memory.take(values, kBlockRows * row_bytes(width, 4));
    memory.take(packed_acts, width * kBlockRows * 2);
    memory.take(packed_grads, width * kRowsBytes);
    memory.take(sums, 3 * kStaged);
    memory.take(nowhere, 32 * width * 4);
    end = memory.next;
  }
};

template <class K>
int64_t tile_gradient_scratch(int64_t layers, int64_t width) {
  return bytes_of<TileGradientScratch<K>>(layers, width);
}

template <class K, class T, int kSteps>
void tile_gradient(const HeadGradient<float>& grad, int64_t begin, int64_t end, char* scratch, float* sums) {
  const Head<float>& head = grad.head;
  const int64_t d = head.in.d, width = head.in.width;
  const int64_t row = row_bytes(width, K::act_bytes), value_row = row_bytes(width, 4);
  const TileGradientScratch<K> s(scratch, head.layers, width);
  const auto acts = [&](int64_t l) { return s.acts + l * kBlockRows * row; };
  Tiles::begin();
  each_block(head.in, begin, end, [&](const Geometry<float>& g, int first, int64_t query, Block<float>& block) {
    const int halves = (block.rows + 31) / 32;
    if (halves == 0) return to_queries<Vec, T>(grad, block, query, s.values);  // no corner that counts
    if (head.layers == 0) first_layer<K, T, true>(head, g, first, block, s.values);
    else first_layer<K, T, false>(head, g, first, block, acts(0));
    const auto clear = [&](char* rows, int64_t bytes) {  // what the last tile holds beyond the block
      __builtin_memset(rows + block.rows * bytes, 0, size_t((32 * halves - block.rows) * bytes));
    };
    if (head.layers) clear(acts(0), row);
    for (int64_t l = 0; l < head.layers; ++l) {
      const float* bias = head.bias + l * width;
      if (l + 1 < head.layers) {
        tile_layer<K, kSteps>(head, l, acts(l), halves, s.sums, [&](int half, int pair, const char* from) {
          char* to = acts(l + 1) + half * 32 * row + pair * 32 * K::act_bytes;
          return ToActivations<K>{from, nullptr, bias + pair * 32, to, row};
        });
      } else {
        tile_layer<K, kSteps>(head, l, acts(l), halves, s.sums, [&](int half, int pair, const char* from) {
          float* to = reinterpret_cast<float*>(s.values + half * 32 * value_row) + pair * 32;
          return ToValues<K, false>{from, nullptr, bias + pair * 32, nullptr, to, value_row / 4};
        });
      }
    }
    blend_gradient<Vec>(grad, block, query, s.values, sums);
    clear(s.values, value_row);
    for (int64_t l = head.layers - 1; l >= 0; --l) {
      char *now = s.grads[l % 2], *next = s.grads[(l + 1) % 2];
      if (l + 1 == head.layers) {
        for (int m = 0; m < 32 * halves; ++m) {
          const float* from = reinterpret_cast<const float*>(s.values + m * value_row);
          for (int64_t col = 0; col < width; col += 32) {
            Vec::put_words(now + m * row + 2 * col, Vec::load(from + col), Vec::load(from + col + 16));
          }
        }
      }
      column_sums<Vec>(s.values, value_row, block.rows, width, sums + grad.bias_at(l));
      pack_transposed(now, row, halves, width, s.packed_grads);
      pack_pairs(acts(l), row, halves, width, s.packed_acts);
      const auto products = halves == kStepsOfBlock ? outer_products<K, kStepsOfBlock> : outer_products<K, 0>;
      products(s.packed_grads, s.packed_acts, halves, d, width, sums + grad.weight_at(l), s.nowhere);
      const auto back = [&](auto masked) {
        tile_layer<K, kSteps>(grad.back, l, now, halves, s.sums, [&](int half, int pair, const char* from) {
          const int64_t at = half * 32 * row + pair * 64;
          float* values = reinterpret_cast<float*>(s.values + half * 32 * value_row) + pair * 32;
          return ToGradients<K, masked.value != 0>{from, acts(l) + at, next + at, values, row, value_row};
        });
      };
      if (l || !head.in.waves) back(Count<1>{});
      else back(Count<0>{});
    }
    to_queries<Vec, T>(grad, block, query, s.values);
  });
  Tiles::end();
}
