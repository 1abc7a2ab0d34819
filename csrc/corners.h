// The index arithmetic of LIIF: which feature pixel a query reads, where it lies from it, and how much it counts.
//
// Shared by g++ and nvcc; its twin in Python is liif_fast.reference.corners. Every operation rounds once, in the order
// in which torch's own operators would do it, so that all implementations choose the same pixels as the official code
// (contracting a * b + c to one rounding flips pixels). On the device the __f*_rn intrinsics are never contracted; host
// code must be compiled with -ffp-contract=off.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define LIIF_HD __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define LIIF_HD __forceinline
#else
// always_inline: files compiled for different instruction sets include this header; an out-of-line copy of one of them
// must never be linked into another.
#define LIIF_HD inline __attribute__((always_inline))
#endif

namespace liif {

#if defined(__CUDA_ARCH__)
LIIF_HD float mul(float a, float b) { return __fmul_rn(a, b); }
LIIF_HD float add(float a, float b) { return __fadd_rn(a, b); }
LIIF_HD float div(float a, float b) { return __fdiv_rn(a, b); }
LIIF_HD double mul(double a, double b) { return __dmul_rn(a, b); }
LIIF_HD double add(double a, double b) { return __dadd_rn(a, b); }
LIIF_HD double div(double a, double b) { return __ddiv_rn(a, b); }
LIIF_HD float nearest_even(float a) { return rintf(a); }
LIIF_HD double nearest_even(double a) { return rint(a); }
#else
LIIF_HD float mul(float a, float b) { return a * b; }
LIIF_HD float add(float a, float b) { return a + b; }
LIIF_HD float div(float a, float b) { return a / b; }
LIIF_HD double mul(double a, double b) { return a * b; }
LIIF_HD double add(double a, double b) { return a + b; }
LIIF_HD double div(double a, double b) { return a / b; }
LIIF_HD float nearest_even(float a) { return __builtin_nearbyintf(a); }
LIIF_HD double nearest_even(double a) { return __builtin_nearbyint(a); }
#endif

// Constants of one axis of the feature map. T: float, or double with double features.
template <class T>
struct Axis {
  T n;           // pixels of the whole map
  T shift[2];    // towards the corners (v < 0, v > 0), with the epsilon that breaks ties
  T lo, hi;      // the shifted coordinate is clamped to them
  T step, first; // pixel i's centre is step * i + first
  int32_t origin;// where the part of the map that is at hand starts, in pixels of the whole
  int32_t extent;// and how many pixels it has
};

// Scalars are computed in double and rounded once, as Python does before torch sees them.
template <class T>
inline Axis<T> make_axis(int64_t size, int64_t origin, int64_t extent, bool ensemble) {
  const double n = double(size), epsilon = ensemble ? 1e-6 : 0.0, v = ensemble ? 1.0 : 0.0;
  Axis<T> a;
  a.n = T(n);
  a.shift[0] = T(-v / n + epsilon);
  a.shift[1] = T(v / n + epsilon);
  a.lo = T(-1 + 1e-6);
  a.hi = T(1 - 1e-6);
  a.step = T(2 / n);
  a.first = T(-1 + 1 / n);
  a.origin = int32_t(origin);
  a.extent = int32_t(extent);
  return a;
}

template <class T>
struct Near {
  int32_t index;  // in the part of the map at hand; always inside it
  bool inside;    // false: the pixel lies outside the part at hand, and index is its nearest neighbour there
  T rel;          // coordinate relative to the pixel's centre, in pixels
};

// The pixel nearest to coordinate c shifted to one side; side is 0 or 1 (always 0 without ensemble).
template <class T>
LIIF_HD Near<T> nearest(T c, const Axis<T>& a, int side) {
  T s = add(c, a.shift[side]);
  s = s < a.lo ? a.lo : s;
  s = s > a.hi ? a.hi : s;  // NaN passes both
  // grid_sample(mode="nearest", align_corners=False), ties to even
  const T t = nearest_even(mul(add(mul(add(s, T(1)), a.n), T(-1)), T(0.5)));
  Near<T> r;
  r.rel = mul(add(c, -add(mul(a.step, t), a.first)), a.n);
  // The comparison order sends NaN to pixel 0; its rel is NaN, and so is the result.
  const T in_map = t > T(0) ? (t < add(a.n, T(-1)) ? t : add(a.n, T(-1))) : T(0);
  const int32_t i = int32_t(in_map) - a.origin;
  r.index = i < 0 ? 0 : (i >= a.extent ? a.extent - 1 : i);
  r.inside = r.index == i || !(t == t);
  return r;
}

// Area weights of the four corners k = 2 * (vy > 0) + (vx > 0): each corner counts as much as the rectangle between the
// query and the diagonally opposite corner.
template <class T>
LIIF_HD void area_weights(const T ry[2], const T rx[2], T w[4]) {
  T area[4];
  for (int k = 0; k < 4; ++k) {
    const T product = mul(ry[k >> 1], rx[k & 1]);
    area[k] = add(product < T(0) ? -product : product, T(1e-9));
  }
  const T total = add(add(add(area[0], area[1]), area[2]), area[3]);
  for (int k = 0; k < 4; ++k) w[k] = div(area[3 - k], total);
}

// The weight of the only corner, without ensemble: 1, and NaN where the area is not finite.
template <class T>
LIIF_HD T lone_weight(T ry, T rx) {
  return add(T(1), mul(mul(ry, rx), T(0)));
}

}  // namespace liif
