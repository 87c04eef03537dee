// y = value everywhere. Used for zeros, ones and constants; bytes: one write of y.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct Fill {
  static constexpr const char* name = "fill";
  Tensor y;
  double value;
  static auto spec() { return fields(out("y", &Fill::y, kStored), par("value", &Fill::value)); }
  void check() const {}
};

}  // namespace simmim
