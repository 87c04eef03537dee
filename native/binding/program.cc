// Recording and replaying programs, and eager calls that are put off. Both run on a thread of its own in the order they
// were asked for, so the event loop stays free for data loading and signals meanwhile.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "../core/free_hook.h"
#include "environment.h"

namespace simmim {

/// One thread that works off jobs in the order they were asked for: replays and calls that were put off on the host, or
/// waiting for devices.
class Player {
 public:
  explicit Player(Napi::Env env)
      : done_(Napi::ThreadSafeFunction::New(env, Napi::Function(), "simmim replay", 0, 1)), thread_([this] { loop(); }) {
    done_.Unref(env);
  }
  ~Player() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      quit_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  /// Work whose end resolves the promise returned; a C++ Error rejects it. `array` is kept from the garbage collector
  /// until then: the work reads or writes its bytes.
  Napi::Value promise(Napi::Env env, std::function<void()> work, const Napi::Object& array) {
    if (pending_++ == 0) done_.Ref(env);  // a pending promise keeps the process alive, an idle player does not
    auto* waiter = new Waiter{Napi::Promise::Deferred::New(env), array.IsEmpty() ? Napi::ObjectReference() : Napi::Persistent(array)};
    push({std::move(work), waiter});
    return waiter->deferred.Promise();
  }
  void defer(std::function<void()> work) { push({std::move(work), nullptr}); }
  bool busy() const { return waiting_.load(std::memory_order_acquire) > 0; }
  void join() {
    for (int spins = 0; spins < 2000 && busy(); spins++) std::this_thread::yield();
    if (!busy()) return;
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait(lock, [this] { return jobs_.empty(); });
  }

 private:
  /// Made and destroyed on the JavaScript thread.
  struct Waiter {
    Napi::Promise::Deferred deferred;
    Napi::ObjectReference array;
  };
  struct Job {
    std::function<void()> work;
    Waiter* waiter;  // null where nobody waits
  };

  void push(Job job) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      waiting_.fetch_add(1, std::memory_order_relaxed);
      jobs_.push_back(std::move(job));
    }
    wake_.notify_all();
  }

  /// What went wrong with a job that somebody waits for; other jobs cannot fail.
  static std::shared_ptr<Error> attempt(const Job& job) {
    if (!job.waiter) return job.work(), nullptr;
    try {
      return job.work(), nullptr;
    } catch (const Error& error) {
      return std::make_shared<Error>(error);
    }
  }

  void loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return quit_ || !jobs_.empty(); });
      if (quit_) break;
      Job job = std::move(jobs_.front());
      lock.unlock();
      std::shared_ptr<Error> failure = attempt(job);
      lock.lock();
      jobs_.pop_front();
      waiting_.fetch_sub(1, std::memory_order_release);
      if (jobs_.empty()) idle_.notify_all();
      if (!job.waiter) continue;
      lock.unlock();
      done_.NonBlockingCall([this, waiter = job.waiter, failure](Napi::Env env, Napi::Function) {
        const std::unique_ptr<Waiter> owned(waiter);
        if (--pending_ == 0) done_.Unref(env);
        if (failure) owned->deferred.Reject(to_js(Environment::of(env), failure->code(), failure->op().empty() ? "replay" : failure->op(), failure->what()).Value());
        else owned->deferred.Resolve(env.Undefined());
      });
      lock.lock();
    }
    done_.Release();
  }

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Job> jobs_;
  bool quit_ = false;
  std::atomic<int> waiting_{0};  // jobs not finished
  int pending_ = 0;  // touched on the JavaScript thread only
  Napi::ThreadSafeFunction done_;
  std::thread thread_;
};

Environment::Environment(Napi::Env env) : env(env) {
  const char* wish = std::getenv("SIMMIM_EAGER");
  defers = wish && !std::strcmp(wish, "deferred");
  before_free() = [this] { join(); };
}
Environment::~Environment() {
  before_free() = nullptr;
  player.reset();
  waiter.reset();
}

