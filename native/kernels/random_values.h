// Independent random numbers of one law, a model's first weights:
//   y[i] = scale Q(low + (high - low) u_i), Q the quantile of the standard normal, or the identity where not `normal`.
// u_i = (word i % 4 of philox(seed, site, 0, i / 4) >> 8, + 1/2) / 2^24, strictly between 0 and 1. In doubles, rounded once to y, with
// the bits of ts/ops/random_values.ts on every level and device. `normal` holds for probabilities above exp(-25) from 0 and 1.
// Parallel over numbers. Some 40 flops a number, twice that in the tails, and 5 integer products; bytes: one write of y.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct RandomValues {
  static constexpr const char* name = "random_values";
  Tensor y;
  int64_t seed, site;  // modulo 2^32
  double low, high, scale;
  bool normal;
  static auto spec() {
    return fields(out("y", &RandomValues::y, kF32), par("seed", &RandomValues::seed), par("site", &RandomValues::site), par("low", &RandomValues::low), par("high", &RandomValues::high), par("scale", &RandomValues::scale), par("normal", &RandomValues::normal));
  }
  void check() const {}
};

}  // namespace simmim
