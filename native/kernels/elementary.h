// Element functions of the tfjs families beyond cpu/vmath.h. Included only by files compiled per level.
#pragma once
#include "../cpu/all_zero.h"
#include "../cpu/gelu.h"
#include "../cpu/vmath.h"
#include "scalar_ops.h"

namespace simmim::SIMMIM_ISA {

/// f on every lane, for functions too rare to be worth a polynomial: libm's float version.
template <class F>
SIMMIM_INLINE Vec lanes(Vec x, const F& f) {
  Vec y;
  for (int i = 0; i < kLanes; i++) y[i] = f(x[i]);
  return y;
}
#define LANES(function) lanes(x, [](float f) { return __builtin_##function(f); })

using simmim::to_int32;
/// The same on every lane: where all of them fit, which is nearly always, one instruction.
SIMMIM_INLINE IVec to_int32(Vec x) {
  const IVec beyond = ~(abs(x) < 0x1p31f);
  if (all_zero(from_bits(beyond))) return __builtin_convertvector(x, IVec);
  IVec y;
  for (int i = 0; i < kLanes; i++) y[i] = to_int32(static_cast<double>(x[i]));
  return y;
}

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

SIMMIM_INLINE Vec selu(Vec x) {
  const float scale = static_cast<float>(kSeluScale);
  return select(x >= Vec{}, splat(scale) * x, splat(static_cast<float>(kSeluScale * kSeluAlpha)) * expm1(x));
}
/// ln(1 + e^x); beyond the bounds one of the two terms is below the precision of float.
SIMMIM_INLINE Vec softplus(Vec x) {
  const Vec e = exp(x);
  return select(x > splat(13.94f), x, select(x < splat(-13.94f), e, log(splat(1.0f) + e)));
}

}  // namespace simmim::SIMMIM_ISA
