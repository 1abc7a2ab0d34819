// corner_gather and its gradient on NVIDIA GPUs: the kernels, without torch (corner_gather.cpp has the operators).
#define LIIF_DEVICE __device__ __forceinline__
#define LIIF_KERNEL(blocks) __global__ __launch_bounds__(kThreads, blocks)
#define LIIF_RESTRICT __restrict__
#define LIIF_SHARED_ARRAY(type, name, count) __shared__ type name[count]
#define LIIF_LAUNCH(kernel, grid, block, stream, ...) \
  kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)

namespace liif::cuda {

constexpr int kThreads = 256;

static const char* message(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }
static const char* launched() { return message(cudaGetLastError()); }

static int multiprocessors() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count;
}

}  // namespace liif::cuda

#include "gather_launch.h"

namespace liif::cuda {

const char* use_device(int device) { return message(cudaSetDevice(device)); }

}  // namespace liif::cuda
