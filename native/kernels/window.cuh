// Windows (window.h) on the device: a thread takes one result and walks over what its window reads, or takes one value of what
// the windows slide over and walks over the results whose windows span it. Gradients gather, so every sum has one order.
#pragma once
#include "../cuda/divide.cuh"
#include "../cuda/launch.cuh"
#include "window.h"

namespace simmim::cuda {

/// The place of a value of [B, D, H, W, C].
struct Place {
  int64_t b, at[3], c;
};

/// A tensor [B, D, H, W, C]; [B, H, W, C] has depth 1. With `unit` channels are taken that many at a time.
class Volume {
 public:
  int64_t size[3], channels, positions;  // positions of one sample
  explicit Volume(const Shape& s, int64_t unit = 1) : channels(s.dims[s.rank - 1] / unit), positions(s.span(1, -1)), batch_(s.dims[0]) {
    for (int i = 0; i < 3; i++) size[i] = i == 0 && s.rank == 4 ? 1 : s.dims[s.rank - 4 + i];
    places_ = Coordinates<5>({batch_, size[0], size[1], size[2], channels});
  }
  int64_t count() const { return batch_ * positions * channels; }
  SIMMIM_DEVICE Place place(int64_t i) const {
    int64_t n[5];
    places_.find(i, n);
    return {n[0], {n[1], n[2], n[3]}, n[4]};
  }
  /// The number of a position in its sample.
  SIMMIM_DEVICE int64_t number(const int64_t* at) const { return (at[0] * size[1] + at[1]) * size[2] + at[2]; }
  /// The number of a value whose position in its sample is known.
  SIMMIM_DEVICE int64_t value(const Place& p, int64_t position) const { return (p.b * positions + position) * channels + p.c; }

 private:
  int64_t batch_;
  Coordinates<5> places_;
};

/// Calls f(number of the position in its sample of x, number of the tap) for every tap inside x of the window at `at`, in
/// row-major order.
template <class F>
SIMMIM_DEVICE void each_tap(const Window& w, const Volume& x, const int64_t* at, const F& f) {
  int64_t tap = 0, from[3];
  for (int64_t i = 0; i < w.size[0]; i++) {
    from[0] = w.source(0, at[0], i);
    for (int64_t j = 0; j < w.size[1]; j++) {
      from[1] = w.source(1, at[1], j);
      if (from[0] < 0 || from[0] >= x.size[0] || from[1] < 0 || from[1] >= x.size[1]) {
        tap += w.size[2];
        continue;
      }
      for (int64_t k = 0; k < w.size[2]; k++, tap++) {
        from[2] = w.source(2, at[2], k);
        if (from[2] >= 0 && from[2] < x.size[2]) f(x.number(from), tap);
      }
    }
  }
}

/// 32-bit division where it will do.
SIMMIM_DEVICE int64_t quotient(int64_t n, int64_t by) {
  if (by == 1) return n;
  return n < int64_t{1} << 31 && by < int64_t{1} << 31 ? static_cast<int64_t>(static_cast<uint32_t>(n) / static_cast<uint32_t>(by)) : n / by;
}

/// The tap along `axis` with which the window at position `from` reads position `at`, -1 where none does.
SIMMIM_DEVICE int64_t tap_between(const Window& w, int axis, int64_t at, int64_t from) {
  const int64_t offset = at + w.pad[axis] - from * w.stride[axis], tap = quotient(offset, w.dilation[axis]);
  return tap * w.dilation[axis] == offset ? tap : -1;
}

/// Calls f(number of the result in its sample of y, number of the tap) for every window that spans position `at` of x, in
/// row-major order; the tap is -1 where the window steps over the position.
template <class F>
SIMMIM_DEVICE void each_spanning(const Window& w, const Volume& y, const int64_t* at, const F& f) {
  int64_t begin[3], end[3], from[3];
  for (int i = 0; i < 3; i++) {
    const int64_t last = at[i] + w.pad[i], first = last - (w.size[i] - 1) * w.dilation[i];
    begin[i] = first > 0 ? quotient(first + w.stride[i] - 1, w.stride[i]) : 0;
    end[i] = last < 0 ? 0 : quotient(last, w.stride[i]) + 1;
    if (end[i] > y.size[i]) end[i] = y.size[i];
  }
  for (from[0] = begin[0]; from[0] < end[0]; from[0]++) {
    const int64_t i = tap_between(w, 0, at[0], from[0]);
    for (from[1] = begin[1]; from[1] < end[1]; from[1]++) {
      const int64_t j = tap_between(w, 1, at[1], from[1]);
      for (from[2] = begin[2]; from[2] < end[2]; from[2]++) {
        const int64_t k = tap_between(w, 2, at[2], from[2]);
        f(y.number(from), i < 0 || j < 0 || k < 0 ? -1 : (i * w.size[1] + j) * w.size[2] + k);
      }
    }
  }
}

}  // namespace simmim::cuda
