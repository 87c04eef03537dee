// call(id): decode the mailbox by the kernel's spec, check, run, write output handles back.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "../kernels/binary.h"
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

/// Bytes of tensors from which a call is worth handing to another thread.
constexpr size_t kWorthDeferring = size_t{2} << 20;

/// Kernels whose check() looks at shapes and parameters alone, so that a call may be queued while the values of its
/// tensors are still being computed. Any other kernel waits for the queue.
bool is_deferrable(int id) {
  static const std::set<std::string_view> names{"fill", "unary", "predicate", "binary", "compare", "select", "cast", "reduce", "arg_reduce", "strided_copy", "softmax", "scan", "top_k", "matmul", "conv",
                                                "conv_input_grad", "conv_filter_grad", "depthwise", "depthwise_input_grad", "depthwise_filter_grad", "pool", "pool_grad",
                                                "dilation", "dilation_input_grad", "dilation_filter_grad", "batch_norm", "lrn", "lrn_grad",
                                                "resize", "resize_grad", "crop_and_resize", "transform", "rotate", "non_max_suppression", "complex_multiply", "complex_abs", "fft",
                                                "search_sorted", "unique", "multinomial", "range"};
  static const std::vector<char> by_id = [] {
    std::vector<char> out;
    for (int i = 0; i < kernel_count(); i++) out.push_back(names.contains(kernel_at(i).name));
    return out;
  }();
  return by_id[static_cast<size_t>(id)];
}

/// Bytes of the tensors in the first `count` words of the mailbox.
size_t tensor_bytes(const int32_t* words, int count) {
  size_t total = 0;
  for (int at = 0; at + 3 <= count; at += 3 + words[at + 2]) {
    size_t bytes = words[at] == -1 ? 0 : size_of(static_cast<DType>(words[at + 1]));
    for (int i = 0; i < words[at + 2]; i++) bytes *= static_cast<size_t>(words[at + 3 + i]);
    total += bytes;
  }
  return total;
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

/// Fills the f32 copies of bf16 inputs: calls of `cast` like any other, seen by trace and recording.
void widen_inputs(Environment& environment, Device& device, const CallMemory& memory) {
  for (int i = 0; i < memory.widenings(); i++) {
    const Cast cast{memory.widening(i).half, memory.widening(i).wide, false};
    execute(environment, device, cast_kernel(), kernel_at(cast_kernel()), &cast);
    environment.widenings++;
  }
}

void run_kernel(Environment& environment, int id, int device_number, const KernelInfo& kernel) {
  Device& device = environment.device(device_number);
  const bool on_host = device.on_host();
  bool may_defer = on_host && environment.defers && !environment.trace && !environment.recording && is_deferrable(id);
  if (on_host && !may_defer) environment.join();
  if (!device.has(id)) fail_as("unsupported", "this kernel has no version for %s", device.name().c_str());
  alignas(64) char args[kMaxArguments];
  Recording* recording = environment.recording.get();
  if (recording) {
    if (recording->device != device_number) fail_as("not_recordable", "a call on %s cannot be part of a program of %s", device.name().c_str(), environment.device(recording->device).name().c_str());
    recording->touched.clear();
  }
  Mail mail{environment.word_data, environment.number_data, environment.word_count, environment.number_count, device_number};
  CallMemory memory(environment.storages);
  kernel.decode(mail, environment.storages, memory, args);
  kernel.check(args);
  if (memory.widenings() > 0) {
    if (on_host) environment.join();
    may_defer = false;
    widen_inputs(environment, device, memory);
  }
  if (kernel.check_values) check_values(device, kernel, args);
  Workspace workspace(environment.storages.arena(device_number), on_host ? kernel.workspace_bytes(args) : kernel.cuda_workspace_bytes(args));
  kernel.set_workspace(args, workspace.data());
  if (may_defer && (tensor_bytes(mail.words, mail.word_at) >= kWorthDeferring || environment.busy())) {
    // Memory that is given back meanwhile is handed out again only to calls behind this one.
    std::vector<char> copy(args, args + kernel.size);
    environment.defer([run = kernel_function(id), copy = std::move(copy)] {
      alignas(64) char aligned[kMaxArguments];
      std::memcpy(aligned, copy.data(), copy.size());
      run(aligned);
    });
    memory.commit();
    return;
  }
  execute(environment, device, id, kernel, args);
  memory.commit();
  if (recording)
    for (Block* block : recording->touched)
      if (StorageTable::arena_of(block) != &recording->program->arena()) recording->program->keep(block);
}

Napi::Value Call(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  // The kernel's number, and above it the device's.
  const int32_t number = info[0].As<Napi::Number>().Int32Value();
  const int id = number & 0xffff, device = number >> 16;
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
