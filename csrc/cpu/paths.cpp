// Which instruction sets this processor offers, and which kernels are used. The environment variable LIIF_FAST_CPU, or
// the operator cpu_use, names the highest path that may be used; default: all that the processor has. Paths in plain
// C++, for tests, are used only when they are named.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "../common.h"
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace liif {
namespace {

// From the slowest to the fastest; a later one is used where it has a kernel.
#if defined(__aarch64__)
const PathKernels* const kPaths[] = {&path_portable,       &path_neon,      &path_neon_dotprod,
                                     &path_neon_i8mm,      &path_neon_bf16, &path_plain_amx_int8,
                                     &path_plain_amx_bf16};
#else
const PathKernels* const kPaths[] = {&path_portable,    &path_avx2,        &path_avx_vnni, &path_avx512,
                                     &path_avx512_vnni, &path_avx512_bf16, &path_amx_int8, &path_amx_bf16,
                                     &path_plain_amx_int8, &path_plain_amx_bf16};
#endif
constexpr int kPathCount = int(sizeof kPaths / sizeof *kPaths), kOnRequest = kPathCount - 2;
const char* g_no_amx = nullptr;  // why not, on a processor that has it

// Bits of the paths that any processor has; released wheels are without those for tests.
unsigned everywhere() {
  unsigned result = 1;
  for (int i = kOnRequest; i < kPathCount; ++i) {
    if (kPaths[i]->bfloat16 || kPaths[i]->int8) result |= 1u << i;
  }
  return result;
}

#if defined(__x86_64__)
struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  Registers(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx); }
};

bool has(unsigned bits, std::initializer_list<int> wanted) {
  for (int bit : wanted) {
    if (!(bits >> bit & 1)) return false;
  }
  return true;
}

// The permission to use tiles, which Linux gives to a process, and to what it forks, on request; without it the first
// instruction that touches a tile is SIGILL. Refused where a thread's alternative signal stack is too small for them.
bool tiles_permitted() {
#if defined(__linux__)
  constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

// Eight tiles of 16 rows x 64 bytes, which the system saves and lets this process use.
bool has_tiles(unsigned saved) {
  const Registers seven(7, 0), most(0x1d, 0), palette(0x1d, 1);
  if (!has(seven.edx, {24})) return false;
  const unsigned names = palette.ebx >> 16, row = palette.ebx & 0xffff, rows = palette.ecx & 0xffff;
  const bool shape = most.eax >= 1 && names >= 8 && row >= 64 && rows >= 16;
  g_no_amx = !shape ? "other_tiles" : !has(saved, {17, 18}) ? "not_saved_by_the_system" : "no_permission";
  if (!shape || !has(saved, {17, 18}) || !tiles_permitted()) return false;
  g_no_amx = nullptr;
  return true;
}

// Bit i: the processor (and the operating system, which must save the registers) supports kPaths[i].
unsigned supported() {
  const Registers one(1, 0), seven(7, 0), more(7, 1);
  unsigned result = everywhere(), saved = 0, high = 0;
  if (has(one.ecx, {27})) __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  const bool avx2 = has(saved, {1, 2}) && has(one.ecx, {12, 28, 29}) && has(seven.ebx, {5});  // FMA, AVX, F16C; AVX2
  const bool avx512 = avx2 && has(saved, {5, 6, 7}) && has(seven.ebx, {16, 17, 30, 31});      // F, DQ, BW, VL
  if (avx2) result |= 1u << 1;
  if (avx2 && has(more.eax, {4})) result |= 1u << 2;
  if (avx512) result |= 1u << 3;
  if (avx512 && has(seven.ecx, {11})) result |= 1u << 4;
  if (avx512 && has(more.eax, {5})) result |= 1u << 5;
  const bool tiles = avx512 && has(more.eax, {5}) && has_tiles(saved);
  if (tiles && has(seven.edx, {25})) result |= 1u << 6;
  if (tiles && has(seven.edx, {22})) result |= 1u << 7;
  return result;
}
// vdpbf16ps starts once in two cycles on Intel's processors (measured on family 6 model 207), float32's multiply-add
// and vpdpwssd twice in one; AMD's do as many of each.
bool slow_bf16() { return Registers(0, 0).ebx == 0x756e6547; }  // "Genu"
#elif defined(__aarch64__)
// Whether there are FEAT_DotProd, FEAT_I8MM and FEAT_BF16: a bit each, from the lowest on.
unsigned features() {
#if defined(__linux__)
  // HWCAP_ASIMDDP; HWCAP2_I8MM and HWCAP2_BF16: headers of an older system do not name them
  return unsigned((getauxval(AT_HWCAP) >> 20 & 1) | (getauxval(AT_HWCAP2) >> 13 & 3) << 1);
#elif defined(__APPLE__)
  unsigned bits = 0, bit = 1;
  for (const char* name : {"FEAT_DotProd", "FEAT_I8MM", "FEAT_BF16"}) {
    int there = 0;
    size_t size = sizeof there;
    const bool known = sysctlbyname((std::string("hw.optional.arm.") + name).c_str(), &there, &size, nullptr, 0) == 0;
    if (known && there) bits |= bit;
    bit *= 2;
  }
  return bits;
#else
  return 0;
#endif
}

// Bit i: the processor supports kPaths[i].
unsigned supported() { return everywhere() | 1u << 1 | features() << 2; }
bool slow_bf16() { return false; }
#else
unsigned supported() { return everywhere(); }
bool slow_bf16() { return false; }
#endif

int find(const char* name) {
  for (int i = 0; i < kPathCount; ++i) {
    if (!std::strcmp(kPaths[i]->name, name)) return i;
  }
  return -1;
}

constexpr int kAuto = -1;

// What the environment asks for. An unknown name must not stop an import: cpu_info shows it.
int from_environment() {
  const char* name = std::getenv("LIIF_FAST_CPU");
  return name ? find(name) : kAuto;
}

const unsigned g_supported = supported();
const bool g_slow_bf16 = slow_bf16();
std::atomic<int> g_highest{from_environment()};  // a path, or kAuto

template <class Kernel, class Usable>
const Kernel* best(const Kernel* PathKernels::* member, Usable usable) {
  const Kernel* found = nullptr;
  const int highest = g_highest.load(std::memory_order_relaxed);
  for (int i = 0; i < kPathCount && (i <= highest || highest == kAuto); ++i) {
    if (i >= kOnRequest && i != highest) continue;
    const bool slow = kPaths[i] == &path_avx512_bf16 && g_slow_bf16 && i != highest;
    const Kernel* kernel = kPaths[i]->*member;
    if ((g_supported >> i & 1) && kernel && usable(*kernel) && !slow) found = kernel;
  }
  return found;
}

}  // namespace

