// Storages seen from JavaScript: allocate, upload, read, view, release, statistics.
#include <algorithm>
#include <cstring>
#include <vector>

#include "environment.h"

namespace simmim {
namespace {

DType dtype_argument(const Napi::Value& value) {
  const int t = int32_argument(value, -1);
  if (t < 0 || t >= kDTypes) fail("dtype is %d, expected 0 to %d", t, kDTypes - 1);
  return static_cast<DType>(t);
}

}  // namespace

int32_t int32_argument(const Napi::Value& value, int32_t otherwise) {
  double v;
  if (napi_get_value_double(value.Env(), value, &v) != napi_ok) return otherwise;  // not a number
  return v >= -2147483648.0 && v <= 2147483647.0 && v == static_cast<double>(static_cast<int32_t>(v)) ? static_cast<int32_t>(v) : otherwise;
}

size_t size_argument(const Napi::Value& value, const char* name) {
  const double v = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(v >= 0 && v <= 9007199254740992.0) || v != static_cast<double>(static_cast<int64_t>(v))) fail("%s is %g, expected an integer >= 0", name, v);
  return static_cast<size_t>(v);
}

Handle handle_argument(const Napi::Value& value) {
  if (!value.IsNumber()) fail("the handle is not a number");
  return int32_argument(value, 0);
}

Bytes bytes_argument(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray()) fail("%s is not a typed array", name);
  void* data = nullptr;  // asked of the view itself: its buffer may be shared memory, which is no ArrayBuffer
  if (napi_get_typedarray_info(value.Env(), value, nullptr, nullptr, &data, nullptr, nullptr) != napi_ok) fail("%s is not a readable typed array", name);
  return {static_cast<char*>(data), value.As<Napi::TypedArray>().ByteLength()};
}

bool is_shared(const Napi::Value& array) {
  napi_value buffer;
  bool detachable = true;
  if (napi_get_typedarray_info(array.Env(), array, nullptr, nullptr, nullptr, &buffer, nullptr) == napi_ok) napi_is_arraybuffer(array.Env(), buffer, &detachable);
  return !detachable;
}

Write write_arguments(Environment& e, const Napi::CallbackInfo& info) {
  const auto& slot = e.storages.get(handle_argument(info[0]));
  const Bytes source = bytes_argument(info[1], "values");
  const size_t offset = size_argument(info[2], "byteOffset");
  if (offset > slot.bytes || source.size > slot.bytes - offset) fail("%zu bytes at offset %zu do not fit a storage of %zu bytes", source.size, offset, slot.bytes);
  return {e.device(slot.device), slot.block, slot.data + offset, source};
}

void Read::deliver(const std::function<void(void* to)>& collect) const {
  if (!widens) return collect(target);
  std::vector<uint16_t> half(bytes / 2);
  collect(half.data());
  uint32_t* wide = reinterpret_cast<uint32_t*>(target);
  for (size_t i = 0; i < half.size(); i++) wide[i] = static_cast<uint32_t>(half[i]) << 16;
}

void throw_failure(const Verdicts& verdicts) {
  for (const auto& verdict : verdicts)
    if (verdict->failure) throw Error(*verdict->failure);
}

namespace {

constexpr size_t kMaxConstants = 4096;  // bytes of host values that a program may hold, in sum
constexpr size_t kSmallWrite = 65536;   // bytes copied aside rather than waited for

/// allocate(dtype, count, device = 0) -> handle; the content is undefined
Napi::Value Allocate(const Napi::CallbackInfo& info) {
  return guarded(info, "allocate", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    const DType dtype = dtype_argument(info[0]);
    const Handle handle = e.storages.allocate(dtype, size_argument(info[1], "count") * size_of(dtype), device_argument(e, info[2]));
    e.report_memory();
    return Napi::Number::New(info.Env(), handle);
  });
}

