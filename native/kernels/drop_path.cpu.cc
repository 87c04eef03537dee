#include "drop_path.h"

#include "../core/rng.h"
#include "../cpu/reduce.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

/// keep[b] / (1 - rate); compared and divided in double, as the composed form does.
static float keep_factor(const int32_t* clock, double rate, int64_t site, int64_t batch, int64_t b) {
  const PhiloxWords words = philox(static_cast<uint32_t>(clock[0]), static_cast<uint32_t>(site), static_cast<uint32_t>(clock[1]), static_cast<uint64_t>(clock[2] * batch + b));
  return uniform_from_word(words.w[0]) >= rate ? static_cast<float>(1 / (1 - rate)) : 0.0f;
}

/// f(factor, begin, end) over pieces of samples.
template <class F>
static void for_samples(const Tensor& x, const Tensor& clock, double rate, int64_t site, const F& f) {
  const int64_t batch = x.dim(0), size = x.shape.span(1, x.shape.rank), piece = 16384, pieces = (size + piece - 1) / piece;
  parallel_ranges(batch * pieces, 1, [&](int64_t item, int64_t) {
    const int64_t b = item / pieces, begin = item % pieces * piece, end = begin + piece < size ? begin + piece : size;
    f(keep_factor(clock.i32(), rate, site, batch, b), b * size + begin, b * size + end);
  });
}

void run(const DropPath& k) {
  with_floats(k.x, [&](const auto* x) {
    with_floats(k.y, [&](auto* y) {
      const auto* residual = static_cast<decltype(y)>(k.residual.data);
      for_samples(k.x, k.clock, k.rate, k.site, [&](float factor, int64_t begin, int64_t end) {
        for_lanes(end - begin, [&](int64_t i, int n) {
          const Vec r = load_lanes(residual + begin + i, n);
          store_lanes(y + begin + i, factor == 0 ? r : fma(load_lanes(x + begin + i, n), splat(factor), r), n);
        });
      });
    });
  });
}

void run(const DropPathGrad& k) {
  with_floats(k.dy, [&](const auto* dy) {
    with_floats(k.dx, [&](auto* dx) {
      for_samples(k.dy, k.clock, k.rate, k.site, [&](float factor, int64_t begin, int64_t end) {
        for_lanes(end - begin, [&](int64_t i, int n) { store_lanes(dx + begin + i, factor == 0 ? Vec{} : load_lanes(dy + begin + i, n) * factor, n); });
      });
    });
  });
}

}  // namespace simmim::SIMMIM_ISA
