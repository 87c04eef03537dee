// Division by numbers that stay the same for a whole launch: one multiplication and a shift (Granlund and Montgomery,
// PLDI 1994), for dividends below 2^31.
#pragma once
#include "device.cuh"

namespace simmim::cuda {

class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(uint32_t divisor) : divisor_(divisor) {
    while (shift_ < 31 && (uint32_t{1} << shift_) < divisor) shift_++;
    multiplier_ = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift_) - divisor)) / divisor + 1);
  }
  SIMMIM_DEVICE uint32_t quotient(uint32_t n) const { return static_cast<uint32_t>(((static_cast<uint64_t>(n) * multiplier_ >> 32) + n) >> shift_); }
  SIMMIM_DEVICE uint32_t value() const { return divisor_; }

 private:
  uint32_t divisor_ = 1, multiplier_ = 0, shift_ = 0;
};

/// The places in `Operands` tensors of element number i of an index space with rank dims: per operand a step of
/// elements for each dim. Index spaces of 2^31 elements and more divide in 64 bits.
template <int Operands>
struct Places {
  static constexpr int kMost = 25;
  int rank = 0;
  bool wide = false;
  int64_t dims[kMost];
  Divisor divisors[kMost];
  int64_t steps[Operands][kMost];

  void add(int64_t dim, const int64_t (&step)[Operands]) {
    dims[rank] = dim;
    divisors[rank] = Divisor(dim < (int64_t{1} << 31) ? static_cast<uint32_t>(dim) : 1);
    for (int o = 0; o < Operands; o++) steps[o][rank] = step[o];
    rank++;
  }
  SIMMIM_DEVICE void find(int64_t i, int64_t (&at)[Operands]) const {
    for (int o = 0; o < Operands; o++) at[o] = 0;
    if (wide) {
      for (int d = rank - 1; d >= 0; d--) {
        move(at, d, i % dims[d]);
        i /= dims[d];
      }
      return;
    }
    uint32_t rest = static_cast<uint32_t>(i);
    for (int d = rank - 1; d > 0; d--) {
      const uint32_t q = divisors[d].quotient(rest);
      move(at, d, rest - q * divisors[d].value());
      rest = q;
    }
    if (rank > 0) move(at, 0, rest);
  }

 private:
  SIMMIM_DEVICE void move(int64_t (&at)[Operands], int d, int64_t by) const {
    for (int o = 0; o < Operands; o++) at[o] += by * steps[o][d];
  }
};

/// The coordinates of element number i of an index space of N dims; with 2^31 elements and more it divides in 64 bits.
template <int N>
class Coordinates {
 public:
  Coordinates() = default;
  explicit Coordinates(const int64_t (&dims)[N]) {
    int64_t count = 1;
    for (int d = 0; d < N; d++) {
      dims_[d] = dims[d];
      count *= dims[d];
    }
    wide_ = count >= int64_t{1} << 31;
    for (int d = 0; d < N && count > 0 && !wide_; d++) divisors_[d] = Divisor(static_cast<uint32_t>(dims[d]));
  }
  SIMMIM_DEVICE void find(int64_t i, int64_t (&at)[N]) const {
    if (wide_) {
      for (int d = N - 1; d > 0; d--) {
        at[d] = i % dims_[d];
        i /= dims_[d];
      }
      at[0] = i;
      return;
    }
    uint32_t rest = static_cast<uint32_t>(i);
    for (int d = N - 1; d > 0; d--) {
      const uint32_t q = divisors_[d].quotient(rest);
      at[d] = rest - q * divisors_[d].value();
      rest = q;
    }
    at[0] = rest;
  }

 private:
  int64_t dims_[N];
  Divisor divisors_[N];
  bool wide_;
};

}  // namespace simmim::cuda
