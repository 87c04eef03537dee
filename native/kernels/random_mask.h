// SimMIM's random mask (section 3.1; official MaskGenerator): in each sample exactly `count` cells of a gh x gw grid hidden.
//   clock int32 [4] = seed, step, micro, 0 -> y [B, gh repeat, gw repeat], 1 = hidden.
// The key of cell c of sample b is word 0 of philox(seed, site, step, (micro B + b) gh gw + c); hidden are the cells with the
// `count` smallest (key, c). Parallel over samples. The count-th smallest pair is found bit by bit: 64 counting passes.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct RandomMask {
  static constexpr const char* name = "random_mask";
  Tensor clock;  // [4]
  Tensor y;      // [B, gh repeat, gw repeat]
  int64_t site;
  int64_t count;
  int64_t repeat;
  void* workspace = nullptr;  // keys, uint64 [B, gh gw]
  static auto spec() {
    return fields(in("clock", &RandomMask::clock, kI32), out("y", &RandomMask::y, kF32), par("site", &RandomMask::site), par("count", &RandomMask::count), par("repeat", &RandomMask::repeat));
  }
  SIMMIM_INLINE int64_t rows() const { return y.dim(1) / repeat; }
  SIMMIM_INLINE int64_t columns() const { return y.dim(2) / repeat; }
  size_t workspace_bytes() const { return static_cast<size_t>(y.dim(0) * rows() * columns()) * 8; }
  void check() const {
    require(clock.count() == 4, "clock has %lld values, expected 4 = seed, step, micro, 0", (long long)clock.count());
    require(y.shape.rank == 3, "y has rank %d, expected 3 = [B, gh*repeat, gw*repeat]", y.shape.rank);
    require(repeat >= 1 && y.dim(1) % repeat == 0 && y.dim(2) % repeat == 0, "repeat is %lld, expected a divisor of the %lld x %lld mask", (long long)repeat, (long long)y.dim(1), (long long)y.dim(2));
    require(count >= 0 && count <= rows() * columns(), "count is %lld, expected at most %lld, the cells of a %lld x %lld grid", (long long)count, (long long)(rows() * columns()), (long long)rows(), (long long)columns());
  }
};

}  // namespace simmim