/// Values at the start of `wanted` bytes, the rest 0.
void write_padded(Device& device, char* data, size_t wanted, const char* from, size_t given) {
  device.write(data, from, given);
  static constexpr char zeros[65536] = {};
  for (size_t at = given; at < wanted; at += sizeof zeros) device.write(data + at, zeros, std::min(sizeof zeros, wanted - at));
}

/// While a program is recorded its arena serves; a constant of it must not lie there, where calls before it have had temporaries: replays write those again.
class OutsideProgram {
 public:
  OutsideProgram(Environment& e, int device) : e_(e), device_(device) { e.storages.set_arena(device, e.arena_of(device)); }
  ~OutsideProgram() { e_.storages.set_arena(device_, e_.recording->program->arena()); }

 private:
  Environment& e_;
  int device_;
};

/// Memory for a value of the host that becomes a constant of the program being recorded.
Handle allocate_constant(Environment& e, DType dtype, size_t bytes, int device) {
  const OutsideProgram outside(e, device);
  const UnusedOnly unused(e.order);
  const Handle handle = e.storages.allocate(dtype, bytes, device);
  e.recording->program->keep(e.storages.get(handle).block);
  e.recording->constants += bytes;
  if (e.recording->constants <= kMaxConstants) return handle;
  e.storages.release(handle);
  fail_as("not_recordable", "%zu bytes of host values would be frozen into the program, the last %zu of them here (at most %zu): pass them as an input", e.recording->constants, bytes, kMaxConstants);
}

/// upload(dtype, typedArray, count, device = 0) -> handle; count may exceed the array: the rest is 0
Napi::Value Upload(const Napi::CallbackInfo& info) {
  return guarded(info, "upload", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    const DType dtype = dtype_argument(info[0]);
    const Bytes source = bytes_argument(info[1], "values");
    const size_t wanted = size_argument(info[2], "count") * size_of(dtype);
    const int number = device_argument(e, info[3]);
    Device& device = e.device(number);
    const bool constant = e.recording && e.recording->device == number;
    const Handle handle = [&] {
      if (constant) return allocate_constant(e, dtype, wanted, number);
      const UnusedOnly unused(e.order);  // so that it can be written now, whatever is queued
      return e.storages.allocate(dtype, wanted, number);
    }();
    char* data = e.storages.get(handle).data;
    const size_t given = source.size < wanted ? source.size : wanted;
    write_padded(device, data, wanted, source.data, given);
    e.report_memory();
    return Napi::Number::New(info.Env(), handle);
  });
}

/// writeInto(handle, typedArray, byteOffset)
Napi::Value WriteInto(const Napi::CallbackInfo& info) {
  return guarded(info, "writeInto", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("writing host values into a tensor");
    const Write write = write_arguments(e, info);
    const Bytes& source = write.source;
    if (write.device.on_host() && e.busy() && source.size <= kSmallWrite) {
      provenance_of(write.block).written = e.queue().push(make_work([write, copy = std::vector<char>(source.data, source.data + source.size)] { write.device.write(write.to, copy.data(), copy.size()); }));
    } else {
      if (write.device.on_host()) e.join();
      write.device.write(write.to, source.data, source.size);
    }
    return info.Env().Undefined();
  });
}

/// readInto(handle, typedArray): fills the array from the start of the storage; bf16 storages widen into a Float32Array
Napi::Value ReadInto(const Napi::CallbackInfo& info) {
  return guarded(info, "readInto", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.refuse_while_recording("reading a tensor");
    const auto& slot = e.storages.get(handle_argument(info[0]));
    const Bytes target = bytes_argument(info[1], "target");
    const bool widens = slot.dtype == DType::bf16 && info[1].As<Napi::TypedArray>().TypedArrayType() == napi_float32_array;
    const size_t wanted = widens ? target.size / 2 : target.size;
    if (wanted > slot.bytes) fail("%zu bytes wanted from a storage of %zu", wanted, slot.bytes);
    const Read read{e.device(slot.device), slot.block, slot.data, wanted, target.data, widens};
    if (read.device.on_host()) e.join();
    throw_failure(provenance_of(read.block).verdicts);
    read.deliver([&read](void* to) { read.device.read(to, read.from, read.bytes); });
    return info.Env().Undefined();
  });
}

