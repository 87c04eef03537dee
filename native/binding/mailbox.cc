// call(id): decode the mailbox by the kernel's spec, check, run, write output handles back.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>
#include <optional>
#include <string_view>
#include <vector>

#include "../kernels/binary.h"
#include "../kernels/registry.h"
#include "environment.h"
#include "work_estimate.h"

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

/// Wall and processor time of the calling thread since construction: on a busy machine the second tells more.
class CallClock {
 public:
  double wall_us() const { return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - wall_).count(); }
  double thread_us() const { return thread_now() - thread_; }

 private:
  static double thread_now() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
#else
    return 0;
#endif
  }
  std::chrono::steady_clock::time_point wall_ = std::chrono::steady_clock::now();
  double thread_ = thread_now();
};

void print_trace(const KernelInfo& kernel, const void* args, const CallClock& clock) {
  const double wall = clock.wall_us(), thread = clock.thread_us();
  fprintf(stderr, "simmim %s # %.1f us, %.1f us of this thread\n", kernel.describe(args).c_str(), wall, thread);
}

/// Looks at values on the host, which gets copies of what is elsewhere.
void check_values(Device& device, const KernelInfo& kernel, const void* args) {
  if (device.on_host()) return kernel.check_values(args);
  alignas(64) char copy[kMaxArguments];
  std::memcpy(copy, args, kernel.size);
  std::deque<std::vector<char>> values;
  kernel.each_value_checked(copy, [&](Tensor& tensor) {
    values.emplace_back(tensor.bytes());
    device.read(values.back().data(), tensor.data, tensor.bytes());
    tensor.data = values.back().data();
  });
  kernel.check_values(copy);
}

/// Runs one decoded call, with its line of the trace and its place in a recording.
void execute(Environment& environment, Device& device, int id, const KernelInfo& kernel, const void* args) {
  std::optional<CallClock> clock;
  if (environment.trace) clock.emplace();
  if (device.on_host()) kernel_function(id)(args);
  else device.run({id, args});
  if (clock) {
    device.synchronise();
    print_trace(kernel, args, *clock);
  }
  if (environment.recording) environment.recording->program->append(id, kernel, args);
}

int cast_kernel() {
  static const int id = [] {
    int i = 0;
    while (std::string_view(kernel_at(i).name) != Cast::name) i++;
    return i;
  }();
  return id;
}

/// A decoded call that is put off.
class QueuedCall final : public Work {
 public:
  /// With a verdict, whose values are checked before the call: they are not there yet.
  QueuedCall(int id, const KernelInfo& kernel, const void* args, std::shared_ptr<Verdict> verdict)
      : kernel_(kernel), run_(kernel_function(id)), args_(new (std::align_val_t{64}) char[kernel.size]), verdict_(std::move(verdict)) {
    std::memcpy(args_.get(), args, kernel.size);
  }
  void run() override {
    if (verdict_) judge();
    if (!verdict_ || !verdict_->failure) run_(args_.get());
  }

 private:
  void judge() {
    try {
      throw_failure(verdict_->basis);
      kernel_.check_values(args_.get());
    } catch (Error& error) {
      error.set_op(kernel_.name);
      verdict_->failure = std::make_unique<const Error>(error);
    }
    verdict_->basis.clear();
  }

  const KernelInfo& kernel_;
  KernelFn run_;
  ArgumentBytes args_;
  std::shared_ptr<Verdict> verdict_;
};

/// What the values of the call's tensors hang on. Throws the Error of a call among it that is known to have failed.
Verdicts verdicts_so_far(Environment& environment) {
  Verdicts open;
  for (Block* block : environment.touched)
    for (const auto& verdict : provenance_of(block).verdicts) {
      if (environment.order.is_done(verdict->ticket)) throw_failure({verdict});
      else if (std::find(open.begin(), open.end(), verdict) == open.end()) open.push_back(verdict);
    }
  return open;
}

/// Whether the values that a kernel checks are there, with no queued work still to write them.
bool has_values(Environment& environment, const KernelInfo& kernel, void* args) {
  if (environment.touched.empty()) return true;  // nothing was queued when the call was decoded
  bool all = true;
  kernel.each_value_checked(args, [&](const Tensor& tensor) {
    for (Block* block : environment.touched)
      if (contains(block, tensor.data) && !environment.order.settled(block)) all = false;
  });
  return all;
}

/// Fills the f32 copies of bf16 inputs, by calls of `cast` like any other: `run` takes their arguments.
template <class Run>
void widen_inputs(Environment& environment, const CallMemory& memory, const Run& run) {
  for (const CallMemory::Widening& widening : memory.widenings()) {
    const Cast cast{widening.half, widening.wide, false};
    run(cast_kernel(), kernel_at(cast_kernel()), &cast);
    environment.widenings++;
  }
}

/// Puts a call off. What it writes hangs on `verdicts` and on its own.
void enqueue(Environment& environment, int id, const KernelInfo& kernel, const void* args, const CallMemory& memory, Verdicts verdicts, std::shared_ptr<Verdict> own) {
  Queue& queue = environment.queue();
  widen_inputs(environment, memory, [&](int cast, const KernelInfo& info, const void* cast_args) { queue.push(std::make_unique<QueuedCall>(cast, info, cast_args, nullptr)); });
  if (own) own->basis = verdicts;
  const uint64_t ticket = queue.push(std::make_unique<QueuedCall>(id, kernel, args, own));
  if (own) {
    own->ticket = ticket;
    verdicts = {own};
    environment.order.judges = true;
  }
  for (Block* block : environment.order.written) provenance_of(block) = {ticket, verdicts};
}

