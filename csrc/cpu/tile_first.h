// The first layer on tiles: 16 queries into row tiles of their corners. Included by tile_head.h.
using TileGeometry = Geometry<float, 128>;

// Where the hidden rows of up to 16 queries' corners begin.
template <class T>
struct HiddenRows {
  const T* at[4][16];
  HiddenRows(const Queries<float>& in, const TileGeometry& g, int first, int n, int corners) {
    const T* hidden = static_cast<const T*>(in.hidden);
    for (int k = 0; k < corners; ++k) {
      for (int q = 0; q < n; ++q) at[k][q] = hidden + (g.row[k >> 1][first + q] + g.col[k & 1][first + q]) * in.stride;
    }
  }
};

// What the first layer adds to the rows above and below a query, but for rel_x's part: on a grid it changes only from
// row to row.
struct RowTerms {
  float* term;  // [2, width]
  float of[4];  // the rel_y and the cell that they are of
};

// rel_y and cell are the same for queries [first, first + n): then their terms, made if they are not those at hand.
template <class K>
bool same_terms(const Queries<float>& in, const TileGeometry& g, int first, int n, RowTerms& t) {
  bool same = true;
  for (int q = first; q < first + n; ++q) {
    same &= g.ry[0][q] == g.ry[0][first] && g.cell_y[q] == g.cell_y[first] && g.cell_x[q] == g.cell_x[first];
    same &= !in.ensemble || g.ry[1][q] == g.ry[1][first];
  }
  const float of[4] = {g.ry[0][first], in.ensemble ? g.ry[1][first] : 0, g.cell_y[first], g.cell_x[first]};
  if (!same || !__builtin_memcmp(of, t.of, sizeof of)) return same;
  __builtin_memcpy(t.of, of, sizeof of);
  for (int sy = 0; sy < (in.ensemble ? 2 : 1); ++sy) {
    for (int64_t col = 0; col < in.width; col += Vec::N) {
      Vec::store(t.term + sy * in.width + col, row_term<Vec, K::strict>(in.w_pos, in.width, col, Vec::set1(of[2]),
                                                                        Vec::set1(of[3]), Vec::set1(of[sy])));
    }
  }
  return true;
}

// Columns [col, col + 32) of the first layer of queries [first, first + n): of their corners (sy, 0) and (sy, 1) into
// two row tiles, or of the only one. Whole tiles are written, and queries one after the other that read the same pixel
// load it once.
template <class K, class T, int sides, bool same, bool full>
LIIF_HD void first_tiles(const Head<float>& head, const TileGeometry& g, const HiddenRows<T>& rows, int first, int n,
                         const RowTerms& t, int sy, int64_t col, char* to, Vec::R& poison) {
  using R = Vec::R;
  // what stands outside of the loop is not read again behind its stores
  const int64_t width = head.in.width, d = head.in.d, row = row_bytes(width, K::act_bytes);
  const float *w_pos = head.in.w_pos, *ry = g.ry[sy] + first, *cell_y = g.cell_y + first, *cell_x = g.cell_x + first;
  const R scale = Vec::set1(head.first_scale);
  R w_rel_x[2], term[2], base[2][2], x[2][2];  // of two rows: the corners of a query, or two queries
  for (int v = 0; v < 2; ++v) {
    w_rel_x[v] = Vec::load(w_pos + width + col + v * Vec::N);
    if (same) term[v] = Vec::load(t.term + sy * width + col + v * Vec::N);
  }
  const T* last[2] = {};
  R bad = poison;
  for (int q = 0; q < n; q += 3 - sides) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const int sx = sides == 2 ? i : 0, at = sides == 2 ? q : q + i < n ? q + i : q;
      const T* from = rows.at[2 * sy + sx][at];
      const bool again = same && from == last[i];
      last[i] = from;
      const R rel_x = Vec::set1(g.rx[sx][first + at]);
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const int64_t c = col + v * Vec::N;
        if (!same) {
          term[v] = row_term<Vec, K::strict>(w_pos, width, c, Vec::set1(cell_y[at]), Vec::set1(cell_x[at]),
                                             Vec::set1(ry[at]));
        }
        if (!again) {
          const R hidden = full ? Vec::load(from + c) : load_columns<Vec>(from, c, d);
          base[i][v] = K::strict ? hidden : Vec::add(hidden, term[v]);
        }
        if constexpr (K::strict) {
          const R y = Vec::add(base[i][v], multiply_add<Vec, true>(rel_x, w_rel_x[v], term[v]));
          bad = Vec::fma(y, Vec::zero(), bad);
          x[i][v] = Vec::mul(y, scale);
        } else {
          x[i][v] = Vec::fma(rel_x, w_rel_x[v], base[i][v]);
        }
      }
    }
    char* out = to + q * row;
    K::put(out, out + (sides == 2 ? 16 : 1) * row, activated<K>(x[0][0]), activated<K>(x[0][1]), activated<K>(x[1][0]),
           activated<K>(x[1][1]));
  }
  poison = bad;
}

