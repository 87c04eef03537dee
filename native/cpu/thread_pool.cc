// A joinable-job pool: a job is one word {generation, open bit, helpers inside}. The caller closes the job
// when the items run out and waits only for helpers that joined, so a helper that is late or descheduled
// never stalls it. Helpers spin for a short while after a job (training steps come in bursts), then sleep
// on a futex. The pool is never joined at exit: a Node process may end at any time.
#include "thread_pool.h"

#include "usable_threads.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#endif

namespace simmim {
namespace {

constexpr uint64_t kOpen = uint64_t{1} << 31;
constexpr uint64_t kInside = kOpen - 1;
constexpr auto kSpin = std::chrono::microseconds(100);

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int default_threads() {
  if (const char* wish = std::getenv("SIMMIM_THREADS")) {
    const int n = std::atoi(wish);
    if (n >= 1) return n > 1024 ? 1024 : n;
  }
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n ? static_cast<int>(n) : 1;
}

thread_local bool inside_job = false;

class Pool {
 public:
  Pool() : wanted_(default_threads()) {}
  int threads() const { return wanted_.load(std::memory_order_relaxed); }

  void resize(int threads) {
    std::lock_guard<std::mutex> lock(user_);
    quit_.store(true);
    ring();
    for (std::thread& t : helpers_) t.join();
    helpers_.clear();
    quit_.store(false);
    wanted_.store(threads < 1 ? 1 : threads);
  }

  bool try_run(int64_t items, void (*fn)(void*, int64_t), void* context) {
    if (threads() == 1 || inside_job || !user_.try_lock()) return false;
    std::lock_guard<std::mutex> lock(user_, std::adopt_lock);
    while (static_cast<int>(helpers_.size()) < threads() - 1) helpers_.emplace_back([this] { help(); });
    items_ = items;
    fn_ = fn;
    context_ = context;
    next_.store(0, std::memory_order_relaxed);
    const uint64_t generation = (job_.load(std::memory_order_relaxed) >> 32) + 1;
    job_.store(generation << 32 | kOpen, std::memory_order_seq_cst);
    ring();
    inside_job = true;
    work();
    inside_job = false;
    job_.fetch_and(~kOpen, std::memory_order_acq_rel);
    for (int spins = 0; job_.load(std::memory_order_acquire) & kInside; relax())
      if (++spins > 20000) std::this_thread::yield();
    return true;
  }

 private:
  void work() {
    for (;;) {
      const int64_t item = next_.fetch_add(1, std::memory_order_relaxed);
      if (item >= items_) return;
      fn_(context_, item);
    }
  }

  void ring() {
    bell_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst)) bell_.notify_all();
  }

  void wait_for_bell(uint32_t heard) {
    const auto start = std::chrono::steady_clock::now();
    for (int spins = 0; bell_.load(std::memory_order_acquire) == heard; relax()) {
      if ((++spins & 63) || std::chrono::steady_clock::now() - start < kSpin) continue;
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      bell_.wait(heard, std::memory_order_seq_cst);
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
  }

  void help() {
    inside_job = true;  // what a helper runs must not open a job of its own
    uint32_t heard = 0;
    for (;;) {
      const uint32_t now = bell_.load(std::memory_order_acquire);
      if (now == heard) wait_for_bell(heard);
      heard = bell_.load(std::memory_order_acquire);
      if (quit_.load()) return;
      uint64_t job = job_.load(std::memory_order_acquire);
      while (job & kOpen) {
        if (!job_.compare_exchange_weak(job, job + 1, std::memory_order_acq_rel)) continue;
        work();
        job_.fetch_sub(1, std::memory_order_acq_rel);
        break;
      }
    }
  }

  std::mutex user_;
  std::vector<std::thread> helpers_;
  std::atomic<int> wanted_;
  std::atomic<bool> quit_{false};
  alignas(64) std::atomic<uint64_t> job_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint32_t> bell_{0};
  std::atomic<int> sleepers_{0};
  int64_t items_ = 0;
  void (*fn_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
};

Pool& pool() {
  static Pool& instance = *new Pool;  // lives until the process ends, on purpose
  return instance;
}

}  // namespace

int thread_count() { return pool().threads(); }
int usable_threads() { return inside_job ? 1 : pool().threads(); }
void set_thread_count(int threads) { pool().resize(threads); }

void parallel_run(int64_t items, void (*fn)(void* context, int64_t item), void* context) {
  if (items <= 0) return;
  if (items > 1 && pool().try_run(items, fn, context)) return;
  for (int64_t item = 0; item < items; item++) fn(context, item);
}

}  // namespace simmim
