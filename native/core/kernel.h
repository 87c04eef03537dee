// What the addon knows of each kernel (spec.h), whatever its type, and the decoding of a call from the mailbox.
#pragma once
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "error.h"
#include "spec.h"
#include "storage.h"

namespace simmim {

/// Cursor over the mailbox: per tensor `handle, dtype, rank, dims...` as int32, per scalar one double,
/// per list its length and values as doubles. Outputs come with handle 0 and the wanted dtype and dims.
struct Mail {
  int32_t* words;
  const double* numbers;
  int32_t word_count, number_count;
  int device = 0;  // where the call runs: outputs are made there, every other tensor must be there
  int32_t word_at = 0, number_at = 0;
  int32_t* take_words(int n) {
    if (n < 0 || word_at + n > word_count) fail("the mailbox ends in the middle of the arguments");
    int32_t* p = words + word_at;
    word_at += n;
    return p;
  }
  double take_number() {
    if (number_at >= number_count) fail("the mailbox ends in the middle of the arguments");
    return numbers[number_at++];
  }
};

/// What decoding allocates for one call: outputs, released again unless the call is committed, and f32 copies of bf16
/// inputs for a kernel that reads f32 alone, which live as long as the call and are filled by whoever runs it.
class CallMemory {
 public:
  CallMemory(StorageTable& storages) : storages_(storages) {}
  CallMemory(const CallMemory&) = delete;
  CallMemory& operator=(const CallMemory&) = delete;
  ~CallMemory() {
    for (const Widening& widening : widened_) storages_.release(widening.handle);
    if (committed_) return;
    for (int i = 0; i < outputs_; i++) {
      storages_.release(handles_[i]);
      *slots_[i] = 0;
    }
  }
  void add(Handle handle, int32_t* slot) {
    if (outputs_ == kMax) fail_as("internal", "more than %d outputs", kMax);
    handles_[outputs_] = handle;
    slots_[outputs_++] = slot;
    *slot = handle;
  }
  void commit() { committed_ = true; }

  struct Widening {
    Tensor half, wide;
    Handle handle;
  };
  /// An f32 tensor in place of a bf16 one.
  Tensor widen(const Tensor& half, int device) {
    widened_.push_back({half, half, 0});  // handle 0: nothing to release yet
    auto& [_, wide, handle] = widened_.back();
    wide.dtype = DType::f32;
    handle = storages_.allocate(DType::f32, wide.bytes(), device);
    wide.data = storages_.get(handle).data;
    storages_.touch(handle);
    return wide;
  }
  const std::vector<Widening>& widenings() const { return widened_; }

 private:
  static constexpr int kMax = 16;
  StorageTable& storages_;
  Handle handles_[kMax];
  int32_t* slots_[kMax];
  int outputs_ = 0;
  bool committed_ = false;
  std::vector<Widening> widened_;
};

template <class K>
concept HasWorkspace = requires(const K& k) { k.workspace_bytes(); };

template <class K>
concept HasCudaWorkspace = requires(const K& k) { k.cuda_workspace_bytes(); };

template <class K>
concept HasValueCheck = requires(const K& k) { k.check_values(); };

/// A kernel of many functions (unary, binary, reduce): `ops` lists their names, numbered in order, for TypeScript.
template <class K>
concept HasOps = requires { K::ops; };

/// Everything the binding needs to know about one kernel, whatever its type.
struct KernelInfo {
  const char* name;
  const char* ops;  // null where the kernel is one function
  size_t size;      // of the argument struct
  const void* empty;
  std::vector<Field> fields;
  void (*check)(const void* args);
  void (*check_values)(const void* args);  // null where check() is all
  size_t (*workspace_bytes)(const void* args);       // on the host
  size_t (*cuda_workspace_bytes)(const void* args);
  void (*set_workspace)(void* args, void* workspace);

  void decode(Mail& mail, StorageTable& storages, CallMemory& memory, void* args) const;
  /// Visits the tensors whose values check_values() reads.
  void each_value_checked(void* args, const std::function<void(Tensor&)>& visit) const;
  /// False where all that the kernel writes is empty: there is nothing to do, whatever the sizes of what it reads.
  bool has_results(const void* args) const;
  std::string schema() const;                    // JSON
  std::string describe(const void* args) const;  // trace line
};

constexpr size_t kMaxArguments = 4096;  // bytes of an argument struct

/// Never inlined: the table of all kernels would become one function of thousands of calls, which takes minutes to compile.
template <class K>
__attribute__((noinline)) KernelInfo kernel_info() {
  static_assert(std::is_trivially_copyable_v<K>, "a kernel's arguments must be plain data: they are recorded and replayed");
  static_assert(sizeof(K) <= kMaxArguments);
  const auto fields = K::spec();
  KernelInfo info{K::name, nullptr, sizeof(K), &empty_arguments<K>, {fields.list, fields.list + fields.count}};
  if constexpr (HasOps<K>) info.ops = K::ops;
  info.check = [](const void* args) { static_cast<const K*>(args)->check(); };
  info.check_values = nullptr;
  if constexpr (HasValueCheck<K>) info.check_values = [](const void* args) { static_cast<const K*>(args)->check_values(); };
  if constexpr (HasWorkspace<K>) {
    info.workspace_bytes = [](const void* args) -> size_t { return static_cast<const K*>(args)->workspace_bytes(); };
    info.cuda_workspace_bytes = info.workspace_bytes;
    if constexpr (HasCudaWorkspace<K>) info.cuda_workspace_bytes = [](const void* args) -> size_t { return static_cast<const K*>(args)->cuda_workspace_bytes(); };
    info.set_workspace = [](void* args, void* workspace) { static_cast<K*>(args)->workspace = workspace; };
  } else {
    info.workspace_bytes = info.cuda_workspace_bytes = [](const void*) -> size_t { return 0; };
    info.set_workspace = [](void*, void*) {};
  }
  return info;
}

}  // namespace simmim
