// Recording and replaying programs, and reads and writes that do not hold up the event loop.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "environment.h"

namespace simmim {

Environment::Environment(Napi::Env env) : env(env) {
  order.drain = [this] {
    if (queue_) queue_->wait_for(order.asked);
  };
  current_order() = &order;
}
Environment::~Environment() {
  current_order() = nullptr;
  queue_.reset();
  device_queue_.reset();
}

double queue_threshold(const char* text) {
  if (!std::strcmp(text, "off")) return HUGE_VAL;
  char* end = nullptr;
  const double units = std::strtod(text, &end);
  if (end == text || *end || !(units >= 0)) fail("SIMMIM_QUEUE_FROM is '%s', expected a number of at least 0 or 'off'", text);
  return units;
}

Device& Environment::device(int number) {
  if (number == 0) return host;
  if (number < 0 || static_cast<size_t>(number) > attached.size()) fail("there is no open device %d", number);
  return *attached[static_cast<size_t>(number) - 1]->device;
}

Queue& Environment::queue() {
  if (!queue_) queue_ = std::make_unique<Queue>(env, order);
  return *queue_;
}
Queue& Environment::device_queue() {
  if (!device_queue_) device_queue_ = std::make_unique<Queue>(env, device_order);
  return *device_queue_;
}

void Environment::refuse_while_recording(const char* what) const {
  if (recording) fail_as("not_recordable", "%s cannot be part of a recorded program", what);
}

namespace {

Program& program_argument(Environment& e, const Napi::Value& value) {
  const int32_t id = int32_argument(value, 0);
  const auto found = e.programs.find(id);
  if (found == e.programs.end()) fail_as("disposed", "there is no program %d", id);
  return *found->second;
}

void end_recording(Environment& e) {
  e.storages.set_arena(e.recording->device, e.arena_of(e.recording->device));
  e.order.keeps_released = false;
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
    e.order.keeps_released = true;
    return info.Env().Undefined();
  });
}

/// endRecording(outputs: Int32Array of handles) -> program
Napi::Value EndRecording(const Napi::CallbackInfo& info) {
  return guarded(info, "endRecording", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    if (!e.recording) fail("nothing is being recorded");
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) fail("outputs is not an Int32Array of handles");
    const auto outputs = info[0].As<Napi::Int32Array>();
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
    if (!device.on_host()) {
      program.replay();
      return e.device_queue().promise(make_work(device.mark()));
    }
    const Napi::Value done = e.queue().promise(make_work([&program] { program.replay(); }));
    e.order.replayed = e.order.asked;
    return done;
  });
}

/// A buffer of zeros. napi_create_arraybuffer would end the process where there is no memory left.
Napi::ArrayBuffer make_array_buffer(Environment& e, size_t bytes) {
  try {
    return e.array_buffer.Value().New({Napi::Number::New(e.env, static_cast<double>(bytes))}).As<Napi::ArrayBuffer>();
  } catch (const Napi::Error&) {
    fail_as("out_of_memory", "no %zu bytes are left for the values", bytes);
  }
}

/// readLater(handle, count) -> Promise of an ArrayBuffer: the first values as they are after the work asked for so far, bf16
/// ones as f32. The buffer is made here and nobody sees it before it is full, so that nobody can take its memory away
Napi::Value ReadLater(const Napi::CallbackInfo& info) {
  return guarded(info, "readLater", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("reading a tensor");
    const auto& slot = e.storages.get(handle_argument(info[0]));
    const size_t count = size_argument(info[1], "count"), size = size_of(slot.dtype);
    if (count > slot.bytes / size) fail("%zu values wanted from a storage of %zu", count, slot.bytes / size);
    const bool widens = slot.dtype == DType::bf16;
    Napi::ArrayBuffer buffer = make_array_buffer(e, count * (widens ? sizeof(float) : size));
    const Read read{e.device(slot.device), slot.block, slot.data, count * size, static_cast<char*>(buffer.Data()), widens};
    if (!read.device.on_host()) return e.device_queue().promise(make_work([read, collect = read.device.read_later(read.from, read.bytes)] { read.deliver(collect); }), buffer, true);
    return e.queue().promise(make_work([read, verdicts = provenance_of(read.block).verdicts] {
      throw_failure(verdicts);
      read.deliver([&read](void* to) { read.device.read(to, read.from, read.bytes); });
    }), buffer, true);
  });
}

/// writeLater(handle, typedArray, byteOffset) -> Promise: overwrites the bytes after the work asked for so far and before
/// any that is asked for later. An array in shared memory must not change until then; any other is copied aside, as its
/// memory may be detached and freed
Napi::Value WriteLater(const Napi::CallbackInfo& info) {
  return guarded(info, "writeLater", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("writing host values into a tensor");
    const Write write = write_arguments(e, info);
    if (write.device.on_host()) {
      const Bytes& source = write.source;
      const Napi::Value done = is_shared(info[1])
          ? e.queue().promise(make_work([write] { write.device.write(write.to, write.source.data, write.source.size); }), info[1].As<Napi::Object>())
          : e.queue().promise(make_work([write, copy = std::vector<char>(source.data, source.data + source.size)] { write.device.write(write.to, copy.data(), copy.size()); }));
      provenance_of(write.block).written = e.order.asked;
      return done;
    }
    write.device.write(write.to, write.source.data, write.source.size);
    auto written = Napi::Promise::Deferred::New(info.Env());
    written.Resolve(info.Env().Undefined());
    return written.Promise();
  });
}

/// busy() -> whether work of the host is unfinished
Napi::Value Busy(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), Environment::of(info.Env()).busy()); }

/// queueFrom(units) -> what it was: calls of at least so much estimated work (work_estimate.h) are queued; all of them from 0,
/// none at Infinity
Napi::Value QueueFrom(const Napi::CallbackInfo& info) {
  return guarded(info, "queueFrom", [&]() -> Napi::Value {
    const double units = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
    if (!(units >= 0)) fail("units is %g, expected a number of at least 0", units);
    return Napi::Number::New(info.Env(), std::exchange(Environment::of(info.Env()).queue_from, units));
  });
}

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
    e.programs.erase(int32_argument(info[0], 0));
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
  exports.Set("queueFrom", Napi::Function::New<QueueFrom>(env, "queueFrom"));
  exports.Set("join", Napi::Function::New<Join>(env, "join"));
  exports.Set("replaySync", Napi::Function::New<ReplaySync>(env, "replaySync"));
  exports.Set("disposeProgram", Napi::Function::New<DisposeProgram>(env, "disposeProgram"));
  exports.Set("describeProgram", Napi::Function::New<DescribeProgram>(env, "describeProgram"));
}

}  // namespace simmim
