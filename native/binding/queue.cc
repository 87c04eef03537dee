#include "queue.h"

#include <algorithm>

#include "environment.h"

namespace simmim {
namespace {

constexpr uint64_t kMostUnfinished = 1024;  // jobs
constexpr int kSpins = 64;

/// What went wrong, if anything did.
std::shared_ptr<const Error> attempt(Work& work) {
  try {
    work.run();
    return nullptr;
  } catch (const Error& error) {
    return std::make_shared<const Error>(error);
  } catch (const std::bad_alloc&) {
    return std::make_shared<const Error>("out_of_memory", "", "the system refused memory");
  }
}

}  // namespace

Queue::Queue(Napi::Env env, Order& order)
    : env_(env), order_(order), to_js_(Napi::ThreadSafeFunction::New(env, Napi::Function(), "simmim queue", 0, 1)), thread_([this] { work_off(); }) {
  to_js_.Unref(env);
}

Queue::~Queue() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    quit_ = true;
  }
  wake_.notify_all();
  thread_.join();
  to_js_.Release();
}

uint64_t Queue::push(std::unique_ptr<Work> work, Waiter* waiter) {
  if (order_.asked >= kMostUnfinished) wait_for(order_.asked + 1 - kMostUnfinished);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back({std::move(work), waiter});
    order_.asked++;
  }
  wake_.notify_one();
  return order_.asked;
}

Napi::Value Queue::promise(std::unique_ptr<Work> work, const Napi::Object& kept, bool gives) {
  if (waiters_.empty()) to_js_.Ref(env_);  // a pending promise keeps the process alive, an idle queue does not
  waiters_.push_back({Napi::Promise::Deferred::New(env_), kept.IsEmpty() ? Napi::ObjectReference() : Napi::Persistent(kept), gives});
  push(std::move(work), &waiters_.back());
  return waiters_.back().deferred.Promise();
}

void Queue::settle(Waiter* waiter, const Error* failure) {
  const auto at = std::find_if(waiters_.begin(), waiters_.end(), [&](const Waiter& w) { return &w == waiter; });
  const Napi::Promise::Deferred deferred = at->deferred;
  const Napi::Value result = at->gives ? at->kept.Value() : env_.Undefined();
  waiters_.erase(at);
  if (waiters_.empty()) to_js_.Unref(env_);
  if (failure) deferred.Reject(to_js(Environment::of(env_), failure->code(), failure->op().empty() ? "queue" : failure->op(), failure->what()).Value());
  else deferred.Resolve(result);
}

/// Unlocked while the job runs and while its end is told.
void Queue::run_oldest(std::unique_lock<std::mutex>& lock) {
  Job job = std::move(jobs_.front());
  jobs_.pop_front();
  running_ = true;
  lock.unlock();
  const auto failure = attempt(*job.work);
  job.work.reset();
  lock.lock();
  running_ = false;
  order_.done.fetch_add(1, std::memory_order_release);
  finished_.notify_all();
  if (!job.waiter) return;
  lock.unlock();  // the JavaScript thread may take the processor of this one at once, and would then wait for the lock
  to_js_.NonBlockingCall([this, waiter = job.waiter, failure](Napi::Env, Napi::Function) { settle(waiter, failure.get()); });
  lock.lock();
}

void Queue::work_off() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return quit_ || (!running_ && !jobs_.empty()); });
    if (quit_) return;
    run_oldest(lock);
  }
}

void Queue::wait_for(uint64_t ticket) {
  if (order_.is_done(ticket)) return;
  for (int spins = 0; spins < kSpins && running_ && !order_.is_done(ticket); spins++) std::this_thread::yield();
  std::unique_lock<std::mutex> lock(mutex_);
  while (!order_.is_done(ticket)) {
    if (running_) finished_.wait(lock);
    else run_oldest(lock);
  }
  if (!jobs_.empty()) wake_.notify_one();
}

}  // namespace simmim
