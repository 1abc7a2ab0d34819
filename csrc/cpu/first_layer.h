// Geometry of a block of queries and the first layer's rank-4 update, shared by the gather and the whole head.
// Include inside an anonymous namespace, after a vector class.

template <class S, int kMost = kGeometryBlock>
struct Geometry {
  S ry[2][kMost], rx[2][kMost], weight[4][kMost];
  S cell_y[kMost], cell_x[kMost];
  int64_t row[2][kMost];  // offset of the feature row (pixel index of its first column) ...
  int32_t col[2][kMost];  // ... and column
};

// Fill g for queries [begin, begin + n) of B * Q.
template <class S, int kMost>
void geometry(const Queries<S>& in, int64_t begin, int n, Geometry<S, kMost>& g) {
  const Axis<S> y = in.y, x = in.x;
  const S* coord = in.coord + 2 * begin;
  bool inside = true;
  for (int side = 0; side < (in.ensemble ? 2 : 1); ++side) {
    for (int q = 0; q < n; ++q) {
      const Near<S> near_y = nearest(coord[2 * q], y, side), near_x = nearest(coord[2 * q + 1], x, side);
      g.row[side][q] = int64_t(near_y.index) * x.extent;
      g.col[side][q] = near_x.index;
      g.ry[side][q] = near_y.rel;
      g.rx[side][q] = near_x.rel;
      inside &= near_y.inside & near_x.inside;
    }
  }
  if (!inside) __atomic_store_n(in.outside, 1, __ATOMIC_RELAXED);
  int64_t image = begin / in.queries, left = in.queries - begin % in.queries;  // queries left in this image
  for (int q = 0; q < n; ++q, --left) {
    if (left == 0) ++image, left = in.queries;
    g.row[0][q] += image * in.image;
    g.row[1][q] += image * in.image;
  }
  for (int q = 0; q < n; ++q) {
    if (in.ensemble) {
      const S ry[2] = {g.ry[0][q], g.ry[1][q]}, rx[2] = {g.rx[0][q], g.rx[1][q]};
      S w[4];
      area_weights(ry, rx, w);
      for (int k = 0; k < 4; ++k) g.weight[k][q] = w[k];
    } else {
      g.weight[0][q] = lone_weight(g.ry[0][q], g.rx[0][q]);  // integer layers lose a NaN, the weight keeps it
    }
  }
  for (int q = 0; q < n; ++q) {
    g.cell_y[q] = in.cell ? in.cell[2 * (begin + q)] * y.n : S(0);
    g.cell_x[q] = in.cell ? in.cell[2 * (begin + q) + 1] * x.n : S(0);
  }
}

// Columns [col, col + V::N) of a row of D; zeros after its end.
template <class V, class T>
typename V::R load_columns(const T* p, int64_t col, int64_t d) {
  if (col + V::N <= d) return V::load(p + col);
  T tail[V::N] = {};
  for (int64_t i = col; i < d; ++i) tail[i - col] = p[i];
  return V::load(tail);
}

template <class V, class T>
void store_columns(T* p, int64_t col, int64_t d, typename V::R x) {
  if (col + V::N <= d) return V::store(p + col, x);
  T tail[V::N];
  V::store(tail, x);
  for (int64_t i = col; i < d; ++i) p[i] = tail[i - col];
}

// a * b + c; strict: in two roundings, as the integer head's specification wants it.
template <class V, bool strict>
LIIF_HD typename V::R multiply_add(typename V::R a, typename V::R b, typename V::R c) {
  return strict ? V::add(V::mul(a, b), c) : V::fma(a, b, c);
}

// What every corner of a query adds to its hidden row, before the corner's own rel_x:
// (cell_y * w2 + cell_x * w3) + rel_y * w0, columns [col, col + V::N).
template <class V, bool strict>
LIIF_HD typename V::R row_term(const typename V::S* w, int64_t width, int64_t col, typename V::R cell_y,
                               typename V::R cell_x, typename V::R rel_y) {
  const typename V::R cells = multiply_add<V, strict>(cell_y, V::load(w + 2 * width + col),
                                                      V::mul(cell_x, V::load(w + 3 * width + col)));
  return multiply_add<V, strict>(rel_y, V::load(w + col), cells);
}
