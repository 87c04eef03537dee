// Draws from categorical distributions: y[b, m] = the first event whose cumulative probability exceeds the m-th draw, the last one
// where none does. The draws are those of the generator "alea" (Baagoe's multiply-with-carry) from the state given, the same for
// every row, so that a seed gives what it gives on tfjs's other backends. The cumulative sums are float32, in order.
// The draws come one after the other; rows and samples are shared out. N flops per row, log2 N comparisons per sample.
#pragma once
#include "../core/spec.h"

namespace simmim {

struct Multinomial {
  static constexpr const char* name = "multinomial";
  Tensor probabilities, y;  // [B, N], [B, M]
  double s0, s1, s2;
  int32_t carry;
  void* workspace = nullptr;
  static auto spec() {
    return fields(in("probabilities", &Multinomial::probabilities, kF32), out("y", &Multinomial::y, kI32), par("s0", &Multinomial::s0), par("s1", &Multinomial::s1), par("s2", &Multinomial::s2), par("carry", &Multinomial::carry));
  }
  void check() const {
    require(probabilities.shape.rank == 2 && y.shape.rank == 2 && probabilities.dim(0) == y.dim(0), "probabilities and y have ranks %d and %d, expected 2, and one number of rows", probabilities.shape.rank, y.shape.rank);
    require(probabilities.dim(1) >= 1 || y.count() == 0, "probabilities has no events");
  }
  /// The draws, and per row the cumulative sums of all events but the last.
  size_t workspace_bytes() const { return static_cast<size_t>(y.dim(1)) * sizeof(double) + static_cast<size_t>(probabilities.count()) * 4; }
};

}  // namespace simmim
