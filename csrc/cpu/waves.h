// LTE's first layer: coefficients times the cosines and sines of what frequencies and offsets make. Include inside an
// anonymous namespace, after first_layer.h.
//
// A row of the map holds 4 F numbers: coefficients of cosines, of sines, frequencies along y, along x. It becomes
//   x[j] = row[j] * cos(pi * angle[j]),  x[F + j] = row[F + j] * sin(pi * angle[j])
//   angle[j] = rel_x * row[3 F + j] + (rel_y * row[2 F + j] + (cell_y * phase_y[j] + cell_x * phase_x[j]))
// F is a multiple of kWaveLanes, so that whole vectors are read and written.
constexpr int kWaveLanes = 32;

// pi^n / n!, with the sign of the series of cosine and sine.
constexpr double wave_coefficient(int n) {
  double c = n / 2 % 2 ? -1 : 1;
  for (int i = 1; i <= n; ++i) c *= 3.14159265358979323846 / i;
  return c;
}

// cos(pi * a) and sin(pi * a). a = n + r with a whole number n and |r| <= 1/2, exactly; both change their signs with
// each n. The series on [-1/2, 1/2] end where the next term is below half a unit in the last place of 1.
template <class V>
LIIF_HD void cos_sin(typename V::R a, typename V::R& cosine, typename V::R& sine) {
  using R = typename V::R;
  using S = typename V::S;
  constexpr int kTerms = sizeof(S) == 4 ? 7 : 11;
  const R n = V::nearest(a), r = V::fma(n, V::set1(-1), a), square = V::mul(r, r);
  R c = V::set1(S(wave_coefficient(2 * kTerms - 2))), s = V::set1(S(wave_coefficient(2 * kTerms - 1)));
#pragma GCC unroll 16
  for (int i = kTerms - 2; i >= 0; --i) {
    c = V::fma(c, square, V::set1(S(wave_coefficient(2 * i))));
    s = V::fma(s, square, V::set1(S(wave_coefficient(2 * i + 1))));
  }
  const R odd = V::fma(V::nearest(V::mul(n, V::set1(S(0.5)))), V::set1(-2), n);  // -1, 0 or 1
  const R sign = V::fma(V::mul(odd, odd), V::set1(-2), V::set1(1));
  cosine = V::mul(c, sign);
  sine = V::mul(V::mul(s, r), sign);
}

// What the cell adds to the angles [j, j + V::N).
template <class V>
LIIF_HD typename V::R wave_phase(const Queries<typename V::S>& in, int64_t j, typename V::R cell_y,
                                 typename V::R cell_x) {
  return V::fma(cell_y, V::load(in.w_pos + j), V::mul(cell_x, V::load(in.w_pos + in.width + j)));
}

template <class V, class T>
LIIF_HD typename V::R wave_angle(const T* row, int64_t frequencies, int64_t j, typename V::R rel_y,
                                 typename V::R rel_x, typename V::R phase) {
  const typename V::R y = V::fma(rel_y, V::load(row + 2 * frequencies + j), phase);
  return V::fma(rel_x, V::load(row + 3 * frequencies + j), y);
}

// Two vectors of a row from column j on: cosines' and sines'.
template <class V>
struct Waves {
  typename V::R cosines[2], sines[2];

  template <class T>
  LIIF_HD void fill(const T* row, int64_t frequencies, int64_t j, typename V::R rel_y, typename V::R rel_x,
                    const typename V::R* phase) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const int64_t at = j + v * V::N;
      typename V::R c, s;
      cos_sin<V>(wave_angle<V>(row, frequencies, at, rel_y, rel_x, phase[v]), c, s);
      cosines[v] = V::mul(V::load(row + at), c);
      sines[v] = V::mul(V::load(row + frequencies + at), s);
    }
  }
};

// Gradients of one pixel's row, added to sum [4 F], and of the phases, added to grad_phase [2, width], from those of
// the rows that were gathered from it.
template <class V, class T>
void wave_gradient(const Queries<typename V::S>& in, const void* grad_h, int64_t pixel,
                   const SortedRow<typename V::S>* rows, int64_t count, typename V::S* sum,
                   typename V::S* grad_phase) {
  using R = typename V::R;
  using S = typename V::S;
  const int64_t frequencies = in.d / 2;
  const T* row = static_cast<const T*>(in.hidden) + pixel * in.stride;
  const R pi = V::set1(S(3.14159265358979323846)), minus = V::set1(-1);
  for (int64_t j = 0; j < frequencies; j += V::N) {
    const R a = V::load(row + j), b = V::load(row + frequencies + j);
    S *along_y = sum + 2 * frequencies + j, *along_x = along_y + frequencies, *of_x = grad_phase + in.width + j;
    R sum_a = V::load(sum + j), sum_b = V::load(sum + frequencies + j), y = V::load(along_y), x = V::load(along_x);
    R phase_y = V::load(grad_phase + j), phase_x = V::load(of_x);
    for (int64_t i = 0; i < count; ++i) {
      const T* g = static_cast<const T*>(grad_h) + rows[i].row * in.d + j;
      const R rel_y = V::set1(rows[i].pos[0]), rel_x = V::set1(rows[i].pos[1]);
      const R cell_y = V::set1(rows[i].pos[2]), cell_x = V::set1(rows[i].pos[3]);
      const R g_a = V::load(g), g_b = V::load(g + frequencies);
      R c, s;
      cos_sin<V>(wave_angle<V>(row, frequencies, j, rel_y, rel_x, wave_phase<V>(in, j, cell_y, cell_x)), c, s);
      sum_a = V::fma(g_a, c, sum_a);
      sum_b = V::fma(g_b, s, sum_b);
      const R of_sine = V::mul(V::mul(V::mul(g_a, a), minus), s);
      const R angle = V::mul(pi, V::fma(V::mul(g_b, b), c, of_sine));
      y = V::fma(angle, rel_y, y);
      x = V::fma(angle, rel_x, x);
      phase_y = V::fma(angle, cell_y, phase_y);
      phase_x = V::fma(angle, cell_x, phase_x);
    }
    V::store(sum + j, sum_a);
    V::store(sum + frequencies + j, sum_b);
    V::store(along_y, y);
    V::store(along_x, x);
    V::store(grad_phase + j, phase_y);
    V::store(of_x, phase_x);
  }
}

// The rows of one query's corners.
template <class K, class T, bool last>
void wave_rows(const Queries<typename K::S>& in, int count, const T* const* from, const typename K::S* rel_y,
               const typename K::S* rel_x, typename K::S cell_y, typename K::S cell_x, char* const* to) {
  using V = typename K::Vec;
  using S = typename K::S;
  const int64_t frequencies = in.d / 2;
  const typename V::R y = V::set1(cell_y), x = V::set1(cell_x);
  for (int64_t j = 0; j < frequencies; j += 2 * V::N) {
    const typename V::R phase[2] = {wave_phase<V>(in, j, y, x), wave_phase<V>(in, j + V::N, y, x)};
    for (int i = 0; i < count; ++i) {
      Waves<V> wave;
      wave.fill(from[i], frequencies, j, V::set1(rel_y[i]), V::set1(rel_x[i]), phase);
      if constexpr (last) {
        S* row = reinterpret_cast<S*>(to[i]) + j;
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          V::store(row + v * V::N, wave.cosines[v]);
          V::store(row + frequencies + v * V::N, wave.sines[v]);
        }
      } else {
        K::template put<2>(to[i] + j * K::act_bytes, wave.cosines);
        K::template put<2>(to[i] + (frequencies + j) * K::act_bytes, wave.sines);
      }
    }
  }
}
