// Element functions of the tfjs families beyond cpu/vmath.h. Included only by files compiled per level.
#pragma once
#include "../cpu/vmath.h"

namespace simmim::SIMMIM_ISA {

/// f on every lane, for functions too rare to be worth a polynomial: libm's float version.
template <class F>
SIMMIM_INLINE Vec lanes(Vec x, const F& f) {
  Vec y;
  for (int i = 0; i < kLanes; i++) y[i] = f(x[i]);
  return y;
}
#define LANES(function) lanes(x, [](float f) { return __builtin_##function(f); })

SIMMIM_INLINE Vec sign(Vec x) { return select(x > Vec{}, splat(1.0f), select(x < Vec{}, splat(-1.0f), Vec{})); }
SIMMIM_INLINE Vec clip(Vec x, Vec low, Vec high) { return select(x > high, high, select(x < low, low, x)); }

#if defined(__AVX512F__)
SIMMIM_INLINE Vec floor(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
SIMMIM_INLINE Vec ceil(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
SIMMIM_INLINE Vec round_even(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
#elif defined(__AVX2__)
SIMMIM_INLINE Vec floor(Vec x) { return _mm256_floor_ps(x); }
SIMMIM_INLINE Vec ceil(Vec x) { return _mm256_ceil_ps(x); }
SIMMIM_INLINE Vec round_even(Vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
#else
SIMMIM_INLINE Vec floor(Vec x) { return LANES(floorf); }
SIMMIM_INLINE Vec ceil(Vec x) { return LANES(ceilf); }
SIMMIM_INLINE Vec round_even(Vec x) { return LANES(nearbyintf); }
#endif

constexpr double kSeluScale = 1.0507009873554804934193349852946, kSeluAlpha = 1.6732632423543772848170429916717;

SIMMIM_INLINE Vec selu(Vec x) {
  const float scale = static_cast<float>(kSeluScale);
  return select(x >= Vec{}, splat(scale) * x, splat(static_cast<float>(kSeluScale * kSeluAlpha)) * expm1(x));
}
/// ln(1 + e^x); beyond the bounds one of the two terms is below the precision of float.
SIMMIM_INLINE Vec softplus(Vec x) {
  const Vec e = exp(x);
  return select(x > splat(13.94f), x, select(x < splat(-13.94f), e, log(splat(1.0f) + e)));
}

/// The double that JavaScript would store into an Int32Array: truncated, modulo 2^32, NaN and infinities 0.
SIMMIM_INLINE int32_t to_int32(double v) {
  if (v > -2147483649.0 && v < 2147483648.0) return static_cast<int32_t>(v);
  if (!(__builtin_fabs(v) < __builtin_inf())) return 0;
  const double t = __builtin_trunc(v), wrapped = t - __builtin_floor(t / 4294967296.0) * 4294967296.0;
  return static_cast<int32_t>(static_cast<uint32_t>(wrapped));
}

}  // namespace simmim::SIMMIM_ISA