/// view(handle, byteOffset, byteLength, dtype) -> handle
Napi::Value View(const Napi::CallbackInfo& info) {
  return guarded(info, "view", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    return Napi::Number::New(info.Env(), e.storages.view(handle_argument(info[0]), size_argument(info[1], "byteOffset"), size_argument(info[2], "byteLength"), dtype_argument(info[3])));
  });
}

Napi::Value Release(const Napi::CallbackInfo& info) {
  Environment& e = Environment::of(info.Env());
  const bool released = e.storages.release(int32_argument(info[0], 0));
  e.report_memory();
  return Napi::Boolean::New(info.Env(), released);
}

/// stats(device = 0): of its memory; handles and calls are those of all devices
Napi::Value Stats(const Napi::CallbackInfo& info) {
  return guarded(info, "stats", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    const int device = device_argument(e, info[0]);
    ArenaStats s = e.arena_of(device).stats();
    for (const auto& arena : e.program_arenas) {  // a program holds its whole arena, in use or not
      if (&arena->device() != &e.device(device)) continue;
      const size_t held = arena->stats().live + arena->stats().cached;
      s.live += held;
      s.peak += held;
      s.system_allocations += arena->stats().system_allocations;
    }
    auto out = Napi::Object::New(info.Env());
    out.Set("live", static_cast<double>(s.live));
    out.Set("cached", static_cast<double>(s.cached));
    out.Set("peak", static_cast<double>(s.peak));
    out.Set("blocks", static_cast<double>(s.live_blocks));
    out.Set("systemAllocations", static_cast<double>(s.system_allocations));
    out.Set("handles", static_cast<double>(e.storages.live_handles()));
    out.Set("calls", static_cast<double>(e.calls));
    out.Set("widenings", static_cast<double>(e.widenings));
    return out;
  });
}

/// trim(device = 0)
Napi::Value Trim(const Napi::CallbackInfo& info) {
  return guarded(info, "trim", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.arena_of(device_argument(e, info[0])).trim();
    return info.Env().Undefined();
  });
}

/// resetPeak(device = 0)
Napi::Value ResetPeak(const Napi::CallbackInfo& info) {
  return guarded(info, "resetPeak", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.arena_of(device_argument(e, info[0])).reset_peak();
    return info.Env().Undefined();
  });
}

/// failAllocationAt(n, device = 0)
Napi::Value FailAllocationAt(const Napi::CallbackInfo& info) {
  return guarded(info, "failAllocationAt", [&]() -> Napi::Value {
    Environment& e = Environment::of(info.Env());
    e.arena_of(device_argument(e, info[1])).fail_at(size_argument(info[0], "n"));
    return info.Env().Undefined();
  });
}

}  // namespace

void export_storage(Napi::Env env, Napi::Object exports) {
  exports.Set("allocate", Napi::Function::New<Allocate>(env, "allocate"));
  exports.Set("upload", Napi::Function::New<Upload>(env, "upload"));
  exports.Set("writeInto", Napi::Function::New<WriteInto>(env, "writeInto"));
  exports.Set("readInto", Napi::Function::New<ReadInto>(env, "readInto"));
  exports.Set("view", Napi::Function::New<View>(env, "view"));
  exports.Set("release", Napi::Function::New<Release>(env, "release"));
  exports.Set("stats", Napi::Function::New<Stats>(env, "stats"));
  exports.Set("trim", Napi::Function::New<Trim>(env, "trim"));
  exports.Set("resetPeak", Napi::Function::New<ResetPeak>(env, "resetPeak"));
  exports.Set("failAllocationAt", Napi::Function::New<FailAllocationAt>(env, "failAllocationAt"));
}

}  // namespace simmim
