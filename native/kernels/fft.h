// Discrete Fourier transform of each row: y[r, k] = sum_n x[r, n] exp(-2 pi i n k / N); inverse: + in the exponent, divided by N.
// Lengths whose prime factors are at most 13 run through Stockham's autosorting stages of radix 4, 2 and the odd primes, as many
// transforms at a time as a register has lanes. Long rows, and few of them, are cut in two (Bailey 1990): with N = N1 N2, N2
// transforms of length N1 down the columns, twiddles, and N1 transforms of length N2. Other lengths are convolutions of a power
// of two (Bluestein 1970). Twiddles are rounded from doubles; the error grows with log N. A NaN spreads over its row.
// Parallel over blocks of rows, or over columns and rows of the cut ones. About 5 N log2 N flops per row (Bluestein: 40 N log2 N);
// bytes: x and y once, a row in cache.
#pragma once
#include "../core/spec.h"

namespace simmim {

/// Floats of a piece of scratch memory, in whole registers, so that the next piece is aligned as well.
SIMMIM_INLINE int64_t whole_registers(int64_t floats) { return (floats + 15) / 16 * 16; }

/// How the transforms of `rows` rows of length n are laid out; follows from the shape alone. Sizes count floats.
struct FftPlan {
  static constexpr int64_t kLongest = 4096, kFewRows = 8, kMostLanes = 16, kMostGroups = 32;
  int64_t rows, n;
  int64_t n1 = 1, n2;        // n = n1 n2 where a row is cut, n1 = 1 where it is not
  int64_t table, cut, lanes;  // twiddles, the rows between the two steps, scratch of all groups

  static SIMMIM_INLINE int64_t largest_prime(int64_t n) {
    int64_t largest = 1;
    for (int64_t p = 2; p * p <= n; p++)
      while (n % p == 0) largest = p, n /= p;
    return n > largest ? n : largest;
  }
  static SIMMIM_INLINE bool is_smooth(int64_t n) { return largest_prime(n) <= 13; }
  static SIMMIM_INLINE int64_t groups(int64_t transforms) {
    const int64_t blocks = (transforms + 3) / 4;  // the fewest lanes that a level has
    return blocks < kMostGroups ? blocks : kMostGroups;
  }
  SIMMIM_INLINE FftPlan(int64_t transforms, int64_t length) : rows(transforms), n(length), n2(length), table(whole_registers(2 * length)), cut(0) {
    if (n > kLongest || (rows < kFewRows && n >= 256)) {
      for (int64_t d = 1; d * d <= n; d++)
        if (n % d == 0) n1 = d;
      n2 = n / n1;
      cut = whole_registers(2 * n);
    }
    const int64_t first = n1 > 1 ? groups(n2) * n1 : 0, second = groups(n1 > 1 ? n1 : rows) * n2;
    lanes = 4 * kMostLanes * (first > second ? first : second);
  }
  SIMMIM_INLINE int64_t floats() const { return table + cut + lanes; }
};

/// Bluestein's convolution for rows of length n, a block of rows at a time.
struct ChirpPlan {
  int64_t n, m, block, scratch;
  SIMMIM_INLINE ChirpPlan(int64_t rows, int64_t length) : n(length), m(padded(length)), block(rows < 16 ? rows : 16) {
    // The last block may be small and take the way of a single row.
    const FftPlan most(block, m), least(1, m);
    scratch = most.cut + most.lanes > least.cut + least.lanes ? most.cut + most.lanes : least.cut + least.lanes;
  }
  static SIMMIM_INLINE int64_t padded(int64_t n) {
    int64_t m = 1;
    while (m < 2 * n - 1) m *= 2;
    return m;
  }
  /// Roots of order 2 n, the chirp and its transform.
  SIMMIM_INLINE int64_t chirp() const { return whole_registers(6 * n + 2 * m); }
  SIMMIM_INLINE int64_t roots() const { return whole_registers(2 * m); }
  /// These, the roots of order m, scratch, and a block of padded rows before and after.
  SIMMIM_INLINE int64_t floats() const { return chirp() + roots() + scratch + 4 * block * m; }
};

/// The same on a GPU: every stage is parallel over rows and butterflies, in a block's shared memory where a row fits into it and
/// else from and to memory. Sizes count floats.
struct CudaFftPlan {
  static constexpr int64_t kBlockRow = 2048, kRing = int64_t{1} << 22;
  int64_t rows, n, m, block;  // Bluestein: m the padded length, `block` rows at a time; else m = 0
  SIMMIM_INLINE CudaFftPlan(int64_t transforms, int64_t length) : rows(transforms), n(length), m(0), block(0) {
    if (FftPlan::is_smooth(n)) return;
    m = ChirpPlan::padded(n);
    block = kRing / m < 1 ? 1 : kRing / m;
    if (block > rows) block = rows;
  }
  /// Rows between two stages.
  static SIMMIM_INLINE int64_t between(int64_t rows, int64_t n) { return n <= kBlockRow ? 0 : 2 * rows * n; }
  /// Roots, and for a chirp the chirp itself, its spectrum and a block of padded rows before and after.
  SIMMIM_INLINE int64_t floats() const { return m == 0 ? 2 * n + between(rows, n) : 2 * n + 4 * m + 4 * block * m + between(block, m); }
};

struct Fft {
  static constexpr const char* name = "fft";
  Tensor real, imag, y_real, y_imag;  // [R, N]
  bool inverse;
  void* workspace = nullptr;
  static auto spec() { return fields(in("real", &Fft::real, kF32), in("imag", &Fft::imag, kF32), out("y_real", &Fft::y_real, kF32), out("y_imag", &Fft::y_imag, kF32), par("inverse", &Fft::inverse)); }
  void check() const {
    require(real.shape.rank == 2, "real has rank %d, expected 2", real.shape.rank);
    require(imag.shape == real.shape && y_real.shape == real.shape && y_imag.shape == real.shape, "imag and the results must have the shape of real");
    require(real.dim(1) <= int64_t{1} << 26, "a row has %lld values, at most 2^26 are supported", static_cast<long long>(real.dim(1)));
  }
  size_t workspace_bytes() const {
    if (real.count() == 0) return 0;
    const int64_t rows = real.dim(0), n = real.dim(1);
    return static_cast<size_t>(FftPlan::is_smooth(n) ? FftPlan(rows, n).floats() : ChirpPlan(rows, n).floats()) * 4;
  }
  size_t cuda_workspace_bytes() const { return real.count() == 0 ? 0 : static_cast<size_t>(CudaFftPlan(real.dim(0), real.dim(1)).floats()) * 4; }
};

}  // namespace simmim
