// Elementary functions on Vec, inlined into the kernels of each instruction-set level.
//
// Largest error over samples of inputs of every sign and exponent (test/native/vmath.test.ts), in units in
// the last place, with FMA / on the baseline level:
//
//   exp 1.0   expm1 1.4   log 0.8   log1p 0.9   tanh 1.3   sigmoid 2.3   erf 1.1 / 1.5
//
// Infinities, NaN, signed zeros and denormal results are right everywhere.
// The polynomials are minimax fits in the weight of the final relative error, made for this file.
#pragma once
#include "vec.h"

namespace simmim::SIMMIM_ISA {

constexpr float kInfinity = __builtin_inff();
constexpr float kNan = __builtin_nanf("");

/// 2^n for n in [-126, 127].
SIMMIM_INLINE Vec exp2_int(IVec n) { return from_bits((n + 127) << 23); }

/// c[0] + x c[1] + ... by Horner's rule.
template <int N>
SIMMIM_INLINE Vec polynomial(Vec x, const float (&c)[N]) {
  Vec y = splat(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; i--) y = fma(y, x, splat(c[i]));
  return y;
}

/// The same for N registers side by side: the steps of one value wait for each other, and the processor does not look far
/// enough ahead to fill the gaps with the next one's.
template <int N, int TERMS>
SIMMIM_INLINE void polynomials(const Vec (&x)[N], const float (&c)[TERMS], Vec (&y)[N]) {
  for (int i = 0; i < N; i++) y[i] = splat(c[TERMS - 1]);
#pragma GCC unroll 16
  for (int term = TERMS - 2; term >= 0; term--)
    for (int i = 0; i < N; i++) y[i] = fma(y[i], x[i], splat(c[term]));
}

/// x = n ln 2 + r with |r| <= 0.347 (n as a float and as an integer); for |x| < 2^20.
struct Reduced {
  Vec r;
  IVec n;
};
SIMMIM_INLINE Reduced reduce_ln2(Vec x) {
  const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  const Vec shifted = fma(x, splat(1.44269504088896341f), magic);
  const Vec n = shifted - magic;
  // ln 2 in two parts; the first has 15 bits, so that n times it is exact.
  const Vec r = fma(n, splat(-0.693145751953125f), x);
  return {fma(n, splat(-1.42860682030941723e-6f), r), bits(shifted) - 0x4b400000};
}

SIMMIM_INLINE Vec exp(Vec x) {
  static constexpr float c[] = {0.5000000068f, 0.1666666586f, 0.04166629374f, 0.008333498431f, 0.00139447551f, 0.0001978991335f};
  // Outside these bounds the result is 0 or infinity anyway. min and max keep their second operand when it is NaN.
  const Vec bounded = min(splat(89.5f), max(splat(-104.5f), x));
  const Reduced s = reduce_ln2(bounded);
  const Vec y = fma(s.r * s.r, polynomial(s.r, c), s.r) + 1.0f;
  // Two factors: 2^128 and the powers of denormal results do not fit one.
  const IVec half = s.n >> 1;
  return y * exp2_int(half) * exp2_int(s.n - half);
}

/// exp for x <= 0, as softmax needs it: one scaling less; below -87.3 the result is 0 instead of a denormal.
SIMMIM_INLINE Vec exp_nonpositive(Vec x) {
  static constexpr float c[] = {0.4999999341f, 0.1666652011f, 0.04166839425f, 0.008368780452f, 0.001381446581f};
  const Reduced s = reduce_ln2(max(splat(-87.5f), x));
  const Vec y = fma(s.r * s.r, polynomial(s.r, c), s.r) + 1.0f;
  return select(x < splat(-87.33654f), Vec{}, y * exp2_int(s.n));
}

/// 2^x for x <= 0, of N registers side by side: what softmax needs, after one multiplication by log2(e). Relative error 1.5e-7; 0 from
/// -150 down at the latest (-126.5 on levels without AVX-512).
template <int N>
SIMMIM_INLINE void exp2_nonpositive(Vec (&x)[N]) {
  static constexpr float c[] = {1.0f, 0.6931472031f, 0.2402264788f, 0.05550331854f, 0.00961843985f, 0.001339913252f, 0.0001535315317f};
  Vec y[N];
#if defined(__AVX512F__)
  Vec n[N];
  for (int i = 0; i < N; i++) {
    x[i] = max(splat(-160.0f), x[i]);
    n[i] = _mm512_roundscale_ps(x[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    x[i] -= n[i];
  }
  polynomials(x, c, y);
  for (int i = 0; i < N; i++) x[i] = _mm512_scalef_ps(y[i], n[i]);
#else
  Vec shifted[N];
  constexpr float magic = 12582912.0f + 127;  // as in reduce_ln2; the low bits are n + 127, the exponent of 2^n
  for (int i = 0; i < N; i++) shifted[i] = max(splat(-127.0f), x[i]) + magic;  // -127 has the exponent of 0
  for (int i = 0; i < N; i++) x[i] = max(splat(-127.0f), x[i]) - (shifted[i] - magic);
  polynomials(x, c, y);
  for (int i = 0; i < N; i++) x[i] = y[i] * from_bits(bits(shifted[i]) << 23);
#endif
}
SIMMIM_INLINE Vec exp2_nonpositive(Vec x) {
  Vec one[] = {x};
  exp2_nonpositive(one);
  return one[0];
}

SIMMIM_INLINE Vec expm1(Vec x) {
  static constexpr float c[] = {0.5000000047f, 0.1666666682f, 0.04166635347f, 0.008333272614f, 0.001394110829f, 0.0001991440292f};
  const Vec bounded = min(splat(89.0f), max(splat(-20.0f), x));
  const Reduced s = reduce_ln2(bounded);
  const Vec p = fma(s.r * s.r, polynomial(s.r, c), s.r);  // e^r - 1
  const Vec scale = exp2_int(s.n - 1);                    // 2^n / 2: 2^128 does not fit
  const Vec result = fma(scale, p, scale - 0.5f) * 2.0f;
  return select(x == 0.0f, x, select(s.n == 0, p, result));  // near 0 there is nothing to scale; -0 stays
}

/// log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1], plus n ln 2 and a correction.
SIMMIM_INLINE Vec log_reduced(Vec f, Vec n, Vec correction) {
  static constexpr float c[] = {0.3333331049f, -0.2499998633f, 0.2000222422f, -0.1666926293f, 0.1421870316f,
                                -0.123841748f, 0.1187254789f, -0.1179062219f, 0.06917144032f};
  const Vec square = f * f;
  Vec y = fma(square * f, polynomial(f, c), correction);
  y = fma(n, splat(1.42860682030941723e-6f), y);
  y = fma(square, splat(-0.5f), y);
  return fma(n, splat(0.693145751953125f), f + y);
}
/// v = 2^n m with m in [sqrt(1/2), sqrt(2)); v positive and normal.
SIMMIM_INLINE Vec split_exponent(Vec v, Vec* n) {
  const IVec offset = bits(v) - 0x3f3504f3;
  *n = __builtin_convertvector(offset >> 23, Vec);
  return from_bits((offset & 0x7fffff) + 0x3f3504f3);
}

SIMMIM_INLINE Vec log(Vec x) {
  const IVec denormal = x < splat(1.17549435e-38f);
  Vec n;
  const Vec m = split_exponent(select(denormal, x * 8388608.0f, x), &n);
  Vec y = log_reduced(m - 1.0f, n - select(denormal, splat(23.0f), Vec{}), Vec{});
  y = select(x == kInfinity, x, y);
  y = select(x == 0.0f, splat(-kInfinity), y);
  return select((x < 0.0f) | (x != x), splat(kNan), y);
}

SIMMIM_INLINE Vec log1p(Vec x) {
  const Vec u = 1.0f + x;
  // What the sum lost, relative to u: log(1 + x) = log(u) + lost / u.
  const Vec lost = select(x < 1.0f, x - (u - 1.0f), 1.0f - (u - x)) / u;
  Vec n;
  const Vec m = split_exponent(u, &n);
  Vec y = log_reduced(m - 1.0f, n, lost);
  y = select(abs(x) < 1e-5f, fma(x * x, splat(-0.5f), x), y);
  y = select((x == kInfinity) | (x == 0.0f), x, y);
  y = select(x == -1.0f, splat(-kInfinity), y);
  return select((x < -1.0f) | (x != x), splat(kNan), y);
}

SIMMIM_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  return from_bits(bits(magnitude) | (bits(sign) & static_cast<int32_t>(0x80000000)));
}

SIMMIM_INLINE Vec tanh(Vec x) {
  static constexpr float c[] = {-0.3333333091f, 0.1333320977f, -0.0539472046f, 0.0217029687f, -0.00818267745f, 0.002147539895f};
  const Vec a = abs(x), square = a * a;
  const Vec small = fma(a * square, polynomial(square, c), a);
  const Vec large = 1.0f - 2.0f / (exp(2.0f * min(splat(10.0f), a)) + 1.0f);
  return copy_sign(select(a < 0.625f, small, large), x);
}

SIMMIM_INLINE Vec sigmoid(Vec x) {
  const Vec e = exp(-abs(x));  // never overflows, and keeps the denormal results of very negative x
  return select(x < 0.0f, e, splat(1.0f)) / (1.0f + e);
}

SIMMIM_INLINE Vec erf(Vec x) {
  // |x| < 1: x + x P(x²).  |x| >= 1: 1 - exp(Q(|x|)), Q = log(erfc); from 4 on the result is 1.
  static constexpr float p[] = {0.1283791657f, -0.3761262584f, 0.1128358525f, -0.02685381458f, 0.005188330483f, -0.0008010202699f, 7.853849828e-5f};
  static constexpr float q[] = {-0.000341522933f, -1.12708919f, -0.6381448327f, -0.1031067544f, 0.02183806383f, -0.002947658231f, 0.0001863791821f};
  const Vec a = abs(x);
  const Vec small = fma(a, polynomial(a * a, p), a);
  const Vec large = 1.0f - exp_nonpositive(polynomial(min(splat(4.0f), a), q));
  return copy_sign(select(a < 1.0f, small, large), x);
}

}  // namespace simmim::SIMMIM_ISA
