// A kernel is declared once: a trivially copyable struct of Tensors and scalars with
//   static constexpr const char* name;
//   static constexpr auto spec();      fields in mailbox order
//   void check() const;                shapes and parameters, with require()
//   void check_values() const;         optional: values of the inputs that spec() marks with values_checked()
//   size_t workspace_bytes() const;    optional, together with a member `void* workspace`
//   size_t cuda_workspace_bytes() const;   optional beside it, where the CUDA version needs another amount
// spec() is the single truth behind decoding, accepted dtypes, the schema that generates
// ts/native/kernels.gen.ts, trace lines and fuzz inputs.
#pragma once
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "error.h"
#include "storage.h"
#include "tensor.h"

namespace simmim {

using DTypes = uint32_t;  // a set of DType
constexpr DTypes kF32 = 1u << 0, kI32 = 1u << 1, kU8 = 1u << 2, kBF16 = 1u << 3;
constexpr DTypes kFloat = kF32 | kBF16, kAny = kF32 | kI32 | kU8, kStored = kAny | kBF16;

enum class Role { in, optional_in, out, optional_out, inout, optional_inout, parameter };

template <class K, class T>
struct Field {
  const char* name;
  T K::*member;
  Role role;
  DTypes dtypes;
  bool values_checked = false;
};

template <class K> constexpr Field<K, Tensor> in(const char* n, Tensor K::*m, DTypes d) { return {n, m, Role::in, d}; }
template <class K> constexpr Field<K, Tensor> optional_in(const char* n, Tensor K::*m, DTypes d) { return {n, m, Role::optional_in, d}; }
template <class K> constexpr Field<K, Tensor> out(const char* n, Tensor K::*m, DTypes d) { return {n, m, Role::out, d}; }
template <class K> constexpr Field<K, Tensor> optional_out(const char* n, Tensor K::*m, DTypes d) { return {n, m, Role::optional_out, d}; }
/// Updated in place; the tensor must exist.
template <class K> constexpr Field<K, Tensor> inout(const char* n, Tensor K::*m, DTypes d) { return {n, m, Role::inout, d}; }
template <class K> constexpr Field<K, Tensor> optional_inout(const char* n, Tensor K::*m, DTypes d) { return {n, m, Role::optional_inout, d}; }
/// A scalar (int32_t, int64_t, float, double, bool) or an Ints list.
template <class K, class T> constexpr Field<K, T> par(const char* n, T K::*m) { return {n, m, Role::parameter, 0}; }
/// check_values() reads this tensor; from a device it gets a copy on the host.
template <class K> constexpr Field<K, Tensor> values_checked(Field<K, Tensor> f) {
  f.values_checked = true;
  return f;
}
template <class... F> constexpr auto fields(F... f) { return std::make_tuple(f...); }

/// For check(): `t` must have the shape and storage type of `as`.
inline void require_like(const char* name, const Tensor& t, const char* as_name, const Tensor& as) {
  require(t.shape == as.shape, "%s has another shape than %s (%lld values, expected %lld)", name, as_name, (long long)t.count(), (long long)as.count());
  require(t.dtype == as.dtype, "%s is %s, expected %s as %s", name, name_of(t.dtype), name_of(as.dtype), as_name);
}

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

/// Decodes one tensor argument into its place, which is empty; not a template, so it exists once.
void take_tensor(Mail& mail, const char* name, Role role, DTypes accepted, StorageTable& storages, CallMemory& memory, Tensor& tensor);
Ints take_ints(Mail& mail, const char* name);

template <class K, class T>
void take(K& k, const Field<K, T>& field, Mail& mail, StorageTable& storages, CallMemory& memory) {
  if constexpr (std::is_same_v<T, Tensor>) {
    take_tensor(mail, field.name, field.role, field.dtypes, storages, memory, k.*field.member);
  } else if constexpr (std::is_same_v<T, Ints>) {
    k.*field.member = take_ints(mail, field.name);
  } else {
    const double value = mail.take_number();
    if constexpr (std::is_same_v<T, bool>) {
      k.*field.member = value != 0;
    } else if constexpr (std::is_integral_v<T>) {
      constexpr double limit = sizeof(T) == 4 ? 2147483647.0 : 9007199254740992.0;
      if (!(value >= -limit - (sizeof(T) == 4) && value <= limit) || value != static_cast<double>(static_cast<int64_t>(value)))
        fail("%s is %g, expected an integer", field.name, value);
      k.*field.member = static_cast<T>(value);
    } else {
      k.*field.member = static_cast<T>(value);
    }
  }
}

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
  size_t size;  // of the argument struct
  void (*decode)(Mail&, StorageTable&, CallMemory&, void* args);
  void (*check)(const void* args);
  void (*check_values)(const void* args);  // null where check() is all
  /// Visits the tensors whose values check_values() reads.
  void (*each_value_checked)(void* args, const std::function<void(Tensor&)>& visit);
  size_t (*workspace_bytes)(const void* args);       // on the host
  size_t (*cuda_workspace_bytes)(const void* args);
  void (*set_workspace)(void* args, void* workspace);
  std::string (*schema)();             // JSON
  std::string (*describe)(const void* args);  // trace line
};

