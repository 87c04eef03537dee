// call(id): decode the mailbox by the kernel's spec, check, run, write output handles back.
#include <chrono>
#include <cstdio>

#include "../kernels/registry.h"
#include "environment.h"

namespace simmim {
namespace {

/// Workspace of one call, from the arena.
class Workspace {
 public:
  Workspace(Arena& arena, size_t bytes) : arena_(arena), bytes_(bytes), data_(bytes ? arena.allocate(bytes) : nullptr) {}
  ~Workspace() {
    if (data_) arena_.release(data_, bytes_);
  }
  void* data() const { return data_; }

 private:
  Arena& arena_;
  size_t bytes_;
  void* data_;
};

void print_trace(const KernelInfo& kernel, const void* args, std::chrono::steady_clock::time_point start) {
  const double us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  fprintf(stderr, "simmim %s # %.1f us\n", kernel.describe(args).c_str(), us);
}

void run_kernel(Environment& environment, int id, const KernelInfo& kernel) {
  environment.join();
  alignas(64) char args[kMaxArguments];
  Recording* recording = environment.recording.get();
  if (recording) recording->touched.clear();
  Mail mail{environment.word_data, environment.number_data, environment.word_count, environment.number_count};
  PendingOutputs pending(environment.storages);
  kernel.decode(mail, environment.storages, pending, args);
  kernel.check(args);
  Workspace workspace(environment.storages.arena(), kernel.workspace_bytes(args));
  kernel.set_workspace(args, workspace.data());
  const auto start = environment.trace ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point();
  kernel_function(id)(args);
  if (environment.trace) print_trace(kernel, args, start);
  pending.commit();
  if (recording) {
    recording->program->append(id, kernel, args);
    for (Block* block : recording->touched)
      if (StorageTable::arena_of(block) != &recording->program->arena()) recording->program->keep(block);
  }
}

Napi::Value Call(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  const int id = info[0].As<Napi::Number>().Int32Value();
  const char* op = "call";
  guarded(info, op, [&] {
    const KernelInfo& kernel = kernel_at(id);
    environment.calls++;
    try {
      run_kernel(environment, id, kernel);
    } catch (Error& error) {
      error.set_op(kernel.name);
      throw;
    }
    environment.report_memory();
  });
  return info.Env().Undefined();
}

Napi::Value SetMailbox(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  auto words = info[0].As<Napi::Int32Array>();
  auto numbers = info[1].As<Napi::Float64Array>();
  environment.words = Napi::Persistent(words);
  environment.numbers = Napi::Persistent(numbers);
  environment.word_data = words.Data();
  environment.number_data = numbers.Data();
  environment.word_count = static_cast<int32_t>(words.ElementLength());
  environment.number_count = static_cast<int32_t>(numbers.ElementLength());
  environment.error_class = Napi::Persistent(info[2].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Value Schema(const Napi::CallbackInfo& info) {
  std::string out = "[";
  for (int i = 0; i < kernel_count(); i++) out += (i ? "," : "") + kernel_at(i).schema();
  return Napi::String::New(info.Env(), out + "]");
}

}  // namespace

void export_mailbox(Napi::Env env, Napi::Object exports) {
  exports.Set("call", Napi::Function::New<Call>(env, "call"));
  exports.Set("setMailbox", Napi::Function::New<SetMailbox>(env, "setMailbox"));
  exports.Set("schema", Napi::Function::New<Schema>(env, "schema"));
}

}  // namespace simmim
