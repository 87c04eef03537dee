// State of one JavaScript environment (main thread or worker): arena, handles, mailbox, trace. It hangs on
// the environment's instance data, never on a global, so workers and two copies in one process are safe.
#pragma once
#include <napi.h>

#include "../core/storage.h"

namespace simmim {

class Environment {
 public:
  explicit Environment(Napi::Env env) : env(env) {}
  static Environment& of(const Napi::Env& env) { return *env.GetInstanceData<Environment>(); }

  /// Tells V8 of native memory in steps of 16 MiB, so that its garbage collector feels undisposed tensors.
  void report_memory();

  Napi::Env env;
  Arena arena;
  StorageTable storages{arena};
  Napi::Reference<Napi::Int32Array> words;
  Napi::Reference<Napi::Float64Array> numbers;
  int32_t* word_data = nullptr;
  double* number_data = nullptr;
  int32_t word_count = 0, number_count = 0;
  Napi::FunctionReference error_class;
  bool trace = false;
  uint64_t calls = 0;

 private:
  int64_t reported_ = 0;
};

/// Runs `body` and turns a C++ Error into the JavaScript SimmimError of ts/errors.ts: the only catch.
template <class F>
auto guarded(const Napi::CallbackInfo& info, const char* op, F&& body) -> decltype(body());
[[noreturn]] void throw_to_js(Environment& environment, const char* code, const std::string& op, const char* message);

void export_storage(Napi::Env env, Napi::Object exports);
void export_mailbox(Napi::Env env, Napi::Object exports);

}  // namespace simmim

#include "../core/error.h"

namespace simmim {
template <class F>
auto guarded(const Napi::CallbackInfo& info, const char* op, F&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error& error) {
    throw_to_js(Environment::of(info.Env()), error.code(), error.op().empty() ? op : error.op(), error.what());
  } catch (const std::bad_alloc&) {
    throw_to_js(Environment::of(info.Env()), "out_of_memory", op, "the system refused memory");
  }
}
}  // namespace simmim
