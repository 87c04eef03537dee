// Entry of the addon: one Environment per JavaScript environment, and the process-wide switches.
#include <algorithm>
#include <cstdlib>

#include "../cpu/isa.h"
#include "../cpu/thread_pool.h"
#include "../kernels/registry.h"
#include "environment.h"

namespace simmim {

void Environment::report_memory() {
  int64_t held = static_cast<int64_t>(arena.stats().live);
  for (const auto& other : attached) held += static_cast<int64_t>(other->arena.stats().live);
  constexpr int64_t step = int64_t{16} << 20;
  if (held - reported_ < step && reported_ - held < step) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, held - reported_);
  reported_ = held;
}

void Environment::take_released() {
  const int32_t room = released_count - 1, count = std::clamp(*released_data, 0, room);
  *released_data = 0;
  for (int32_t i = 1; i <= count; i++) storages.release(released_data[i]);
}

Napi::Error to_js(Environment& environment, const char* code, const std::string& op, const char* message) {
  Napi::Env env = environment.env;
  if (environment.error_class.IsEmpty()) return Napi::Error::New(env, op + ": " + message);
  Napi::Object error = environment.error_class.New({Napi::String::New(env, code), Napi::String::New(env, op), Napi::String::New(env, message)});
  return Napi::Error(env, error);
}

void throw_to_js(Environment& environment, const char* code, const std::string& op, const char* message) { throw to_js(environment, code, op, message); }

namespace {

Napi::Value Info(const Napi::CallbackInfo& info) {
  return guarded(info, "info", [&]() -> Napi::Value {
    Napi::Env env = info.Env();
    auto out = Napi::Object::New(env);
    auto levels = Napi::Array::New(env);
    uint32_t n = 0;
    for (int i = 0; i < kIsaLevels; i++)
      if (isa_available(static_cast<Isa>(i))) levels.Set(n++, name_of(static_cast<Isa>(i)));
    out.Set("isa", name_of(current_isa()));
    out.Set("isaLevels", levels);
    out.Set("bf16Dot", has_bf16_dot());
    out.Set("threads", thread_count());
    out.Set("compiler", __VERSION__);
    out.Set("napi", NAPI_VERSION);
    return out;
  });
}

Napi::Value SetThreads(const Napi::CallbackInfo& info) {
  return guarded(info, "setThreads", [&]() -> Napi::Value {
    const int32_t n = int32_argument(info[0], 0);
    if (n < 1 || n > 1024) fail("threads is %d, expected 1 to 1024", n);
    Environment::of(info.Env()).join();
    set_thread_count(n);
    return info.Env().Undefined();
  });
}

Napi::Value SetIsa(const Napi::CallbackInfo& info) {
  return guarded(info, "setIsa", [&]() -> Napi::Value {
    const std::string wanted = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
    for (int i = 0; i < kIsaLevels; i++)
      if (wanted == name_of(static_cast<Isa>(i))) {
        Environment::of(info.Env()).join();  // what was asked for before runs at the level of then
        set_isa(static_cast<Isa>(i));
        return info.Env().Undefined();
      }
    fail("isa is '%s', expected baseline, avx2 or avx512", wanted.c_str());
  });
}

Napi::Value SetTrace(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).trace = info[0].ToBoolean();
  return info.Env().Undefined();
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment(env);  // owned by the environment's instance data
  env.SetInstanceData(environment);
  environment->array_buffer = Napi::Persistent(env.Global().Get("ArrayBuffer").As<Napi::Function>());
  const char* trace = std::getenv("SIMMIM_TRACE");
  environment->trace = trace && *trace && *trace != '0';
  try {
    if (const char* threshold = std::getenv("SIMMIM_QUEUE_FROM"); threshold && *threshold) environment->queue_from = queue_threshold(threshold);
  } catch (const Error& error) {
    throw_to_js(*environment, error.code(), "load", error.what());
  }
  host_kernel_function = &kernel_function;
  export_storage(env, exports);
  export_mailbox(env, exports);
  export_program(env, exports);
  export_device(env, exports);
  exports.Set("info", Napi::Function::New<Info>(env, "info"));
  exports.Set("setThreads", Napi::Function::New<SetThreads>(env, "setThreads"));
  exports.Set("setIsa", Napi::Function::New<SetIsa>(env, "setIsa"));
  exports.Set("setTrace", Napi::Function::New<SetTrace>(env, "setTrace"));
  return exports;
}

}  // namespace
}  // namespace simmim

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) { return simmim::Init(env, exports); }
NODE_API_MODULE(simmim, init_addon)