Device& Environment::device(int number) {
  if (number == 0) return host;
  if (number < 0 || static_cast<size_t>(number) > attached.size()) fail("there is no open device %d", number);
  return *attached[static_cast<size_t>(number) - 1]->device;
}

void Environment::join() {
  if (player) player->join();
}
bool Environment::busy() const { return player && player->busy(); }

void Environment::defer(std::function<void()> work) {
  if (!player) player = std::make_unique<Player>(env);
  player->defer(std::move(work));
}

void Environment::refuse_while_recording(const char* what) const {
  if (recording) fail_as("not_recordable", "%s cannot be part of a recorded program", what);
}

namespace {

Program& program_argument(Environment& e, const Napi::Value& value) {
  const int32_t id = value.IsNumber() ? value.As<Napi::Number>().Int32Value() : 0;
  const auto found = e.programs.find(id);
  if (found == e.programs.end()) fail_as("disposed", "there is no program %d", id);
  return *found->second;
}

void end_recording(Environment& e) {
  e.storages.set_arena(e.recording->device, e.arena_of(e.recording->device));
  e.storages.watch(nullptr);
  keeps_released() = false;
  e.recording.reset();
}

/// Arenas of disposed programs go once their last tensor has gone.
void sweep_arenas(Environment& e) {
  std::erase_if(e.program_arenas, [&](const std::unique_ptr<Arena>& arena) {
    const bool used = arena->stats().live_blocks > 0 || std::any_of(e.programs.begin(), e.programs.end(), [&](const auto& p) { return &p.second->arena() == arena.get(); });
    if (!used) arena->trim();
    return !used;
  });
}

/// A promise that is resolved when the player has done `work`, to which the bytes of `array` belong meanwhile.
Napi::Value promise(Environment& e, std::unique_ptr<Player>& player, std::function<void()> work, const Napi::Object& array = {}) {
  if (!player) player = std::make_unique<Player>(e.env);
  return player->promise(e.env, std::move(work), array);
}

/// beginRecording(device = 0)
Napi::Value BeginRecording(const Napi::CallbackInfo& info) {
  return guarded(info, "beginRecording", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("recording");
    const int device = device_argument(e, info[0]);
    e.join();
    sweep_arenas(e);
    e.arena_of(device).trim();  // what the eager runs before have left is of no use to a program, which has an arena of its own
    e.program_arenas.push_back(std::make_unique<Arena>(e.device(device)));
    e.recording = std::make_unique<Recording>(device, *e.program_arenas.back());
    e.storages.set_arena(device, e.recording->program->arena());
    e.storages.watch(&e.recording->touched);
    keeps_released() = true;
    return info.Env().Undefined();
  });
}

/// endRecording(outputs: Int32Array of handles) -> program
Napi::Value EndRecording(const Napi::CallbackInfo& info) {
  return guarded(info, "endRecording", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    if (!e.recording) fail("nothing is being recorded");
    auto outputs = info[0].As<Napi::Int32Array>();
    for (size_t i = 0; i < outputs.ElementLength(); i++) e.recording->program->keep(e.storages.get(outputs[i]).block);
    const uint64_t strays = e.recording->program->strays();
    if (strays > 0) {
      end_recording(e);
      fail_as("not_recordable", "%llu tensors created while recording outlive it: return them or dispose of them", static_cast<unsigned long long>(strays));
    }
    std::unique_ptr<Program> program = std::move(e.recording->program);
    end_recording(e);
    program->finish();
    const int32_t id = e.next_program++;
    e.programs[id] = std::move(program);
    return Napi::Number::New(info.Env(), id);
  });
}

Napi::Value AbortRecording(const Napi::CallbackInfo& info) {
  Environment& e = Environment::of(info.Env());
  if (e.recording) end_recording(e);
  return info.Env().Undefined();
}

