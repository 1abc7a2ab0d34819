// The whole head on tiles. Include inside an anonymous namespace, after tile_kinds.h.
//
// Queries go through the layers in groups of 16 (32 where D <= 64), with a row tile for each corner: all four, so that
// rows are never moved. Without ensemble a row tile is 16 queries. A layer of a group is a run of periods
// (tile_period.h): row tiles outside, in pairs; columns inside, so that 32 rows of activations stay in L1 while the
// weights pass. The vector work for a period's sums is done during the period after the next one; a layer's first
// period needs nothing of the two before it, so that layers and groups follow each other without a pause.

#include "tile_first.h"

// How the queries of a call are divided.
struct TileShape {
  int pairs, halves, blocks, sides;  // column pairs of a layer, row pairs of a group, 16 queries each, sides of corners
  TileShape(int64_t width, bool ensemble)
      : pairs(int(width / 32)), halves(pairs > 2 ? 2 : 4), blocks(ensemble ? halves / 2 : 2 * halves),
        sides(ensemble ? 2 : 1) {}
  int rows() const { return 32 * halves; }
  int queries() const { return 16 * blocks; }
};

// Memory of one thread.
template <class K>
struct TileScratch {
  char *acts[3], *sums;  // this group's first layer, the next one's, and what lies between; three periods' sums
  float* blended;
  RowTerms terms;
  TileGeometry* groups;  // this one and the next
  char* end;
  // a power of two would crowd few cache sets
  static int64_t blended_row(int64_t width) { return width + 16; }

  TileScratch(char* p, int64_t width) {
    Memory memory{p};
    const TileShape one(width, false);
    for (char*& a : acts) memory.take(a, one.rows() * row_bytes(width, K::act_bytes));
    memory.take(sums, 3 * kStaged);
    memory.take(blended, one.queries() * blended_row(width) * 4);
    memory.take(terms.term, 2 * width * 4);
    memory.take(groups, 2 * int64_t(sizeof(TileGeometry)));
    end = memory.next;
  }
};

template <class K, class T, int kSteps>
class TileHead {
 public:
  TileHead(const Head<float>& head, int64_t begin, int64_t end, char* scratch)
      : head_(head), shape_(head.in.width, head.in.ensemble), s_(scratch, head.in.width), begin_(begin), end_(end),
        row_(row_bytes(head.in.width, K::act_bytes)),
        periods_{row_, int(head.in.width * K::act_bytes / 64)} {}

  void run() {
    s_.terms.of[0] = __builtin_nanf("");
    const int64_t groups = (end_ - begin_ + shape_.queries() - 1) / shape_.queries();
    const int64_t per_group = head_.layers * shape_.halves * shape_.pairs, count = groups * per_group;
    Place now, next, done;  // done: two periods ago
    Tiles::begin();
    prepare(0);
    periods_.begin(operands(now));
    for (int64_t j = 0; j < count; ++j, now = next) {
      if (j + 1 < count) advance(next);
      if (now.within == 2 && now.group > 0) finish(now.group - 1);
      if (now.within + 2 == per_group && now.group + 1 < groups) prepare(now.group + 1);
      char *sums = s_.sums + (j + 1) % 3 * kStaged, *last = s_.sums + (j + 2) % 3 * kStaged;
      const auto period = [&](const auto& work) {
        periods_.template run<true>(operands(now), operands(next), Staged{}, nullptr, last, work);
      };
      if (j < 2) {
        period(Nothing{});
      } else {
        pending(done, sums, period);
        advance(done);
      }
    }
    periods_.end(Staged{}, s_.sums + (count - 1) % 3 * kStaged);
    Tiles::end();
    for (int64_t j = count - 2; j < count; ++j, advance(done)) {
      pending(done, s_.sums + j % 3 * kStaged, [](const auto& work) {
        for (int unit = 0; unit < kUnits; ++unit) work.run(unit);
      });
    }
    finish(groups - 1);
  }

 private:
  struct Place {
    int64_t group = 0, layer = 0, within = 0;
    int half = 0, pair = 0;
  };
  void advance(Place& p) const {
    ++p.within;
    if (++p.pair < shape_.pairs) return;
    p.pair = 0;
    if (++p.half < shape_.halves) return;
    p.half = 0;
    if (++p.layer < head_.layers) return;
    p.layer = p.within = 0;
    ++p.group;
  }

  // What layer l of a group reads.
  char* acts(int64_t group, int64_t l) const { return s_.acts[l % 2 ? 2 : group % 2]; }
  Operands operands(const Place& p) const {
    return {acts(p.group, p.layer) + 32 * p.half * row_,
            head_.weights + p.layer * head_.layer_bytes + p.pair * 2048 * int64_t(periods_.steps())};
  }
  TileGeometry& geometry_of(int64_t group) const { return s_.groups[group % 2]; }
  int64_t first_query(int64_t group) const { return begin_ + group * shape_.queries(); }
  int queries(int64_t group) const {
    const int64_t left = end_ - first_query(group);
    return int(left < shape_.queries() ? left : shape_.queries());
  }

  // f(vector work for the sums of that period)
  template <class F>
  void pending(const Place& p, const char* sums, const F& f) const {
    const int64_t at = p.layer * head_.in.width + 32 * p.pair;
    const float *multiplier = head_.multiplier + at, *bias = head_.bias + at;
    const int64_t row = s_.blended_row(head_.in.width);
    float* blended = s_.blended + 32 * p.pair;
    const TileGeometry& g = geometry_of(p.group);
    if (p.layer + 1 < head_.layers) {
      char* to = acts(p.group, p.layer + 1) + 32 * p.half * row_ + 32 * p.pair * K::act_bytes;
      f(ToActivations<K>{sums, multiplier, bias, to, row_});
    } else if (!head_.in.ensemble) {
      f(ToValues<K, true>{sums, multiplier, bias, g.weight[0] + 32 * p.half, blended + 32 * p.half * row, row});
    } else {
      const int q = p.half / 2 * 16, k = p.half % 2 * 2;
      const float *w0 = g.weight[k] + q, *w1 = g.weight[k + 1] + q;
      if (k == 0) f(Blend<K, true>{sums, multiplier, bias, {w0, w1}, blended + q * row, row});
      else f(Blend<K, false>{sums, multiplier, bias, {w0, w1}, blended + q * row, row});
    }
  }

  // In one burst: spread between products it costs more (measured).
  void prepare(int64_t group) {
    TileGeometry& g = geometry_of(group);
    const int n = queries(group);
    geometry(head_.in, first_query(group), n, g);
    for (int q = 0; q < n; q += 16) {
      char* to = acts(group, 0) + q * shape_.sides * shape_.sides * row_;
      const int count = n - q < 16 ? n - q : 16;
      if (head_.in.ensemble) first_layer_of_group<K, T, 2>(head_, g, q, count, s_.terms, to);
      else first_layer_of_group<K, T, 1>(head_, g, q, count, s_.terms, to);
    }
  }

  void finish(int64_t group) const {
    const int64_t row = s_.blended_row(head_.in.width);
    float* out = head_.out + first_query(group) * head_.outputs;
    for (int q = 0; q < queries(group); ++q) output_row<Vec>(head_, s_.blended + q * row, out + q * head_.outputs);
  }

  const Head<float>& head_;
  const TileShape shape_;
  TileScratch<K> s_;
  const int64_t begin_, end_, row_;
  const Periods<K, kSteps> periods_;
};
