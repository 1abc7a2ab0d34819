// The kinds of arithmetic on tiles, and what becomes of their sums. Include inside an anonymous namespace, after Tiles,
// a vector class of 16 floats and kPath. Beyond what kinds.h lists, the class has
//   put_words(to, a, b)                   32 floats as bfloat16, one behind the other
//   put_bytes(to, next, a, b, c, d)       a, b and c, d rounded and clamped to [0, 255] as 32 bytes each, in the order
//                                         of byte_place (kernels.h)
//   where_active(words, x)                x where the bfloat16 of its lane is not zero, else 0
//   load_sum(p)                           16 integers of 32 bits as floats
//   transpose(x, to, stride)              16 x 16 double words
// A kind K gives what first_layer (head_impl.h) asks of one, and
//   dot<c, a, b>()                        the product of tiles
//   value(sums, multiplier, bias)         16 sums of the layer, before ReLU
//   put(to, next, a, b, c, d)             32 columns of two rows: conversion, activations; 8-bit ones are clamped
// Rows of activations lie row_bytes(width, act_bytes) apart, as in other kernels.
#include "kinds.h"
#include "tile_period.h"

struct TileBf16 : Float<Vec, kTileBF16> {
  static constexpr int act_bytes = 2;
  template <int c, int a, int b>
  static LIIF_HD void dot() {
    Tiles::dot_bf16<c, a, b>();
  }
  static LIIF_HD Acc value(const char* sums, const float*, const float* bias) {
    return Vec::add(Vec::load(reinterpret_cast<const float*>(sums)), Vec::load(bias));
  }
  static LIIF_HD void put(char* to, char* next, Acc a, Acc b, Acc c, Acc d) {
    Vec::put_words(to, a, b);
    Vec::put_words(next, c, d);
  }
  template <int n>
  static void put(char* to, const Acc* x) {
    for (int v = 0; v < n; v += 2) Vec::put_words(to + 32 * v, x[v], x[v + 1]);
  }
};

// The specification of render.cpp: every operation rounds on its own.
struct TileInt8 : Float<Vec, kTileS8> {
  static constexpr int act_bytes = 1;
  static constexpr bool strict = true;
  template <int c, int a, int b>
  static LIIF_HD void dot() {
    Tiles::dot_int8<c, a, b>();
  }
  static LIIF_HD Acc value(const char* sums, const float* multiplier, const float* bias) {
    return Vec::add(Vec::mul(Vec::load_sum(sums), Vec::load(multiplier)), Vec::load(bias));
  }
  static LIIF_HD void put(char* to, char* next, Acc a, Acc b, Acc c, Acc d) { Vec::put_bytes(to, next, a, b, c, d); }
  template <int n>
  static void put(char*, const Acc*) {}  // of first_layer alone, which is asked for rows that are not finite
};

// ---- vector work for the sums of one period: two row tiles x 32 columns ---------------------------------------------

// A hidden layer's sums to the next one's inputs.
template <class K>
struct ToActivations {
  const char* sums;
  const float *multiplier, *bias;
  char* to;
  int64_t row;
  LIIF_HD void run(int unit) const {
    const int half = unit / 8, r = unit % 8 * 2;
    const char* from = sums + half * 2048 + r * 64;
    char* out = to + (half * 16 + r) * row;
    K::put(out, out + row, activated<K>(K::value(from, multiplier, bias)),
           activated<K>(K::value(from + 1024, multiplier + 16, bias + 16)),
           activated<K>(K::value(from + 64, multiplier, bias)),
           activated<K>(K::value(from + 1088, multiplier + 16, bias + 16)));
  }
};

// The last layer's sums of two corners of 16 queries to their part of the blend.
template <class K, bool first>
struct Blend {
  const char* sums;
  const float *multiplier, *bias, *weight[2];
  float* to;
  int64_t row;  // floats
  LIIF_HD void run(int q) const {
    const typename K::Acc w0 = Vec::set1(weight[0][q]), w1 = Vec::set1(weight[1][q]);
#pragma GCC unroll 2
    for (int n = 0; n < 2; ++n) {
      const char* from = sums + n * 1024 + q * 64;
      float* out = to + q * row + n * 16;
      const typename K::Acc y0 = Vec::relu(K::value(from, multiplier + 16 * n, bias + 16 * n));
      const typename K::Acc y1 = Vec::relu(K::value(from + 2048, multiplier + 16 * n, bias + 16 * n));
      Vec::store(out, Vec::fma(w1, y1, Vec::fma(w0, y0, first ? Vec::zero() : Vec::load(out))));
    }
  }
};

// The last layer's values of 32 rows; weighed: of queries without local ensemble, each with a corner of its own.
template <class K, bool weighed>
struct ToValues {
  const char* sums;
  const float *multiplier, *bias, *weight;
  float* to;
  int64_t row;  // floats
  LIIF_HD void run(int unit) const {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int r = unit * 2 + i / 2, n = i % 2;
      const char* from = sums + r / 16 * 2048 + n * 1024 + r % 16 * 64;
      const typename K::Acc y = Vec::relu(K::value(from, multiplier + 16 * n, bias + 16 * n));
      Vec::store(to + r * row + n * 16, weighed ? Vec::mul(Vec::set1(weight[r]), y) : y);
    }
  }
};