/// replay(program) -> Promise
Napi::Value Replay(const Napi::CallbackInfo& info) {
  return guarded(info, "replay", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("a replay");
    const Program& program = program_argument(e, info[0]);
    Device& device = program.arena().device();
    if (device.on_host()) return promise(e, e.player, [&program] { program.replay(); });
    program.replay();
    return promise(e, e.waiter, device.mark());
  });
}

/// readLater(handle, typedArray) -> Promise: the values as they are after the work asked for so far
Napi::Value ReadLater(const Napi::CallbackInfo& info) {
  return guarded(info, "readLater", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("reading a tensor");
    const auto& slot = e.storages.get(handle_argument(info[0]));
    const Bytes target = bytes_argument(info[1], "target");
    const auto array = info[1].As<Napi::Object>();
    if (target.size > slot.bytes) fail("%zu bytes wanted from a storage of %zu", target.size, slot.bytes);
    Device& device = e.device(slot.device);
    if (device.on_host()) return promise(e, e.player, [&device, target, from = slot.data] { device.read(target.data, from, target.size); }, array);
    return promise(e, e.waiter, [target, collect = device.read_later(slot.data, target.size)] { collect(target.data); }, array);
  });
}

/// writeLater(handle, typedArray, byteOffset) -> Promise: overwrites the bytes after the work asked for so far and before
/// any that is asked for later; the array must not change until then
Napi::Value WriteLater(const Napi::CallbackInfo& info) {
  return guarded(info, "writeLater", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("writing host values into a tensor");
    const auto [device, to, source] = write_arguments(e, info);
    if (device.on_host()) return promise(e, e.player, [&device = device, to = to, source = source] { device.write(to, source.data, source.size); }, info[1].As<Napi::Object>());
    device.write(to, source.data, source.size);
    auto written = Napi::Promise::Deferred::New(info.Env());
    written.Resolve(info.Env().Undefined());
    return written.Promise();
  });
}

/// busy() -> whether work that was put off is unfinished
Napi::Value Busy(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), Environment::of(info.Env()).busy()); }

/// join(): waits for it
Napi::Value Join(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).join();
  return info.Env().Undefined();
}

Napi::Value ReplaySync(const Napi::CallbackInfo& info) {
  return guarded(info, "replaySync", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("a replay");
    e.join();
    const Program& program = program_argument(e, info[0]);
    program.replay();
    program.arena().device().synchronise();
    return info.Env().Undefined();
  });
}

Napi::Value DisposeProgram(const Napi::CallbackInfo& info) {
  return guarded(info, "disposeProgram", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    program_argument(e, info[0]);
    e.join();
    e.programs.erase(info[0].As<Napi::Number>().Int32Value());
    sweep_arenas(e);
    return info.Env().Undefined();
  });
}

Napi::Value DescribeProgram(const Napi::CallbackInfo& info) {
  return guarded(info, "describeProgram", [&]() -> Napi::Value {
    return Napi::String::New(info.Env(), program_argument(Environment::of(info.Env()), info[0]).describe());
  });
}

}  // namespace

void export_program(Napi::Env env, Napi::Object exports) {
  exports.Set("beginRecording", Napi::Function::New<BeginRecording>(env, "beginRecording"));
  exports.Set("endRecording", Napi::Function::New<EndRecording>(env, "endRecording"));
  exports.Set("abortRecording", Napi::Function::New<AbortRecording>(env, "abortRecording"));
  exports.Set("replay", Napi::Function::New<Replay>(env, "replay"));
  exports.Set("readLater", Napi::Function::New<ReadLater>(env, "readLater"));
  exports.Set("writeLater", Napi::Function::New<WriteLater>(env, "writeLater"));
  exports.Set("busy", Napi::Function::New<Busy>(env, "busy"));
  exports.Set("join", Napi::Function::New<Join>(env, "join"));
  exports.Set("replaySync", Napi::Function::New<ReplaySync>(env, "replaySync"));
  exports.Set("disposeProgram", Napi::Function::New<DisposeProgram>(env, "disposeProgram"));
  exports.Set("describeProgram", Napi::Function::New<DescribeProgram>(env, "describeProgram"));
}

}  // namespace simmim