std::string describe_tensor(const Tensor& tensor);
std::string schema_field(const char* name, const char* type, Role role, DTypes dtypes);

template <class K>
std::string schema_of() {
  std::string out = std::string("{\"name\":\"") + K::name + "\",\"fields\":[";
  std::apply(
      [&]<class... T>(const Field<K, T>&... f) {
        ((out += schema_field(f.name, std::is_same_v<T, Tensor> ? "tensor" : std::is_same_v<T, Ints> ? "ints" : std::is_same_v<T, bool> ? "boolean" : std::is_integral_v<T> ? "integer" : "number", f.role, f.dtypes)), ...);
      },
      K::spec());
  if (out.back() == ',') out.pop_back();
  out += "]";
  if constexpr (HasOps<K>) out += std::string(",\"ops\":\"") + K::ops + "\"";
  return out + "}";
}

template <class K>
std::string describe_call(const K& k) {
  std::string out = K::name;
  std::apply(
      [&]<class... T>(const Field<K, T>&... f) {
        ([&] {
          out += std::string(" ") + f.name + "=";
          if constexpr (std::is_same_v<T, Tensor>) {
            out += describe_tensor(k.*f.member);
          } else if constexpr (std::is_same_v<T, Ints>) {
            out += "(";
            for (int i = 0; i < (k.*f.member).size; i++) out += (i ? "," : "") + std::to_string((k.*f.member)[i]);
            out += ")";
          } else if constexpr (std::is_floating_point_v<T>) {
            char text[32];
            snprintf(text, sizeof text, "%.9g", static_cast<double>(k.*f.member));
            out += text;
          } else {
            out += std::to_string(k.*f.member);
          }
        }(), ...);
      },
      K::spec());
  return out;
}

template <class K, class T>
void visit_value_checked(K& k, const Field<K, T>& field, const std::function<void(Tensor&)>& visit) {
  if constexpr (std::is_same_v<T, Tensor>)
    if (field.values_checked) visit(k.*field.member);
}

constexpr size_t kMaxArguments = 4096;  // bytes of an argument struct

template <class K>
KernelInfo kernel_info() {
  static_assert(std::is_trivially_copyable_v<K>, "a kernel's arguments must be plain data: they are recorded and replayed");
  static_assert(sizeof(K) <= kMaxArguments);
  KernelInfo info;
  info.name = K::name;
  info.size = sizeof(K);
  info.decode = [](Mail& mail, StorageTable& storages, CallMemory& memory, void* args) {
    K& k = *new (args) K{};
    std::apply([&](const auto&... f) { (take(k, f, mail, storages, memory), ...); }, K::spec());
  };
  info.check = [](const void* args) { static_cast<const K*>(args)->check(); };
  info.check_values = nullptr;
  if constexpr (HasValueCheck<K>) info.check_values = [](const void* args) { static_cast<const K*>(args)->check_values(); };
  info.each_value_checked = [](void* args, const std::function<void(Tensor&)>& visit) {
    std::apply([&](const auto&... f) { (visit_value_checked(*static_cast<K*>(args), f, visit), ...); }, K::spec());
  };
  if constexpr (HasWorkspace<K>) {
    info.workspace_bytes = [](const void* args) -> size_t { return static_cast<const K*>(args)->workspace_bytes(); };
    info.cuda_workspace_bytes = info.workspace_bytes;
    if constexpr (HasCudaWorkspace<K>) info.cuda_workspace_bytes = [](const void* args) -> size_t { return static_cast<const K*>(args)->cuda_workspace_bytes(); };
    info.set_workspace = [](void* args, void* workspace) { static_cast<K*>(args)->workspace = workspace; };
  } else {
    info.workspace_bytes = info.cuda_workspace_bytes = [](const void*) -> size_t { return 0; };
    info.set_workspace = [](void*, void*) {};
  }
  info.schema = [] { return schema_of<K>(); };
  info.describe = [](const void* args) { return describe_call(*static_cast<const K*>(args)); };
  return info;
}

using KernelFn = void (*)(const void* args);

}  // namespace simmim
