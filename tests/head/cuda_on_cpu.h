// Just enough of CUDA to run csrc/cuda's kernels on a CPU: every CUDA thread is a thread, so that a sanitizer sees what
// barriers and atomics order. Two blocks run at a time.
#pragma once
#include <pthread.h>
#include <sched.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "../../csrc/corners.h"

#define LIIF_CUDA_MOST_BLOCKS 3  // so that a few hundred queries give each block several tiles

#define LIIF_DEVICE inline
#define LIIF_KERNEL(blocks) inline
#define LIIF_RESTRICT __restrict
#define LIIF_SHARED_ARRAY(type, name, count) type* name = static_cast<type*>(shared_memory(sizeof(type) * (count)))
#define LIIF_LAUNCH(kernel, grid, block, stream, ...) ((void)(stream), launch(grid, block, [&] { kernel(__VA_ARGS__); }))

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// One block at work.
struct Block {
  pthread_barrier_t barrier;
  unsigned arrived;  // at all of only_wait's meetings so far
  alignas(16) unsigned char shared[48 << 10];
};

inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;
inline thread_local Block* this_block;
inline thread_local size_t shared_used;

inline void block_barrier() { pthread_barrier_wait(&this_block->barrier); }

// A check of the check: kernels without their barriers must be found out. Threads still wait for each other, so that
// accesses come in the same order and close together whatever the machine does meanwhile, but by relaxed atomics, which
// order nothing: a sanitizer sees a barrier's times without its promise.
inline bool without_barriers = false;

inline void only_wait() {
  const unsigned count = blockDim.x * blockDim.y;
  const unsigned mine = __atomic_fetch_add(&this_block->arrived, 1u, __ATOMIC_RELAXED);
  const unsigned all = (mine / count + 1) * count;
  while (__atomic_load_n(&this_block->arrived, __ATOMIC_RELAXED) < all) sched_yield();
}

inline void __syncthreads() {
  without_barriers ? only_wait() : block_barrier();
}

// Every thread of a block asks for the same pieces in the same order.
inline void* shared_memory(size_t bytes) {
  void* piece = this_block->shared + shared_used;
  shared_used += (bytes + 15) / 16 * 16;
  if (shared_used > sizeof this_block->shared) __builtin_trap();
  return piece;
}

template <class F>
void launch(dim3 grid, dim3 block, const F& kernel) {
  constexpr unsigned kAtATime = 2;
  static Block blocks[kAtATime];
  const unsigned count = block.x * block.y;
  std::vector<std::thread> threads;
  for (Block& b : blocks) pthread_barrier_init(&b.barrier, nullptr, count), b.arrived = 0;
  for (unsigned slot = 0; slot < kAtATime; ++slot) {
    for (unsigned t = 0; t < count; ++t) {
      threads.emplace_back([&, slot, t] {
        this_block = &blocks[slot], blockDim = block, gridDim = grid, threadIdx = dim3(t % block.x, t / block.x);
        for (uint64_t b = slot; b < uint64_t(grid.x) * grid.y; b += kAtATime) {
          blockIdx = dim3(unsigned(b % grid.x), unsigned(b / grid.x));
          shared_used = 0;
          // NaN and impossible rows, until they are written
          if (t == 0) std::memset(this_block->shared, 0xff, sizeof this_block->shared);
          block_barrier();
          kernel();
          block_barrier();
        }
      });
    }
  }
  for (std::thread& t : threads) t.join();
  for (Block& b : blocks) pthread_barrier_destroy(&b.barrier);
}

namespace liif::cuda {

constexpr int kThreads = 64;

inline const char* launched() { return nullptr; }
inline int multiprocessors() { return 2; }
inline int64_t exchange(int64_t* p, int64_t x) { return __atomic_exchange_n(p, x, __ATOMIC_RELAXED); }

inline float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline uint32_t to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
template <class W>
void store_words(void* p, const W& x) {
  *static_cast<W*>(p) = x;
}
struct Words;
Words load_words_once(const void* p);  // in cuda_on_cpu.cpp, where Words is known

template <class S>
S relu(S x) {
  return x < 0 ? 0 : x;
}

inline float half_to_float(uint16_t bits) {
  _Float16 x;
  std::memcpy(&x, &bits, sizeof x);
  return float(x);
}
inline uint32_t two_halves(float low, float high) {
  const _Float16 pair[2] = {_Float16(low), _Float16(high)};
  uint32_t bits;
  std::memcpy(&bits, pair, sizeof bits);
  return bits;
}
inline uint32_t bf16(float x) {
  const uint32_t bits = to_bits(x);
  return x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline uint32_t two_bf16(float low, float high) { return bf16(low) | bf16(high) << 16; }

}  // namespace liif::cuda
