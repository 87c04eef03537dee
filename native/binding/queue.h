// The work of a JavaScript environment that is done behind its event loop, in the order it was asked for: large calls and
// all that follows them, replays of recorded programs, reads and writes between them.
#pragma once
#include <napi.h>

#include <condition_variable>
#include <deque>
#include <list>
#include <mutex>
#include <thread>

#include "../core/order.h"

namespace simmim {

/// One piece of it. Only what somebody waits for may throw, an Error.
class Work {
 public:
  virtual ~Work() = default;
  virtual void run() = 0;
};

template <class F>
std::unique_ptr<Work> make_work(F function) {
  struct Made final : Work {
    explicit Made(F f) : function(std::move(f)) {}
    void run() override { function(); }
    F function;
  };
  return std::make_unique<Made>(std::move(function));
}

/// Asked by the JavaScript thread. The work is done by a thread of the queue, or by the JavaScript thread while it waits
/// for it anyway. When the environment ends, work that was not begun is dropped.
class Queue {
 public:
  Queue(Napi::Env env, Order& order);
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  /// Returns the ticket. Waits when very much is unfinished, so that a program that never reads does not run away.
  uint64_t push(std::unique_ptr<Work> work) { return push(std::move(work), nullptr); }
  /// The end of the work resolves the promise returned, its Error rejects it. `kept` stays until then, as the work reads or
  /// writes its bytes; the promise may give it to the caller.
  Napi::Value promise(std::unique_ptr<Work> work, const Napi::Object& kept = {}, bool gives = false);
  void wait_for(uint64_t ticket);

 private:
  /// Made and destroyed on the JavaScript thread.
  struct Waiter {
    Napi::Promise::Deferred deferred;
    Napi::ObjectReference kept;
    bool gives;
  };
  struct Job {
    std::unique_ptr<Work> work;
    Waiter* waiter;  // null where nobody waits
  };

  uint64_t push(std::unique_ptr<Work> work, Waiter* waiter);
  void work_off();
  void run_oldest(std::unique_lock<std::mutex>& lock);
  void settle(Waiter* waiter, const Error* failure);

  Napi::Env env_;
  Order& order_;
  std::mutex mutex_;
  std::condition_variable wake_;      // there is work, or the end
  std::condition_variable finished_;  // a job is
  std::deque<Job> jobs_;              // not begun
  std::atomic<bool> running_{false};  // one is under way, on either thread
  bool quit_ = false;
  std::list<Waiter> waiters_;         // of the JavaScript thread
  Napi::ThreadSafeFunction to_js_;
  std::thread thread_;
};

}  // namespace simmim
