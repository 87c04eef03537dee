#include "fingerprint.h"

#include "kernels.h"

namespace simmim {
namespace {

/// FNV-1a
constexpr uint64_t mix(uint64_t hash, uint64_t value) { return (hash ^ value) * 1099511628211u; }

template <class K>
constexpr uint64_t mix_kernel(uint64_t hash) {
  for (const char* c = K::name; *c; c++) hash = mix(hash, static_cast<unsigned char>(*c));
  return mix(mix(hash, sizeof(K)), decltype(K::spec())::count);
}

}  // namespace

uint64_t kernels_fingerprint() {
  constexpr uint64_t fingerprint = [] {
    uint64_t hash = 14695981039346656037u;
#define KERNEL(K) hash = mix_kernel<K>(hash);
#include "kernels.def"
#undef KERNEL
    return hash;
  }();
  return fingerprint;
}

}  // namespace simmim