/// Whether a call on the host may be put off: not while calls are traced or recorded.
bool may_queue(const Environment& environment) { return environment.queue_from < HUGE_VAL && !environment.trace && !environment.recording; }

void run_kernel(Environment& environment, int id, int device_number, const KernelInfo& kernel) {
  Device& device = environment.device(device_number);
  const bool on_host = device.on_host(), queues = on_host && may_queue(environment);
  if (on_host && !queues) environment.join();
  if (!device.has(id)) fail_as("unsupported", "this kernel has no version for %s", device.name().c_str());
  alignas(64) char args[kMaxArguments];
  Recording* recording = environment.recording.get();
  if (recording && recording->device != device_number) fail_as("not_recordable", "a call on %s cannot be part of a program of %s", device.name().c_str(), environment.device(recording->device).name().c_str());
  Order& order = environment.order;
  order.written.clear();
  environment.touched.clear();
  environment.storages.watch(recording || order.judges || (kernel.check_values && environment.busy()) ? &environment.touched : nullptr);
  Mail mail{environment.word_data, environment.number_data, environment.word_count, environment.number_count, device_number};
  CallMemory memory(environment.storages);
  kernel.decode(mail, environment.storages, memory, args);
  kernel.check(args);
  Verdicts verdicts;
  if (order.judges) verdicts = verdicts_so_far(environment);
  std::shared_ptr<Verdict> own;
  if (kernel.check_values) {
    if (on_host && !has_values(environment, kernel, args)) own = std::make_shared<Verdict>();
    else check_values(device, kernel, args);
  }
  if (!kernel.has_results(args)) return memory.commit();
  Workspace workspace(environment.storages.arena(device_number), on_host ? kernel.workspace_bytes(args) : kernel.cuda_workspace_bytes(args));
  kernel.set_workspace(args, workspace.data());
  // Memory that is given back while the call waits is handed out again only to work behind it.
  if (queues && (own || environment.busy() || work_of(id, mail.words, mail.word_at) >= environment.queue_from)) {
    enqueue(environment, id, kernel, args, memory, std::move(verdicts), std::move(own));
    memory.commit();
    return;
  }
  const auto run = [&](int number, const KernelInfo& info, const void* arguments) { execute(environment, device, number, info, arguments); };
  widen_inputs(environment, memory, run);
  run(id, kernel, args);
  memory.commit();
  if (recording)
    for (Block* block : environment.touched)
      if (StorageTable::arena_of(block) != &recording->program->arena()) recording->program->keep(block);
}

Napi::Value Call(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  // The kernel's number, and above it the device's.
  const int32_t number = int32_argument(info[0], -1);
  const int id = number < 0 ? -1 : number & 0xffff, device = number >> 16;
  const char* op = "call";
  guarded(info, op, [&] {
    const KernelInfo& kernel = kernel_at(id);
    environment.calls++;
    try {
      run_kernel(environment, id, device, kernel);
    } catch (Error& error) {
      error.set_op(kernel.name);
      throw;
    }
    environment.report_memory();
  });
  return {};
}

/// The elements of one of the two arrays.
template <class T>
T* mailbox_argument(const Napi::Value& value, napi_typedarray_type type, const char* name, int32_t* count) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) fail("%s is not the typed array that is expected", name);
  if (!is_shared(value)) fail("%s does not lie in a SharedArrayBuffer, where it stays for good", name);
  const Bytes bytes = bytes_argument(value, name);
  if (bytes.size > size_t{1} << 20) fail("%s has %zu bytes, expected at most 2^20", name, bytes.size);
  *count = static_cast<int32_t>(bytes.size / sizeof(T));
  return reinterpret_cast<T*>(bytes.data);
}

/// Whether `new Class(code, op, message)` gives an error.
bool makes_errors(const Napi::Value& value) {
  if (!value.IsFunction()) return false;
  try {
    const auto name = Napi::String::New(value.Env(), "setMailbox");
    bool is_error = false;
    napi_is_error(value.Env(), value.As<Napi::Function>().New({name, name, name}), &is_error);
    return is_error;
  } catch (const Napi::Error&) {
    return false;
  }
}

/// setMailbox(words, numbers, errorClass, released = none)
Napi::Value SetMailbox(const Napi::CallbackInfo& info) {
  return guarded(info, "setMailbox", [&]() -> Napi::Value {
    Environment& environment = Environment::of(info.Env());
    int32_t word_count = 0, number_count = 0;
    int32_t* words = mailbox_argument<int32_t>(info[0], napi_int32_array, "words", &word_count);
    double* numbers = mailbox_argument<double>(info[1], napi_float64_array, "numbers", &number_count);
    if (!makes_errors(info[2])) fail("errorClass makes no errors");
    int32_t released_count = 0;
    int32_t* released = info[3].IsUndefined() ? nullptr : mailbox_argument<int32_t>(info[3], napi_int32_array, "released", &released_count);
    if (released && released_count == 0) fail("released has no room for a count");
    environment.words = Napi::Persistent(info[0].As<Napi::Int32Array>());
    environment.numbers = Napi::Persistent(info[1].As<Napi::Float64Array>());
    environment.word_data = words, environment.word_count = word_count;
    environment.number_data = numbers, environment.number_count = number_count;
    environment.released = released ? Napi::Persistent(info[3].As<Napi::Int32Array>()) : Napi::Reference<Napi::Int32Array>();
    environment.released_data = released, environment.released_count = released_count;
    environment.error_class = Napi::Persistent(info[2].As<Napi::Function>());
    return info.Env().Undefined();
  });
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
