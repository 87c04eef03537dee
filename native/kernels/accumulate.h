// flat[offset + i] += gradient[i], or = with `overwrite`: a gradient goes to its place in the flat buffer of all gradients.
// Parallel over blocks. 12 bytes an element, 8 with overwrite.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct Accumulate {
  static constexpr const char* name = "accumulate";
  Tensor flat;      // [n]
  Tensor gradient;  // any shape, read row-major
  int64_t offset;   // in elements
  bool overwrite;
  static auto spec() {
    return fields(inout("flat", &Accumulate::flat, kF32), in("gradient", &Accumulate::gradient, kF32), par("offset", &Accumulate::offset), par("overwrite", &Accumulate::overwrite));
  }
  void check() const {
    require(offset >= 0 && offset + gradient.count() <= flat.count(), "gradient of %lld elements does not fit at offset %lld of flat, which has %lld",
            (long long)gradient.count(), (long long)offset, (long long)flat.count());
  }
};

}  // namespace simmim
