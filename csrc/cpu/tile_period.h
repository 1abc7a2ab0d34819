// The innermost loop on tiles: two row tiles x two column tiles of sums over all inputs, with the vector work for the
// sums of earlier periods between the products. Include inside an anonymous namespace, after Tiles (tiles_amx.h or
// tiles_plain.h) and a vector class.
//
// About twelve writes of tiles (loads and products) can be in flight, and four stores; whatever waits longer stops the
// products. Hence (measured on family 6 model 207: 67 % of the rate of products alone, 46 % in the plain order)
// - operands go round in a ring: each is used by two products in a row, and its successor is loaded right behind them,
//   three or more writes before its first use. Four registers are enough;
// - weights, which come from L2, pass L1 by (Tiles::stream): the activations stay there;
// - a sum is stored just before its register's next use, three products behind its last one;
// - vector work is spread between the products: it needs other ports.

// Sums: registers 0 to 3 for (row tile, column tile) = (0, 0), (0, 1), (1, 0), (1, 1); how they lie in memory:
struct Staged {  // tile by tile
  LIIF_HD static int64_t at(int c) { return c * 1024; }
  LIIF_HD static int64_t stride() { return 64; }
};
constexpr int64_t kStaged = 4096;
struct InRows {  // in a matrix
  int64_t row;
  LIIF_HD int64_t at(int c) const { return c / 2 * 16 * row + c % 2 * 64; }
  LIIF_HD int64_t stride() const { return row; }
};

// Where a period's operands begin. rows: row tile r, step s at rows + 16 r * stride + 64 s. columns: packed weights,
// column tile c, step s at columns + (c * steps + s) * 1024, of 16 groups of inputs x 16 columns.
struct Operands {
  const char *rows, *columns;
};

// f(0) to f(n - 1), unrolled if the compiler knows n.
template <int known, class F>
LIIF_HD void repeat(int n, F&& f) {
  if constexpr (known > 0) {
#pragma GCC unroll 16
    for (int i = 0; i < known; ++i) f(i);
  } else {
    for (int i = 0; i < n; ++i) f(i);
  }
}

// Vector work comes in kUnits units, work.run(unit); this many of them behind every second product.
constexpr int kUnits = 16;
LIIF_HD constexpr int units_of_slot(int steps) { return (kUnits + 2 * steps - 1) / (2 * steps); }

struct Nothing {
  LIIF_HD void run(int) const {}
};

// kSteps: 0, or the number of steps if the compiler shall know it.
template <class K, int kSteps>
struct Periods {
  int64_t stride;  // of rows
  int given;       // steps
  LIIF_HD int steps() const { return kSteps ? kSteps : given; }

  // Before the first period, which finds its operands loaded; each loads the next one's and stores the last one's sums.
  LIIF_HD void begin(const Operands& first) const {
    Tiles::load<4>(first.rows, stride), Tiles::load<5>(first.rows + 16 * stride, stride);
    Tiles::stream<6>(first.columns, 64), Tiles::stream<7>(first.columns + steps() * 1024, 64);
    Tiles::zero<0>(), Tiles::zero<1>(), Tiles::zero<2>(), Tiles::zero<3>();
  }

  template <class Sums>
  LIIF_HD static void end(const Sums& sums, char* to) {
    Tiles::store<0>(to + sums.at(0), sums.stride()), Tiles::store<1>(to + sums.at(1), sums.stride());
    Tiles::store<2>(to + sums.at(2), sums.stride()), Tiles::store<3>(to + sums.at(3), sums.stride());
  }

  // start: what the sums begin with; null: zero.
  template <bool from_zero, class Sums, class Work>
  __attribute__((noinline)) void run(const Operands& now, const Operands& next, const Sums& sums, const char* start,
                                     char* last, const Work& given_work) const {
    const Work work = given_work;  // in registers
    const int n = steps(), per_slot = units_of_slot(n);
    repeat<kSteps>(n, [&](int s) __attribute__((always_inline)) {
      const bool is_last = s + 1 == n;
      const int64_t at = is_last ? 0 : s + 1;
      const Operands& from = is_last ? next : now;
      const Operands ahead = {from.rows + at * 64, from.columns + at * 1024};
      // One way round and the other in turn, but the last as the first: the sums' order is then the same in both.
      const int turn = n - 1 - s < s ? n - 1 - s : s;
      if (turn % 2) step<true, from_zero>(s == 0, ahead, sums, start, last, 2 * s * per_slot, per_slot, work);
      else step<false, from_zero>(s == 0, ahead, sums, start, last, 2 * s * per_slot, per_slot, work);
    });
  }

 private:
  template <int c, bool from_zero, class Sums>
  LIIF_HD static void dot(bool first, const Sums& sums, const char* start, char* last) {
    if (first) {
      Tiles::store<c>(last + sums.at(c), sums.stride());
      if constexpr (from_zero) Tiles::zero<c>();
      else Tiles::load<c>(start + sums.at(c), sums.stride());
    }
    K::template dot<c, 4 + c / 2, 6 + c % 2>();
  }

  template <class Work>
  LIIF_HD static void slot(int unit, int count, const Work& work) {
    repeat<kSteps ? units_of_slot(kSteps ? kSteps : 1) : 0>(count, [&](int i) __attribute__((always_inline)) {
      if (unit + i < kUnits) work.run(unit + i);
    });
  }

  template <bool turned, bool from_zero, class Sums, class Work>
  LIIF_HD void step(bool first, const Operands& ahead, const Sums& sums, const char* start, char* last, int unit,
                    int per_slot, const Work& work) const {
    constexpr int near = turned ? 2 : 0, far = turned ? 0 : 2;  // sums of the first column tile
    dot<near, from_zero>(first, sums, start, last);
    dot<far, from_zero>(first, sums, start, last);
    Tiles::stream<6>(ahead.columns, 64);
    slot(unit, per_slot, work);
    dot<far + 1, from_zero>(first, sums, start, last);
    Tiles::load<4 + far / 2>(ahead.rows + far * 8 * stride, stride);
    dot<near + 1, from_zero>(first, sums, start, last);
    Tiles::stream<7>(ahead.columns + steps() * 1024, 64);
    Tiles::load<4 + near / 2>(ahead.rows + near * 8 * stride, stride);
    slot(unit + per_slot, per_slot, work);
  }
};
