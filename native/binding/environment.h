// State of one JavaScript environment (main thread or worker): devices with their arenas, handles, mailbox, trace. It hangs on
// the environment's instance data, never on a global, so workers and two copies in one process are safe.
#pragma once
#include <napi.h>

#include <map>
#include <memory>
#include <vector>

#include "../core/arena.h"
#include "../core/program.h"
#include "../core/storage.h"
#include "queue.h"

namespace simmim {

/// A device of a plugin, with its memory.
struct Attached {
  explicit Attached(std::unique_ptr<Device> opened) : device(std::move(opened)), arena(*device) {}
  std::unique_ptr<Device> device;
  Arena arena;
};

/// A program being recorded.
struct Recording {
  Recording(int device, Arena& arena) : device(device), program(std::make_unique<Program>(arena)) {}
  int device;
  std::unique_ptr<Program> program;
  size_t constants = 0;          // bytes of host values frozen into the program
};

class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment();
  /// That of a call; what JavaScript has released since the last one is given back first.
  static Environment& of(const Napi::Env& env) {
    Environment& environment = *env.GetInstanceData<Environment>();
    if (environment.released_data && *environment.released_data) environment.take_released();
    return environment;
  }

  /// Tells V8 of native memory in steps of 16 MiB, so that its garbage collector feels undisposed tensors.
  void report_memory();

  /// Waits for all work that was put off on the host.
  void join() { order.drain(); }
  bool busy() const { return !order.idle(); }
  /// The queue of the host's work.
  Queue& queue();
  /// That of waiting for devices.
  Queue& device_queue();
  /// Throws Error{not_recordable} while a program is being recorded.
  void refuse_while_recording(const char* what) const;
  /// Devices by number: 0 is the host. Throws for a number that is not open.
  Device& device(int number);
  Arena& arena_of(int device) { return device == 0 ? arena : attached[static_cast<size_t>(device) - 1]->arena; }

  Napi::Env env;
  HostDevice host;
  Arena arena{host};
  std::vector<std::unique_ptr<Attached>> attached;
  std::vector<std::unique_ptr<Arena>> program_arenas;  // before storages: destroyed after them
  StorageTable storages{arena};
  Napi::Reference<Napi::Int32Array> words;
  Napi::Reference<Napi::Float64Array> numbers;
  int32_t* word_data = nullptr;
  double* number_data = nullptr;
  int32_t word_count = 0, number_count = 0;
  Napi::Reference<Napi::Int32Array> released;
  int32_t* released_data = nullptr;  // a count and so many handles; null until it is set
  int32_t released_count = 0;        // elements of the array
  Napi::FunctionReference error_class, array_buffer;
  std::map<int32_t, std::unique_ptr<Program>> programs;
  int32_t next_program = 1;
  std::unique_ptr<Recording> recording;
  Order order, device_order;
  /// Estimated work (work_of()) from which an eager call is queued; infinite: none is.
  double queue_from = kQueueFrom;
  std::vector<Block*> touched;  // by the call under way, while the storages are watched
  bool trace = false;
  uint64_t calls = 0;
  uint64_t widenings = 0;  // bf16 inputs that were copied to f32 for a kernel that does not read bf16

  static constexpr double kQueueFrom = 4 << 20;

 private:
  void take_released();
  int64_t reported_ = 0;
  std::unique_ptr<Queue> queue_, device_queue_;  // their threads start with the first work
};

/// SIMMIM_QUEUE_FROM as a number. Throws Error{invalid_argument} for anything but a number of at least 0 or "off".
double queue_threshold(const char* text);

/// Runs `body` and turns a C++ Error into the JavaScript SimmimError of ts/errors.ts: the only catch.
template <class F>
auto guarded(const Napi::CallbackInfo& info, const char* op, F&& body) -> decltype(body());
[[noreturn]] void throw_to_js(Environment& environment, const char* code, const std::string& op, const char* message);

void export_storage(Napi::Env env, Napi::Object exports);
void export_mailbox(Napi::Env env, Napi::Object exports);
void export_program(Napi::Env env, Napi::Object exports);
void export_device(Napi::Env env, Napi::Object exports);

/// The error as the JavaScript SimmimError of ts/errors.ts.
Napi::Error to_js(Environment& environment, const char* code, const std::string& op, const char* message);
/// The bytes of a typed array.
struct Bytes {
  char* data;
  size_t size;
};
Bytes bytes_argument(const Napi::Value& value, const char* name);
Handle handle_argument(const Napi::Value& value);
/// A number that is an int32; `otherwise` for anything else: none is rounded or wrapped to one that means something.
int32_t int32_argument(const Napi::Value& value, int32_t otherwise);
/// Throws for anything but an integer of 0 to 2^53.
size_t size_argument(const Napi::Value& value, const char* name);
/// Whether a typed array lies in shared memory: that cannot be taken away (detached) while somebody else uses it.
bool is_shared(const Napi::Value& array);
/// Where the bytes of writeInto and writeLater (handle, typedArray, byteOffset) go, checked to fit.
struct Write {
  Device& device;
  Block* block;
  char* to;
  Bytes source;
};
Write write_arguments(Environment& environment, const Napi::CallbackInfo& info);
/// A read of bytes that fit; bf16 values may be widened to f32 on the way.
struct Read {
  Device& device;
  Block* block;
  const char* from;
  size_t bytes;  // of the storage
  char* target;
  bool widens;
  /// `collect` fetches the bytes.
  void deliver(const std::function<void(void* to)>& collect) const;
};
/// Throws the Error of a call that the values hang on, all of which must have run.
void throw_failure(const Verdicts& verdicts);
/// The number of an open device; 0, the host, when the argument is not given.
int device_argument(Environment& environment, const Napi::Value& value);

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
