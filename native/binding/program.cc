// Recording and replaying programs. A replay runs on a thread of its own and resolves a promise, so the
// event loop stays free for data loading and signals meanwhile.
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "environment.h"

namespace simmim {

/// One thread that replays programs in the order they were asked for.
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

  void play(Napi::Env env, const Program& program, Napi::Promise::Deferred deferred) {
    if (pending_++ == 0) done_.Ref(env);  // a pending promise keeps the process alive, an idle player does not
    std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back({&program, new Napi::Promise::Deferred(deferred)});
    wake_.notify_all();
  }
  void join() {
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait(lock, [this] { return jobs_.empty(); });
  }

 private:
  struct Job {
    const Program* program;
    Napi::Promise::Deferred* deferred;
  };

  void loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return quit_ || !jobs_.empty(); });
      if (quit_) break;
      Job job = jobs_.front();
      lock.unlock();
      job.program->replay();
      lock.lock();
      jobs_.pop_front();
      if (jobs_.empty()) idle_.notify_all();
      lock.unlock();
      done_.NonBlockingCall([this, deferred = job.deferred](Napi::Env env, Napi::Function) {
        std::unique_ptr<Napi::Promise::Deferred> owned(deferred);
        if (--pending_ == 0) done_.Unref(env);
        owned->Resolve(env.Undefined());
      });
      lock.lock();
    }
    done_.Release();
  }

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Job> jobs_;
  bool quit_ = false;
  int pending_ = 0;  // touched on the JavaScript thread only
  Napi::ThreadSafeFunction done_;
  std::thread thread_;
};

Environment::Environment(Napi::Env env) : env(env) {}
Environment::~Environment() { player.reset(); }

void Environment::join() {
  if (player) player->join();
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
  e.storages.set_arena(e.arena);
  e.storages.watch(nullptr);
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

Napi::Value BeginRecording(const Napi::CallbackInfo& info) {
  return guarded(info, "beginRecording", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("recording");
    e.join();
    sweep_arenas(e);
    e.program_arenas.push_back(std::make_unique<Arena>());
    e.recording = std::make_unique<Recording>(*e.program_arenas.back());
    e.storages.set_arena(e.recording->program->arena());
    e.storages.watch(&e.recording->touched);
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
    const int32_t id = e.next_program++;
    e.programs[id] = std::move(e.recording->program);
    end_recording(e);
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
    if (!e.player) e.player = std::make_unique<Player>(info.Env());
    auto deferred = Napi::Promise::Deferred::New(info.Env());
    e.player->play(info.Env(), program, deferred);
    return deferred.Promise();
  });
}

Napi::Value ReplaySync(const Napi::CallbackInfo& info) {
  return guarded(info, "replaySync", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("a replay");
    e.join();
    program_argument(e, info[0]).replay();
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
  exports.Set("replaySync", Napi::Function::New<ReplaySync>(env, "replaySync"));
  exports.Set("disposeProgram", Napi::Function::New<DisposeProgram>(env, "disposeProgram"));
  exports.Set("describeProgram", Napi::Function::New<DescribeProgram>(env, "describeProgram"));
}

}  // namespace simmim
