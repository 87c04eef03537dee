#include "softmax.h"

#include "../cpu/thread_pool.h"
#include "elementary.h"

namespace simmim::SIMMIM_ISA {

static void softmax_row(const float* x, float* y, int64_t n) {
  const int rest = static_cast<int>(n % kLanes);
  const int64_t whole = n - rest;
  const float lowest = -__builtin_inff();
  Vec top = splat(lowest);
  for (int64_t i = 0; i < whole; i += kLanes) {
    const Vec v = load(x + i);
    top = select((v > top) | (v != v), v, top);
  }
  if (rest) {
    const Vec v = load_n(x + whole, rest, lowest);
    top = select((v > top) | (v != v), v, top);
  }
  float peak = top[0];
  for (int lane = 1; lane < kLanes; lane++)
    if (top[lane] > peak || top[lane] != top[lane]) peak = top[lane];
  const Vec shift = splat(peak);
  Vec total = Vec{};
  for (int64_t i = 0; i < whole; i += kLanes) {
    const Vec e = exp(load(x + i) - shift);
    total += e;
    store(y + i, e);
  }
  if (rest) {
    const Vec e = exp(load_n(x + whole, rest, lowest) - shift);
    total += select(load_n(x + whole, rest, lowest) == splat(lowest), Vec{}, e);
    store_n(y + whole, e, rest);
  }
  const Vec scale = splat(1.0f / sum(total));
  for (int64_t i = 0; i < whole; i += kLanes) store(y + i, load(y + i) * scale);
  if (rest) store_n(y + whole, load_n(y + whole, rest) * scale, rest);
}

void run(const Softmax& k) {
  const int64_t n = k.x.dim(1);
  parallel_ranges(k.x.dim(0), 8192 / (n + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) softmax_row(k.x.f32() + r * n, k.y.f32() + r * n, n);
  });
}

}  // namespace simmim::SIMMIM_ISA
