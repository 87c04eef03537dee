// A kernel is declared once: a trivially copyable struct of Tensors and scalars with
//   static constexpr const char* name;
//   static auto spec();      fields in mailbox order
//   void check() const;                shapes and parameters, with require()
//   void check_values() const;         optional: values of the inputs that spec() marks with values_checked()
//   size_t workspace_bytes() const;    optional, together with a member `void* workspace`
//   size_t cuda_workspace_bytes() const;   optional beside it, where the CUDA version needs another amount
// spec() is the single truth behind decoding, accepted dtypes, the schema that generates
// ts/native/kernels.gen.ts, trace lines and fuzz inputs.
#pragma once
#include <initializer_list>
#include <type_traits>

#include "require.h"
#include "tensor.h"

namespace simmim {

using DTypes = uint32_t;  // a set of DType
constexpr DTypes kF32 = 1u << 0, kI32 = 1u << 1, kU8 = 1u << 2, kBF16 = 1u << 3;
constexpr DTypes kFloat = kF32 | kBF16, kAny = kF32 | kI32 | kU8, kStored = kAny | kBF16;

enum class Role { in, optional_in, out, optional_out, inout, optional_inout, parameter };

enum class FieldType { tensor, ints, boolean, int32, int64, float32, float64 };

/// A member of an argument struct as plain data, so that one loop serves every kernel.
struct Field {
  const char* name;
  size_t offset;
  FieldType type;
  Role role;
  DTypes dtypes;
  bool values_checked = false;
  void* of(void* args) const { return static_cast<char*>(args) + offset; }
  const void* of(const void* args) const { return static_cast<const char*>(args) + offset; }
};

/// The arguments before decoding.
template <class K> inline const K empty_arguments{};

template <class K, class T>
size_t offset_of(T K::*member) {
  return static_cast<size_t>(reinterpret_cast<const char*>(&(empty_arguments<K>.*member)) - reinterpret_cast<const char*>(&empty_arguments<K>));
}
template <class T>
constexpr FieldType type_of() {
  if constexpr (std::is_same_v<T, Tensor>) return FieldType::tensor;
  else if constexpr (std::is_same_v<T, Ints>) return FieldType::ints;
  else if constexpr (std::is_same_v<T, bool>) return FieldType::boolean;
  else if constexpr (std::is_same_v<T, int32_t>) return FieldType::int32;
  else if constexpr (std::is_same_v<T, int64_t>) return FieldType::int64;
  else if constexpr (std::is_same_v<T, float>) return FieldType::float32;
  else {
    static_assert(std::is_same_v<T, double>, "a field is a Tensor, an Ints list, bool, int32_t, int64_t, float or double");
    return FieldType::float64;
  }
}

template <class K> Field in(const char* n, Tensor K::*m, DTypes d) { return {n, offset_of(m), FieldType::tensor, Role::in, d}; }
template <class K> Field optional_in(const char* n, Tensor K::*m, DTypes d) { return {n, offset_of(m), FieldType::tensor, Role::optional_in, d}; }
template <class K> Field out(const char* n, Tensor K::*m, DTypes d) { return {n, offset_of(m), FieldType::tensor, Role::out, d}; }
template <class K> Field optional_out(const char* n, Tensor K::*m, DTypes d) { return {n, offset_of(m), FieldType::tensor, Role::optional_out, d}; }
/// Updated in place; the tensor must exist.
template <class K> Field inout(const char* n, Tensor K::*m, DTypes d) { return {n, offset_of(m), FieldType::tensor, Role::inout, d}; }
template <class K> Field optional_inout(const char* n, Tensor K::*m, DTypes d) { return {n, offset_of(m), FieldType::tensor, Role::optional_inout, d}; }
/// A scalar (int32_t, int64_t, float, double, bool) or an Ints list.
template <class K, class T> Field par(const char* n, T K::*m) { return {n, offset_of(m), type_of<T>(), Role::parameter, 0}; }
/// check_values() reads this tensor; from a device it gets a copy on the host.
inline Field values_checked(Field f) {
  f.values_checked = true;
  return f;
}
template <int N>
struct Fields {
  static constexpr int count = N;
  Field list[N];
};
template <class... F> Fields<sizeof...(F)> fields(F... f) { return {{f...}}; }

/// For check(): `t` must have the shape and storage type of `as`.
inline void require_like(const char* name, const Tensor& t, const char* as_name, const Tensor& as) {
  require(t.shape == as.shape, "%s has another shape than %s (%lld values, expected %lld)", name, as_name, (long long)t.count(), (long long)as.count());
  require(t.dtype == as.dtype, "%s is %s, expected %s as %s", name, name_of(t.dtype), name_of(as.dtype), as_name);
}

using KernelFn = void (*)(const void* args);

}  // namespace simmim