template <class K, class T, int sides, bool same>
__attribute__((noinline)) Vec::R first_tiles(const Head<float>& head, const TileGeometry& g, const HiddenRows<T>& rows,
                                             int first, int n, const RowTerms& t, char* acts) {
  const int64_t row = row_bytes(head.in.width, K::act_bytes);
  Vec::R poison = Vec::zero();
  for (int64_t col = 0; col < head.in.width; col += 32) {
    for (int sy = 0; sy < sides; ++sy) {
      char* to = acts + 32 * sy * row + col * K::act_bytes;
      if (col + 32 <= head.in.d) first_tiles<K, T, sides, same, true>(head, g, rows, first, n, t, sy, col, to, poison);
      else first_tiles<K, T, sides, same, false>(head, g, rows, first, n, t, sy, col, to, poison);
    }
  }
  return poison;
}

// As first_tiles, of waves.h's first layer.
template <class K, class T, int sides>
void wave_tiles(const Queries<float>& in, const TileGeometry& g, const HiddenRows<T>& rows, int first, int n,
                char* acts) {
  const int64_t row = row_bytes(in.width, K::act_bytes), frequencies = in.d / 2;
  for (int q = 0; q < n; q += 3 - sides) {
    for (int64_t j = 0; j < frequencies; j += 32) {
      for (int sy = 0; sy < sides; ++sy) {
        Waves<Vec> waves[2];
        for (int i = 0; i < 2; ++i) {
          const int sx = sides == 2 ? i : 0, at = sides == 2 ? q : q + i < n ? q + i : q, query = first + at;
          const Vec::R cell_y = Vec::set1(g.cell_y[query]), cell_x = Vec::set1(g.cell_x[query]);
          const Vec::R phase[2] = {wave_phase<Vec>(in, j, cell_y, cell_x), wave_phase<Vec>(in, j + 16, cell_y, cell_x)};
          waves[i].fill(rows.at[2 * sy + sx][at], frequencies, j, Vec::set1(g.ry[sy][query]),
                        Vec::set1(g.rx[sx][query]), phase);
        }
        char *out = acts + (32 * sy + q) * row + j * K::act_bytes, *next = out + (sides == 2 ? 16 : 1) * row;
        const int64_t sines = frequencies * K::act_bytes;
        K::put(out, next, waves[0].cosines[0], waves[0].cosines[1], waves[1].cosines[0], waves[1].cosines[1]);
        K::put(out + sines, next + sines, waves[0].sines[0], waves[0].sines[1], waves[1].sines[0], waves[1].sines[1]);
      }
    }
  }
}

// The first layer of up to 16 queries from `first` on. Integers hold neither NaN nor infinity: weights become NaN where
// they would hide that a row is not finite.
template <class K, class T, int sides>
void first_layer_of_group(const Head<float>& head, TileGeometry& g, int first, int n, RowTerms& t, char* acts) {
  const HiddenRows<T> rows(head.in, g, first, n, sides * sides);
  if constexpr (!K::strict) {
    if (head.in.waves) return wave_tiles<K, T, sides>(head.in, g, rows, first, n, acts);
  }
  const Vec::R poison = same_terms<K>(head.in, g, first, n, t)
                            ? first_tiles<K, T, sides, true>(head, g, rows, first, n, t, acts)
                            : first_tiles<K, T, sides, false>(head, g, rows, first, n, t, acts);
  if constexpr (K::strict) {
    if (Vec::sum(poison) == 0) return;  // each is 0 or NaN
    for (int i = 0, q = first; i < n; ++i, ++q) {
      const T* from[4];
      char* nowhere[4] = {};
      for (int k = 0; k < sides * sides; ++k) from[k] = rows.at[k][i];
      const float ry[2] = {g.ry[0][q], g.ry[sides - 1][q]}, rx[2] = {g.rx[0][q], g.rx[sides - 1][q]};
      g.weight[0][q] += first_rows<K, T, sides, false>(head, from, ry, rx, g.cell_y[q], g.cell_x[q], nowhere);
    }
  }
}
