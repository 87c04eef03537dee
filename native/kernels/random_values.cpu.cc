#include "random_values.h"

#include "../core/rng.h"
#include "../cpu/thread_pool.h"
#include "../cpu/vec.h"
#include "normal_quantile.h"

namespace simmim::SIMMIM_ISA {

constexpr int kWide = kLanes / 2;  // doubles in a register
typedef double Wide __attribute__((vector_size(kLanes * 4)));
typedef int64_t Longs __attribute__((vector_size(kLanes * 4)));
typedef uint64_t Words __attribute__((vector_size(kLanes * 4)));
typedef Wide StoredWide __attribute__((aligned(8), may_alias));
typedef Words StoredWords __attribute__((aligned(8), may_alias));
typedef int32_t Ints __attribute__((vector_size(kLanes * 2)));
typedef float Floats __attribute__((vector_size(kLanes * 2), aligned(4), may_alias));

/// Registers of doubles that are worked on in turn: each waits for its own sums only.
constexpr int kRegisters = 4, kDoubles = kRegisters * kWide;
struct Doubles {
  Wide part[kRegisters];
};

template <class F>
static SIMMIM_INLINE Doubles each(const F& f) {
  Doubles y;
#pragma GCC unroll 8
  for (int i = 0; i < kRegisters; i++) y.part[i] = f(i);
  return y;
}
static SIMMIM_INLINE Doubles operator+(const Doubles& a, const Doubles& b) { return each([&](int i) { return a.part[i] + b.part[i]; }); }
static SIMMIM_INLINE Doubles operator/(const Doubles& a, const Doubles& b) { return each([&](int i) { return a.part[i] / b.part[i]; }); }
static SIMMIM_INLINE Doubles operator+(const Doubles& a, double b) { return each([&](int i) { return a.part[i] + b; }); }
static SIMMIM_INLINE Doubles operator-(const Doubles& a, double b) { return each([&](int i) { return a.part[i] - b; }); }
static SIMMIM_INLINE Doubles operator-(double a, const Doubles& b) { return each([&](int i) { return a - b.part[i]; }); }
static SIMMIM_INLINE Doubles operator*(double a, const Doubles& b) { return each([&](int i) { return a * b.part[i]; }); }
/// As that of rounded_product.h; the products stay in their registers.
static SIMMIM_INLINE Doubles rounded_product(const Doubles& a, const Doubles& b) {
  return each([&](int i) {
    Wide product = a.part[i] * b.part[i];
#if defined(__x86_64__)
    asm("" : "+x"(product));
#elif defined(__aarch64__)
    asm("" : "+w"(product));
#else
    asm("" : "+m"(product));
#endif
    return product;
  });
}

static SIMMIM_INLINE Wide square_root(Wide v) {
#if defined(__AVX512F__)
  return _mm512_sqrt_pd(v);
#elif defined(__AVX2__)
  return _mm256_sqrt_pd(v);
#elif defined(__x86_64__)
  return _mm_sqrt_pd(v);
#else
  for (int i = 0; i < kWide; i++) v[i] = __builtin_sqrt(v[i]);
  return v;
#endif
}

/// Of positive normal numbers.
static SIMMIM_INLINE Doubles natural_log(const Doubles& x) {
  constexpr int64_t one = 0x3ff0000000000000, two52 = 0x4330000000000000;
  Doubles mantissa, exponent;
  for (int i = 0; i < kRegisters; i++) {
    const Longs bits = reinterpret_cast<Longs>(x.part[i]);
    const Longs biased = (bits + (one - __builtin_bit_cast(int64_t, kSqrtHalf))) >> 52;  // exponent + 1023
    mantissa.part[i] = reinterpret_cast<Wide>(bits - (biased << 52) + one);
    exponent.part[i] = reinterpret_cast<Wide>(biased + two52) - (0x1p52 + 1023);
  }
  return simmim::natural_log(mantissa, exponent);
}

static SIMMIM_INLINE Doubles outer_quantile(const Doubles& p) {
  const Doubles log = natural_log(each([&](int i) { return p.part[i] < 0.5 ? p.part[i] : 1.0 - p.part[i]; }));
  const Doubles q = tail_quantile(each([&](int i) { return square_root(-log.part[i]); }));
  return each([&](int i) { return p.part[i] < 0.5 ? -q.part[i] : q.part[i]; });
}

constexpr int kBlock = 512;  // numbers that are drawn in the first-level cache
struct Block {
  uint32_t words[kBlock];
  double p[kBlock];
  float y[kBlock];
};

/// The lower halves of a times b.
static SIMMIM_INLINE Words long_product(Words a, uint32_t b) {
#if defined(__AVX512F__)
  return reinterpret_cast<Words>(_mm512_mul_epu32(reinterpret_cast<__m512i>(a), _mm512_set1_epi64(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), _mm256_set1_epi64x(b)));
#elif defined(__x86_64__)
  return reinterpret_cast<Words>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), _mm_set1_epi64x(b)));
