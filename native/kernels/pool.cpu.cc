#include "pool.h"

#include "../cpu/reduce.h"
#include "../cpu/thread_pool.h"

namespace simmim::SIMMIM_ISA {

// Registers of integers, beside those of floats.
SIMMIM_INLINE IVec load_lanes(const int32_t* p, int lanes) {
  if (lanes == kLanes) return load(p);
  IVec v{};
  for (int i = 0; i < lanes; i++) v[i] = p[i];
  return v;
}
SIMMIM_INLINE void store_lanes(int32_t* p, IVec v, int lanes) {
  if (lanes == kLanes) return store(p, v);
  for (int i = 0; i < lanes; i++) p[i] = v[i];
}
SIMMIM_INLINE IVec gather(const int32_t* p, IVec index) {
  IVec v;
  for (int i = 0; i < kLanes; i++) v[i] = p[index[i]];
  return v;
}

namespace {

constexpr int64_t kLine = 4096;  // values of a line that are reduced at a time
constexpr int64_t kBand = WindowPieces::kBand;
constexpr int kRows = 32;  // lines that are reduced at a time

template <class T>
struct LanesOf { using Type = Vec; };
template <>
struct LanesOf<int32_t> { using Type = IVec; };
template <class T>
using Lanes = typename LanesOf<T>::Type;

SIMMIM_INLINE IVec iota() {
  IVec v;
  for (int i = 0; i < kLanes; i++) v[i] = i;
  return v;
}

/// Ways to reduce a window: NaN is never larger.
template <class T>
struct Largest {
  using Value = T;
  static SIMMIM_INLINE Lanes<T> zero() {
    if constexpr (__is_same(T, float)) return splat(-__builtin_inff());
    else return splat(int32_t{-2147483647 - 1});
  }
  static SIMMIM_INLINE Lanes<T> join(Lanes<T> a, Lanes<T> x) { return x > a ? x : a; }
};
struct Total {
  using Value = float;
  static SIMMIM_INLINE Vec zero() { return Vec{}; }
  static SIMMIM_INLINE Vec join(Vec a, Vec x) { return a + x; }
};

/// kLanes neighbouring results of a line of results, channels innermost: what they read at tap 0.
struct Block {
  IVec column, channel;
  int64_t first_column, first_channel;  // of lane 0
  int lanes;
  bool together;  // channels of one position: neighbours in memory
};

/// Blocks of the results [0, count) with `n` channels from `first` on; f(block, number of its first result times C plus channel).
template <class F>
SIMMIM_INLINE void each_block(const Window& w, int64_t count, int64_t c, int64_t first, int64_t n, const F& f) {
  const int64_t stride = w.stride[2], pad = w.pad[2];
  if (c >= kLanes) {
    for (int64_t r = 0; r < count; r++)
      for_lanes(n, [&](int64_t t, int lanes) {
        const int32_t column = static_cast<int32_t>(r * stride - pad), channel = static_cast<int32_t>(first + t);
        f(Block{splat(column), iota() + channel, column, channel, lanes, true}, r * c + channel);
      });
    return;
  }
  const float inverse = 1.0f / static_cast<float>(c);
  for (int64_t r = 0; r < count; r += 1024) {  // numbers that the division below gets right
    const int64_t some = count - r < 1024 ? count - r : 1024;
    for_lanes(some * c, [&](int64_t o, int lanes) {
      const IVec number = iota() + static_cast<int32_t>(o);
      const IVec position = __builtin_convertvector((__builtin_convertvector(number, Vec) + 0.5f) * inverse, IVec);
      const IVec channel = number - position * static_cast<int32_t>(c);
      IVec column = (position + static_cast<int32_t>(r)) * static_cast<int32_t>(stride) - static_cast<int32_t>(pad);
      if (lanes < kLanes) column = iota() < splat(lanes) ? column : splat(int32_t{-(1 << 30)});  // lanes without a result read nothing
      f(Block{column, channel, column[0], channel[0], lanes, false}, r * c + o);
    });
  }
}

/// The lines of x that the windows at `at` read, as pointers; returns how many there are of them from number `skip` on, at most kRows.
template <class T>
int some_lines(const T* sample, const Shape& x, const Window& w, const int64_t* at, const Inside& in, int64_t skip, const T** lines) {
  int n = 0;
  int64_t number = 0;
  for (int64_t i = in.begin[0]; i < in.end[0]; i++)
    for (int64_t j = in.begin[1]; j < in.end[1]; j++, number++)
      if (number >= skip && n < kRows) lines[n++] = sample + (w.source(0, at[0], i) * x.dims[2] + w.source(1, at[1], j)) * x.dims[3] * x.dims[4];
  return n;
}

/// line [columns, n] = what the windows' lines have in common, for columns [begin, end) and n channels from `first`.
template <class R, class T>
void reduce_lines(const T* sample, const Shape& x, const Window& w, const int64_t* at, const Inside& in, int64_t begin, int64_t end, int64_t first, int64_t n, T* line) {
  const int64_t c = x.dims[4];
  const T* rows[kRows];
  int count;
  for (int64_t done = 0; done == 0 || count > 0; done += kRows) {
    count = some_lines(sample, x, w, at, in, done, rows);
    const auto reduce = [&](int64_t from, int64_t to, int64_t length) {
      for_lanes(length, [&](int64_t t, int lanes) {
        Lanes<T> v = done == 0 ? R::zero() : load_lanes(line + to + t, lanes);
        for (int k = 0; k < count; k++) v = R::join(v, load_lanes(rows[k] + from + t, lanes));
        store_lanes(line + to + t, v, lanes);
      });
    };
    if (n == c) reduce(begin * c, 0, (end - begin) * c);
    else
      for (int64_t column = begin; column < end; column++) reduce(column * c + first, (column - begin) * n, n);
  }
}

/// Reduces a line [columns from `start` on, n] along the width for `count` results; f(value, positions inside, block, number).
template <class R, class T, class F>
SIMMIM_INLINE void reduce_width(const T* line, int64_t start, int64_t n, int64_t width, const Window& w, int64_t count, int64_t c, int64_t first, const F& f) {
  each_block(w, count, c, first, n, [&](const Block& b, int64_t number) {
    Lanes<T> v = R::zero();
    Vec inside{};
    for (int64_t k = 0; k < w.size[2]; k++) {
      const int64_t step = k * w.dilation[2];
      if (b.together) {
        const int64_t column = b.first_column + step;
        if (column < 0 || column >= width) continue;
        v = R::join(v, load_lanes(line + (column - start) * n + b.first_channel - first, b.lanes));
        inside += 1.0f;
      } else {
        const IVec column = b.column + static_cast<int32_t>(step), valid = (column >= 0) & (column < static_cast<int32_t>(width));
        const IVec index = (column - static_cast<int32_t>(start)) * static_cast<int32_t>(n) + b.channel;
        v = R::join(v, valid ? gather(line, valid ? index : IVec{}) : R::zero());
        inside += select(valid, splat(1.0f), Vec{});
      }
    }
    f(v, inside, b, number);
  });
}

/// One line of results: [count, C] at y. Lines of x are reduced to one, piece by piece, and that along the width.
template <class R, class T, class F>
void pool_line(const T* sample, const Shape& x, const Window& w, int64_t* at, int64_t count, const F& finish) {
  const int64_t c = x.dims[4], reach = (w.size[2] - 1) * w.dilation[2] + 1, stride = w.stride[2];
  at[2] = 0;
  const Inside in(x, w, at);
  T line[kLine];
  for (int64_t first = 0; first < c; first += kBand) {
    const int64_t n = c - first < kBand ? c - first : kBand, room = kLine / n;
    const int64_t each = reach > room ? 1 : (room - reach) / stride + 1;
    for (int64_t r = 0; r < count; r += each) {
      const int64_t some = count - r < each ? count - r : each, low = w.source(2, r, 0), high = low + (some - 1) * stride + reach;
      Window here = w;
      here.pad[2] = -low;
      const int64_t begin = low < 0 ? 0 : low, end = high < x.dims[3] ? high : x.dims[3];
      const auto done = [&](Lanes<T> v, Vec inside, const Block& b, int64_t number) { finish(v, inside, b.lanes, r * c + number, in); };
      if (reach <= room) {
        if (end > begin) reduce_lines<R>(sample, x, w, at, in, begin, end, first, n, line);
        reduce_width<R>(line, begin, n, x.dims[3], here, some, c, first, done);
      } else {  // windows longer than the scratch line: straight from x
        each_block(here, some, c, first, n, [&](const Block& b, int64_t number) {
          Lanes<T> v = R::zero();
          Vec inside{};
          at[2] = r;
          each_in_window(x, w, at, Inside(x, w, at), [&](int64_t position, int64_t) {
            const IVec index = b.channel;
            const T* from = sample + position * c;
            v = R::join(v, b.together ? load_lanes(from + b.first_channel, b.lanes) : gather(from, index));
          });
          for (int64_t k = 0; k < w.size[2]; k++) inside += b.first_column + k * w.dilation[2] >= 0 && b.first_column + k * w.dilation[2] < x.dims[3] ? 1.0f : 0.0f;
          done(v, inside, b, number);
        });
      }
    }
  }
}

/// Calls f(sample number, position along depth and height, number of the line's first value) for the lines of y.
template <class F>
SIMMIM_INLINE void each_result_line(const Shape& y, int64_t work, const F& f) {
  parallel_ranges(y.span(0, 3), 16384 / (work + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t at[3] = {row / y.dims[2] % y.dims[1], row % y.dims[2], 0};
      f(row / (y.dims[1] * y.dims[2]), at, row * y.dims[3] * y.dims[4]);
    }
  });
}

template <class T>
void pool_largest(const Pool& k, const Window& w) {
  const Shape &x = k.x.shape, &y = k.y.shape;
  each_result_line(y, y.dims[3] * y.dims[4] * w.taps(), [&](int64_t b, int64_t* at, int64_t start) {
    T* out = k.y.as<T>() + start;
    pool_line<Largest<T>>(k.x.as<T>() + b * x.span(1, 5), x, w, at, y.dims[3], [&](Lanes<T> v, Vec, int lanes, int64_t number, const Inside&) { store_lanes(out + number, v, lanes); });
  });
}

void pool_mean(const Pool& k, const Window& w) {
  const Shape &x = k.x.shape, &y = k.y.shape;
  each_result_line(y, y.dims[3] * y.dims[4] * w.taps(), [&](int64_t b, int64_t* at, int64_t start) {
    float* out = k.y.f32() + start;
    pool_line<Total>(k.x.f32() + b * x.span(1, 5), x, w, at, y.dims[3], [&](Vec v, Vec inside, int lanes, int64_t number, const Inside& in) {
      const int64_t lines = (in.end[0] > in.begin[0] ? in.end[0] - in.begin[0] : 0) * (in.end[1] > in.begin[1] ? in.end[1] - in.begin[1] : 0);
      const Vec positions = inside * static_cast<float>(lines);
      store_lanes(out + number, select(positions > Vec{}, v / positions, splat(k.none)), lanes);
    });
  });
}

/// The largest value under each lane of a block, and the number of its position in the sample (-1 for none).
template <bool Last, class T>
SIMMIM_INLINE void find_largest(const T* sample, const Shape& x, const Window& w, const int64_t* at, const Inside& in, const Block& b, Lanes<T>* best, IVec* where) {
  const int64_t c = x.dims[4], width = x.dims[3];
  *best = Largest<T>::zero();
  *where = splat(-1);
  for (int64_t i = in.begin[0]; i < in.end[0]; i++)
    for (int64_t j = in.begin[1]; j < in.end[1]; j++) {
      const int64_t row = (w.source(0, at[0], i) * x.dims[2] + w.source(1, at[1], j)) * width;
      const T* line = sample + row * c;
      for (int64_t k = 0; k < w.size[2]; k++) {
        const IVec column = b.column + static_cast<int32_t>(k * w.dilation[2]);
        IVec valid = (column >= 0) & (column < static_cast<int32_t>(width));
        Lanes<T> v;
        if (b.together) {
          if (!valid[0]) continue;
          v = load_lanes(line + column[0] * c + b.first_channel, b.lanes);
        } else {
          v = gather(line, valid ? column * static_cast<int32_t>(c) + b.channel : IVec{});
        }
        valid &= Last ? v >= *best : v > *best;
        *best = valid ? v : *best;
        *where = valid ? column + static_cast<int32_t>(row) : *where;
      }
    }
}

template <class T>
void pool_positions(const Pool& k, const Window& w) {
  const Shape &x = k.x.shape, &y = k.y.shape;
  const int64_t c = x.dims[4];
  each_result_line(y, 2 * y.dims[3] * c * w.taps(), [&](int64_t sample, int64_t* at, int64_t start) {
    const Inside in(x, w, at);
    const int64_t before = k.batch_positions ? sample * x.span(1, 4) : 0;
    each_block(w, y.dims[3], c, 0, c, [&](const Block& b, int64_t number) {
      Lanes<T> best;
      IVec where;
      find_largest<false>(k.x.as<T>() + sample * x.span(1, 5), x, w, at, in, b, &best, &where);
      store_lanes(k.y.as<T>() + start + number, best, b.lanes);
      for (int l = 0; l < b.lanes; l++) k.positions.i32()[start + number + l] = where[l] < 0 ? -1 : static_cast<int32_t>((before + where[l]) * c + b.channel[l]);
    });
  });
}

/// What one line of windows adds to the piece: each gradient to the position that held the largest value.
template <bool Last>
void add_line(const PoolGrad& k, const Window& w, const WindowPiece& p, const int64_t* at, const float* dy) {
  const Shape& x = k.dx.shape;
  const int64_t c = x.dims[4], sample = p.b * x.span(1, 5);
  const Inside in(x, w, at);
  const bool whole = is_wholly_in_piece(w, p, at);
  float* dx = k.dx.f32() + sample;
  each_block(w, k.dy.dim(3), c, p.first, p.n, [&](const Block& b, int64_t number) {
    Vec best;
    IVec where;
    find_largest<Last>(k.x.f32() + sample, x, w, at, in, b, &best, &where);
    for (int l = 0; l < b.lanes; l++)
      if (where[l] >= 0 && (whole || is_in_piece(x, p, where[l]))) dx[where[l] * c + b.channel[l]] += dy[number + l];
  });
}

void grad_of_largest(const PoolGrad& k, const Window& w) {
  const WindowPieces pieces(k.dx.shape, w);
  parallel_for(pieces.count(), [&](int64_t item) {
    const WindowPiece p = pieces[item];
    clear_piece(k.dx.f32(), k.dx.shape, p);
    each_reaching_line(k.dy.shape, w, p, [&](const int64_t* at, int64_t n) {
      const float* dy = k.dy.f32() + n * k.dy.dim(4);
      if (k.last) add_line<true>(k, w, p, at, dy);
      else add_line<false>(k, w, p, at, dy);
    });
  });
}

SIMMIM_INLINE void add_floats(float* to, const float* from, int64_t n, float factor) {
  for_lanes(n, [&](int64_t i, int lanes) { store_lanes(to + i, fma(load_lanes(from + i, lanes), splat(factor), load_lanes(to + i, lanes)), lanes); });
}

/// The results along `axis` whose windows have a tap at position `at` of x: calls f(position of y).
template <class F>
SIMMIM_INLINE void each_covering(const Window& w, int axis, int64_t at, int64_t results, const F& f) {
  for (int64_t i = 0; i < w.size[axis]; i++) {
    const int64_t reach = at + w.pad[axis] - i * w.dilation[axis];
    if (reach >= 0 && reach % w.stride[axis] == 0 && reach / w.stride[axis] < results) f(reach / w.stride[axis]);
  }
}

/// One line of dx: lines of dy whose windows cover it are added, then shared out along the width.
void grad_of_mean(const PoolGrad& k, const Window& w) {
  const Shape &x = k.dx.shape, &y = k.dy.shape;
  const int64_t c = x.dims[4], width = x.dims[3], results = y.dims[3], room = kLine / (c < kBand ? c : kBand);
  const float share = 1.0f / static_cast<float>(w.taps());
  parallel_ranges(x.span(0, 3), 16384 / (width * c * w.taps() + 1) + 1, [&](int64_t begin, int64_t end) {
    float line[kLine];
    for (int64_t row = begin; row < end; row++) {
      const int64_t b = row / (x.dims[1] * x.dims[2]), z = row / x.dims[2] % x.dims[1], h = row % x.dims[2];
      float* dx = k.dx.f32() + row * width * c;
      __builtin_memset(dx, 0, static_cast<size_t>(width * c) * 4);
      for (int64_t first = 0; first < c; first += kBand)
        for (int64_t r = 0; r < results; r += room) {
          const int64_t n = c - first < kBand ? c - first : kBand, some = results - r < room ? results - r : room;
          __builtin_memset(line, 0, static_cast<size_t>(some * n) * 4);
          each_covering(w, 0, z, y.dims[1], [&](int64_t p) {
            each_covering(w, 1, h, y.dims[2], [&](int64_t q) {
              const float* dy = k.dy.f32() + (((b * y.dims[1] + p) * y.dims[2] + q) * results + r) * c + first;
              if (n == c) add_floats(line, dy, some * c, 1);
              else
                for (int64_t i = 0; i < some; i++) add_floats(line + i * n, dy + i * c, n, 1);
            });
          });
          for (int64_t tap = 0; tap < w.size[2]; tap++)
            for (int64_t i = 0; i < some; i++) {
              const int64_t column = w.source(2, r + i, tap);
              if (column < 0 || column >= width) continue;
              if (n >= kLanes) add_floats(dx + column * c + first, line + i * n, n, share);
              else
                for (int64_t t = 0; t < n; t++) dx[column * c + first + t] += line[i * n + t] * share;
            }
        }
    }
  });
}

}  // namespace

void run(const Pool& k) {
  if (k.y.count() == 0) return;
  const Window w = window_of(k.window);
  if (k.average) return pool_mean(k, w);
  if (k.x.dtype == DType::f32) k.positions.present() ? pool_positions<float>(k, w) : pool_largest<float>(k, w);
  else k.positions.present() ? pool_positions<int32_t>(k, w) : pool_largest<int32_t>(k, w);
}

void run(const PoolGrad& k) {
  if (k.dx.count() == 0) return;
  const Window w = window_of(k.window);
  if (k.average) grad_of_mean(k, w);
  else grad_of_largest(k, w);
}

}  // namespace simmim::SIMMIM_ISA