const GatherKernel<float>& gather_kernel() {
  return *best(&PathKernels::gather, [](const auto&) { return true; });
}

const HeadKernel<float>& head_kernel(Compute compute, bool training) {
  const auto usable = [&](const HeadKernel<float>& kernel) { return !training || kernel.gradient_scratch; };
  if (compute == Compute::kInt8) return *best(&PathKernels::int8, usable);
  const HeadKernel<float>* narrow = nullptr;
  if (compute == Compute::kBfloat16) narrow = best(&PathKernels::bfloat16, usable);
  return narrow ? *narrow : *best(&PathKernels::float32, usable);  // bfloat16 by widening
}

// "key=value" separated by blanks: what the processor has, and the path in use for each type.
std::string cpu_info() {
  const auto supported_names = [](int first, int end) {
    std::string names;
    for (int i = first; i < end; ++i) {
      if (g_supported >> i & 1) names += (names.empty() ? "" : ",") + std::string(kPaths[i]->name);
    }
    return names;
  };
  std::string info = "available=" + supported_names(0, kOnRequest);
  info += " on_request=" + supported_names(kOnRequest, kPathCount);
  if (g_no_amx) info += std::string(" amx=") + g_no_amx;
  const char* asked = std::getenv("LIIF_FAST_CPU");
  if (asked && *asked && find(asked) < 0) info += " LIIF_FAST_CPU=" + std::string(asked) + "(unknown)";
  info += std::string(" float32=") + head_kernel(Compute::kFloat32).path;
  info += std::string(" bfloat16=") + head_kernel(Compute::kBfloat16).path;
  info += std::string(" float16=") + head_kernel(Compute::kFloat32).path;
  info += std::string(" int8=") + head_kernel(Compute::kInt8).path;
  info += std::string(" train_float32=") + head_kernel(Compute::kFloat32, true).path;
  info += std::string(" train_bfloat16=") + head_kernel(Compute::kBfloat16, true).path;
  return info + " float64=" + head_double.path + " gather=" + gather_kernel().path;
}

void cpu_use(std::string path) {
  const int i = path == "auto" ? kAuto : find(path.c_str());
  std::string names = "auto";
  for (const PathKernels* p : kPaths) names += std::string(", ") + p->name;
  check(i >= 0 || path == "auto", "path: one of ", names, " is wanted, got ", path);
  check(i == kAuto || (g_supported >> i & 1), "path: this processor has no ", path, " (", cpu_info(), ")");
  g_highest.store(i, std::memory_order_relaxed);
}

}  // namespace liif
