#include "multinomial.h"

#include "../cuda/bisect.cuh"
#include "../cuda/launch.cuh"
#include "rounded_product.h"

namespace simmim::cuda {

namespace {

/// The draws come one after the other: one thread makes them all.
struct MakeDraws {
  double s0, s1, s2;
  int32_t carry;
  int64_t samples;
  double* draws;
  __device__ void operator()(int64_t) const {
    double a = s0, b = s1, c = s2;
    int32_t over = carry;
    for (int64_t m = 0; m < samples; m++) {
      const double t = rounded_product(2091639, a) + over * 0x1p-32;  // as the generator is defined
      over = static_cast<int32_t>(t);
      a = b, b = c, c = t - over;
      draws[m] = c;
    }
  }
};

/// The largest cumulative sum so far at each event of a row, in float32 and in order, so that the first event above a draw can be
/// found by bisection.
struct Accumulate {
  const float* probabilities;
  float* sums;
  int64_t events;
  __device__ void operator()(int64_t b) const {
    float sum = 0, largest = -__builtin_inff();
    for (int64_t i = b * events; i < (b + 1) * events - 1; i++) {
      sum += probabilities[i];
      largest = sum > largest ? sum : largest;
      sums[i] = largest;
    }
  }
};

struct FindEvents {
  const double* draws;
  const float* sums;
  int32_t* y;
  int64_t samples, events;
  __device__ void operator()(int64_t at) const {
    const float* row = sums + at / samples * events;
    const double draw = draws[at % samples];
    y[at] = static_cast<int32_t>(first_not(events - 1, [&](int64_t i) { return !(draw < row[i]); }));
  }
};

}  // namespace

void run(const Multinomial& k, Stream& stream) {
  const int64_t rows = k.y.dim(0), samples = k.y.dim(1), events = k.probabilities.dim(1);
  if (rows * samples == 0) return;
  double* draws = static_cast<double*>(k.workspace);
  float* sums = reinterpret_cast<float*>(draws + samples);
  for_each(stream, 1, MakeDraws{k.s0, k.s1, k.s2, k.carry, samples, draws});
  for_each(stream, rows, Accumulate{k.probabilities.f32(), sums, events});
  for_each(stream, rows * samples, FindEvents{draws, sums, k.y.i32(), samples, events});
}

}  // namespace simmim::cuda