#else
  return (a & 0xffffffff) * uint64_t{b};
#endif
}

/// core/rng.h's philox for a register of counters. The upper halves of the lanes hold anything between the rounds.
static void draw_words(const RandomValues& k, int64_t begin, uint32_t* words) {
  constexpr int counters = kBlock / 4;
  uint64_t first[counters], second[counters];  // words 0 and 1, 2 and 3
  Words index;
  for (int lane = 0; lane < kWide; lane++) index[lane] = static_cast<uint64_t>(begin / 4 + lane);
  for (int at = 0; at < counters; at += kWide, index += kWide) {
    uint32_t k0 = static_cast<uint32_t>(k.seed), k1 = static_cast<uint32_t>(k.site);
    Words c0 = index, c1 = index >> 32, c2{}, c3{};
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
      const Words p0 = long_product(c0, 0xD2511F53u), p1 = long_product(c2, 0xCD9E8D57u);
      c0 = (p1 >> 32) ^ c1 ^ uint64_t{k0};
      c2 = (p0 >> 32) ^ c3 ^ uint64_t{k1};
      c1 = p1;
      c3 = p0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    *reinterpret_cast<StoredWords*>(first + at) = (c0 & 0xffffffff) | c1 << 32;
    *reinterpret_cast<StoredWords*>(second + at) = (c2 & 0xffffffff) | c3 << 32;
  }
  for (int at = 0; at < counters; at++) {
    words[4 * at] = static_cast<uint32_t>(first[at]);
    words[4 * at + 1] = static_cast<uint32_t>(first[at] >> 32);
    words[4 * at + 2] = static_cast<uint32_t>(second[at]);
    words[4 * at + 3] = static_cast<uint32_t>(second[at] >> 32);
  }
}

/// The numbers outside the central region, over what `central_quantile` has made of them.
static void draw_tails(Block& b, double scale) {
  int tails[kBlock + kDoubles], count = 0;
  for (int i = 0; i < kBlock; i++) {
    tails[count] = i;
    count += !(__builtin_fabs(b.p[i] - 0.5) <= kCentral);
  }
  for (int i = 0; i < kDoubles; i++) tails[count + i] = tails[0];
  for (int at = 0; at < count; at += kDoubles) {
    double values[kDoubles];
    for (int i = 0; i < kDoubles; i++) values[i] = b.p[tails[at + i]];
    const Doubles y = scale * outer_quantile(each([&](int i) { return *reinterpret_cast<const StoredWide*>(values + i * kWide); }));
    for (int i = 0; i < kRegisters; i++) *reinterpret_cast<StoredWide*>(values + i * kWide) = y.part[i];
    for (int i = 0; i < kDoubles; i++) b.y[tails[at + i]] = static_cast<float>(values[i]);
  }
}

static void draw_block(const RandomValues& k, Block& b) {
  const Wide width = (k.high - k.low) - Wide{};
  for (int at = 0; at < kBlock; at += kDoubles) {
    const Doubles u = each([&](int i) {
      Ints words;
      __builtin_memcpy(&words, b.words + at + i * kWide, sizeof words);
      return (__builtin_convertvector(words >> 8 & 0xffffff, Wide) + 0.5) * 0x1p-24;
    });
    const Doubles p = rounded_product(each([&](int) { return width; }), u) + k.low;
    const Doubles y = k.scale * (k.normal ? central_quantile(p - 0.5) : p);
    for (int i = 0; i < kRegisters; i++) {
      *reinterpret_cast<StoredWide*>(b.p + at + i * kWide) = p.part[i];
      *reinterpret_cast<Floats*>(b.y + at + i * kWide) = __builtin_convertvector(y.part[i], Floats);
    }
  }
  if (k.normal) draw_tails(b, k.scale);
}

void run(const RandomValues& k) {
  parallel_ranges(k.y.count(), 32 * kBlock, [&](int64_t begin, int64_t end) {
    Block block;
    for (int64_t at = begin; at < end; at += kBlock) {
      draw_words(k, at, block.words);
      draw_block(k, block);
      const int64_t some = end - at < kBlock ? end - at : kBlock;
      __builtin_memcpy(k.y.f32() + at, block.y, static_cast<size_t>(some) * sizeof(float));
    }
  });
}

}  // namespace simmim::SIMMIM_ISA
