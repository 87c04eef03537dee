// y[i] = start + i step, in doubles. Bytes: one write of y.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct Range {
  static constexpr const char* name = "range";
  Tensor y;
  double start, step;
  static auto spec() { return fields(out("y", &Range::y, kF32 | kI32), par("start", &Range::start), par("step", &Range::step)); }
  void check() const {}
};

}  // namespace simmim
