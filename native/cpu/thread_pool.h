// One pool per process. Work is cut into items by shape alone and partial results combine in item order,
// so results never depend on the number of threads.
#pragma once
#include <cstdint>

#include "../core/tensor.h"

namespace simmim {

/// Threads in force: SIMMIM_THREADS, else the cores this process may use.
int thread_count();
void set_thread_count(int threads);

/// Runs fn(context, item) for items 0..items-1, the caller taking part; returns when all are done.
/// Nested calls, and calls while another thread uses the pool, run inline.
void parallel_run(int64_t items, void (*fn)(void* context, int64_t item), void* context);

/// f(item) for each item.
template <class F>
SIMMIM_INLINE void parallel_for(int64_t items, const F& f) {
  if (items == 1) {
    f(int64_t{0});
    return;
  }
  parallel_run(items, [](void* context, int64_t item) { (*static_cast<const F*>(context))(item); }, const_cast<F*>(&f));
}

/// f(begin, end) over [0, total) in pieces of `grain` (the last one shorter).
template <class F>
SIMMIM_INLINE void parallel_ranges(int64_t total, int64_t grain, const F& f) {
  const int64_t items = (total + grain - 1) / grain;
  if (items <= 0) return;
  parallel_for(items, [&](int64_t item) {
    const int64_t begin = item * grain, end = begin + grain < total ? begin + grain : total;
    f(begin, end);
  });
}

}  // namespace simmim
