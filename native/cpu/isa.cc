#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "../core/error.h"

namespace simmim {
namespace {

const char* const kNames[kIsaLevels] = {"baseline", "avx2", "avx512"};

Isa from_environment() {
  const char* wanted = std::getenv("SIMMIM_ISA");
  if (!wanted || !*wanted) return detect_isa();
  for (int i = 0; i < kIsaLevels; i++)
    if (!std::strcmp(wanted, kNames[i])) {
      if (!isa_available(static_cast<Isa>(i))) fail_as("unsupported", "SIMMIM_ISA is %s, this machine has at most %s", wanted, kNames[static_cast<int>(detect_isa())]);
      return static_cast<Isa>(i);
    }
  fail("SIMMIM_ISA is '%s', expected baseline, avx2 or avx512", wanted);
}

std::atomic<int>& level() {
  static std::atomic<int> current{static_cast<int>(from_environment())};
  return current;
}

}  // namespace

const char* name_of(Isa isa) { return kNames[static_cast<int>(isa)]; }

bool isa_available(Isa isa) {
  if (isa == Isa::baseline) return true;
#if defined(SIMMIM_LEVEL_avx2) || defined(SIMMIM_LEVEL_avx512)
  __builtin_cpu_init();
#endif
#if defined(SIMMIM_LEVEL_avx2)
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#if defined(SIMMIM_LEVEL_avx512)
  if (isa == Isa::avx512) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
  return false;
}

Isa detect_isa() {
  for (int i = kIsaLevels - 1; i > 0; i--)
    if (isa_available(static_cast<Isa>(i))) return static_cast<Isa>(i);
  return Isa::baseline;
}

Isa current_isa() { return static_cast<Isa>(level().load(std::memory_order_relaxed)); }

void set_isa(Isa isa) {
  if (!isa_available(isa)) fail_as("unsupported", "this machine has no %s", name_of(isa));
  level().store(static_cast<int>(isa), std::memory_order_relaxed);
}

bool has_bf16_dot() {
#if defined(SIMMIM_LEVEL_avx512) && defined(SIMMIM_BF16_DOT)
  static const bool has = [] {
    const char* wish = std::getenv("SIMMIM_BF16");
    __builtin_cpu_init();
    return !(wish && !std::strcmp(wish, "emulate")) && __builtin_cpu_supports("avx512bf16");
  }();
  return has && current_isa() == Isa::avx512;
#else
  return false;
#endif
}

}  // namespace simmim
