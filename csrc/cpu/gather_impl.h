// The gather of hidden rows, with the first layer applied or as they are, and its backward pass, for one vector class.
// Include inside an anonymous namespace, after first_layer.h.

// first_layer: position term and ReLU; else every bit of a row as it is, and rel beside it.
template <class V, class T, bool first_layer>
void gather_forward(const Queries<typename V::S>& in, int64_t begin, int64_t end, void* h_out, typename V::S* rel,
                    typename V::S* weight) {
  using S = typename V::S;
  Geometry<S> g;
  const int K = in.ensemble ? 4 : 1;
  const T* hidden = static_cast<const T*>(in.hidden);
  T* h = static_cast<T*>(h_out) + begin * K * in.d;
  for (int64_t start = begin; start < end; start += kGeometryBlock) {
    const int n = int(end - start < kGeometryBlock ? end - start : kGeometryBlock);
    geometry(in, start, n, g);
    for (int q = 0; q < n; ++q) {
      const typename V::R cell_y = V::set1(g.cell_y[q]), cell_x = V::set1(g.cell_x[q]);
      for (int k = 0; k < K; ++k, h += in.d) {
        const int64_t row = (start + q) * K + k;
        weight[row] = g.weight[k][q];
        const T* from = hidden + (g.row[k >> 1][q] + g.col[k & 1][q]) * in.d;
        if constexpr (first_layer) {
          const typename V::R rel_y = V::set1(g.ry[k >> 1][q]), rel_x = V::set1(g.rx[k & 1][q]);
          for (int64_t col = 0; col < in.d; col += V::N) {
            typename V::R x = row_term<V, false>(in.w_pos, in.width, col, cell_y, cell_x, rel_y);
            x = V::fma(rel_x, V::load(in.w_pos + in.width + col), x);
            store_columns<V>(h, col, in.d, V::relu(V::add(load_columns<V>(from, col, in.d), x)));
          }
        } else {
          rel[2 * row] = g.ry[k >> 1][q], rel[2 * row + 1] = g.rx[k & 1][q];
          __builtin_memcpy(h, from, size_t(in.d) * sizeof(T));
        }
      }
    }
  }
}

template <class V, class T>
void gather_backward(const void* grad_h, const void* h, int64_t d, int64_t width,
                     const SortedRow<typename V::S>* rows, int64_t count, typename V::S* sum,
                     typename V::S* grad_w_pos) {
  for (int64_t i = 0; i < count; ++i) {
    const T* g = static_cast<const T*>(grad_h) + rows[i].row * d;
    const T* post = h ? static_cast<const T*>(h) + rows[i].row * d : nullptr;
    // Rows lie anywhere in memory: fetch the next one while this one is added.
    const int64_t next = rows[i + 1 < count ? i + 1 : i].row * d;
    const T *next_g = static_cast<const T*>(grad_h) + next, *next_post = h ? static_cast<const T*>(h) + next : next_g;
    typename V::R pos[4];
    for (int c = 0; c < 4; ++c) pos[c] = V::set1(rows[i].pos[c]);
    for (int64_t col = 0; col < d; col += V::N) {
      __builtin_prefetch(next_g + col);
      __builtin_prefetch(next_post + col);
      typename V::R x = load_columns<V>(g, col, d);
      if (post) x = V::where_positive(load_columns<V>(post, col, d), x);
      V::store(sum + col, V::add(V::load(sum + col), x));
      if (!grad_w_pos) continue;
      for (int c = 0; c < 4; ++c) {
        typename V::S* w = grad_w_pos + c * width + col;
        V::store(w, V::fma(x, pos[c], V::load(w)));
      }
    }
  }
}

template <class V, class T>
void gather_round(const typename V::S* sum, int64_t d, void* out) {
  for (int64_t col = 0; col < d; col += V::N) store_columns<V>(static_cast<T*>(out), col, d, V::load(sum + col));
}
