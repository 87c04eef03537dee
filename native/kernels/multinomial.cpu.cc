#include "multinomial.h"

#include "../cpu/bisect.h"
#include "../cpu/thread_pool.h"
#include "rounded_product.h"

namespace simmim::SIMMIM_ISA {

/// The largest cumulative sum so far at each event, so that the first event above a draw can be found by bisection.
static void accumulate(const float* p, int64_t events, float* sums) {
  float sum = 0, largest = -__builtin_inff();
  for (int64_t i = 0; i < events; i++) {
    sum += p[i];
    largest = sum > largest ? sum : largest;
    sums[i] = largest;
  }
}

void run(const Multinomial& k) {
  const int64_t rows = k.y.dim(0), samples = k.y.dim(1), events = k.probabilities.dim(1);
  if (rows * samples == 0) return;
  double* draws = static_cast<double*>(k.workspace);
  float* sums = reinterpret_cast<float*>(draws + samples);
  double s0 = k.s0, s1 = k.s1, s2 = k.s2;
  int32_t carry = k.carry;
  for (int64_t m = 0; m < samples; m++) {
    const double t = rounded_product(2091639, s0) + carry * 0x1p-32;  // as the generator is defined
    carry = static_cast<int32_t>(t);
    s0 = s1, s1 = s2, s2 = t - carry;
    draws[m] = s2;
  }
  parallel_ranges(rows, 16384 / events + 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) accumulate(k.probabilities.f32() + b * events, events - 1, sums + b * events);
  });
  parallel_ranges(rows * samples, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at++) {
      const float* row = sums + at / samples * events;
      const double draw = draws[at % samples];
      k.y.i32()[at] = static_cast<int32_t>(first_not(events - 1, [&](int64_t i) { return !(draw < row[i]); }));
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
