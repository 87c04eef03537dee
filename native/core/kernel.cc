#include "kernel.h"

#include <cstdio>

#include "arena.h"
#include "order.h"

namespace simmim {

static const char* const kRoleNames[] = {"in", "optional_in", "out", "optional_out", "inout", "optional_inout", "parameter"};

/// The order of queued calls asks which blocks a call writes.
static void note_written(const StorageTable::Slot& slot) {
  if (current_order()) current_order()->written.push_back(slot.block);
}

/// Straight into its place: a shape that is written piece by piece and then copied waits for its own stores.
static void take_shape(Mail& mail, const char* name, Shape& shape) {
  shape.rank = *mail.take_words(1);
  if (shape.rank < 0 || shape.rank > kMaxRank) fail("%s has rank %d, expected 0 to %d", name, shape.rank, kMaxRank);
  const int32_t* dims = mail.take_words(shape.rank);
  double elements = 1;
  for (int i = 0; i < shape.rank; i++) {
    if (dims[i] < 0) fail("%s has the negative dimension %d", name, dims[i]);
    shape.dims[i] = dims[i];
    elements *= dims[i] > 0 ? dims[i] : 1;  // so that the product of any of them can be computed
  }
  if (elements > 1e12) fail("%s would have %g elements", name, elements);
}

static std::string dtype_list(DTypes accepted) {
  std::string out;
  for (int t = 0; t < kDTypes; t++)
    if (accepted & 1u << t) out += (out.empty() ? "" : " or ") + std::string(name_of(static_cast<DType>(t)));
  return out;
}

/// Decodes one tensor argument into its place, which is empty.
static void take_tensor(Mail& mail, const char* name, Role role, DTypes accepted, StorageTable& storages, CallMemory& memory, Tensor& tensor) {
  int32_t* head = mail.take_words(2);
  const Handle handle = head[0];
  take_shape(mail, name, tensor.shape);
  const bool output = role == Role::out || role == Role::optional_out;
  const bool optional = role == Role::optional_in || role == Role::optional_out || role == Role::optional_inout;
  if (handle == -1) {
    if (!optional) fail("%s is missing", name);
    return;
  }
  if (output && handle == 0) {
    if (head[1] < 0 || head[1] >= kDTypes) fail("%s has the unknown dtype %d", name, head[1]);
    tensor.dtype = static_cast<DType>(head[1]);
    if (!(accepted & 1u << head[1])) fail_as("unsupported", "%s has dtype %s, this kernel supports %s", name, name_of(tensor.dtype), dtype_list(accepted).c_str());
    const Handle made = storages.allocate(tensor.dtype, tensor.bytes(), mail.device);
    memory.add(made, head);
    storages.touch(made);
    note_written(storages.get(made));
    tensor.data = storages.get(made).data;
    return;
  }
  const StorageTable::Slot& slot = storages.get(handle);
  if (slot.device != mail.device) fail("%s is on %s, the call runs on %s", name, storages.arena(slot.device).device().name().c_str(), storages.arena(mail.device).device().name().c_str());
  tensor.dtype = slot.dtype;
  const bool input = role == Role::in || role == Role::optional_in;
  const bool widens = input && slot.dtype == DType::bf16 && !(accepted & kBF16) && accepted & kF32;
  if (!widens && !(accepted & 1u << static_cast<int>(slot.dtype))) fail_as("unsupported", "%s has dtype %s, this kernel supports %s", name, name_of(slot.dtype), dtype_list(accepted).c_str());
  if (tensor.bytes() > slot.bytes) fail("%s of %zu bytes does not fit its storage of %zu bytes", name, tensor.bytes(), slot.bytes);
  tensor.data = slot.data;
  storages.touch(handle);
  if (!input) note_written(slot);
  if (widens) tensor = memory.widen(tensor, mail.device);
}

static Ints take_ints(Mail& mail, const char* name) {
  const double length = mail.take_number();
  if (!(length >= 0 && length <= Ints::kCapacity) || length != static_cast<int32_t>(length)) fail("%s has %g entries, expected at most %d", name, length, Ints::kCapacity);
  Ints list;
  list.size = static_cast<int32_t>(length);
  for (int i = 0; i < list.size; i++) {
    const double value = mail.take_number();
    if (!(value >= -9007199254740992.0 && value <= 9007199254740992.0) || value != static_cast<double>(static_cast<int64_t>(value))) fail("%s[%d] is %g, expected an integer", name, i, value);
    list.values[i] = static_cast<int64_t>(value);
  }
  return list;
}

/// An integer of at most `largest` in absolute value, or one below it.
static int64_t take_integer(Mail& mail, const char* name, double largest, double below) {
  const double value = mail.take_number();
  if (!(value >= -largest - below && value <= largest) || value != static_cast<double>(static_cast<int64_t>(value))) fail("%s is %g, expected an integer", name, value);
  return static_cast<int64_t>(value);
}

void KernelInfo::decode(Mail& mail, StorageTable& storages, CallMemory& memory, void* args) const {
  std::memcpy(args, empty, size);
  for (const Field& field : fields) {
    void* place = field.of(args);
    switch (field.type) {
      case FieldType::tensor: take_tensor(mail, field.name, field.role, field.dtypes, storages, memory, *static_cast<Tensor*>(place)); break;
      case FieldType::ints: *static_cast<Ints*>(place) = take_ints(mail, field.name); break;
      case FieldType::boolean: *static_cast<bool*>(place) = mail.take_number() != 0; break;
      case FieldType::int32: *static_cast<int32_t*>(place) = static_cast<int32_t>(take_integer(mail, field.name, 2147483647.0, 1)); break;
      case FieldType::int64: *static_cast<int64_t*>(place) = take_integer(mail, field.name, 9007199254740992.0, 0); break;
      case FieldType::float32: *static_cast<float*>(place) = static_cast<float>(mail.take_number()); break;
      case FieldType::float64: *static_cast<double*>(place) = mail.take_number(); break;
    }
  }
}

void KernelInfo::each_value_checked(void* args, const std::function<void(Tensor&)>& visit) const {
  for (const Field& field : fields)
    if (field.values_checked) visit(*static_cast<Tensor*>(field.of(args)));
}

bool KernelInfo::has_results(const void* args) const {
  for (const Field& field : fields) {
    if (field.type != FieldType::tensor || field.role == Role::in || field.role == Role::optional_in) continue;
    const Tensor& tensor = *static_cast<const Tensor*>(field.of(args));
    if (tensor.present() && tensor.count() > 0) return true;
  }
  return false;
}

static std::string describe_tensor(const Tensor& tensor) {
  if (!tensor.present()) return "none";
  std::string out = std::string(name_of(tensor.dtype)) + "[";
  for (int i = 0; i < tensor.shape.rank; i++) (out += i ? "," : "") += std::to_string(tensor.shape.dims[i]);
  return out + "]";
}

static std::string describe_value(const Field& field, const void* value) {
  switch (field.type) {
    case FieldType::tensor: return describe_tensor(*static_cast<const Tensor*>(value));
    case FieldType::ints: {
      const Ints& list = *static_cast<const Ints*>(value);
      std::string out = "(";
      for (int i = 0; i < list.size; i++) (out += i ? "," : "") += std::to_string(list[i]);
      return out + ")";
    }
    case FieldType::boolean: return std::to_string(*static_cast<const bool*>(value));
    case FieldType::int32: return std::to_string(*static_cast<const int32_t*>(value));
    case FieldType::int64: return std::to_string(*static_cast<const int64_t*>(value));
    case FieldType::float32:
    case FieldType::float64: break;
  }
  char text[32];
  snprintf(text, sizeof text, "%.9g", field.type == FieldType::float32 ? static_cast<double>(*static_cast<const float*>(value)) : *static_cast<const double*>(value));
  return text;
}

std::string KernelInfo::describe(const void* args) const {
  std::string out = name;
  for (const Field& field : fields) out += std::string(" ") + field.name + "=" + describe_value(field, field.of(args));
  return out;
}

static const char* schema_type(FieldType type) {
  switch (type) {
    case FieldType::tensor: return "tensor";
    case FieldType::ints: return "ints";
    case FieldType::boolean: return "boolean";
    case FieldType::int32:
    case FieldType::int64: return "integer";
    case FieldType::float32:
    case FieldType::float64: break;
  }
  return "number";
}

static std::string schema_field(const Field& field) {
  std::string out = std::string("{\"name\":\"") + field.name + "\",\"type\":\"" + schema_type(field.type) + "\",\"role\":\"" + kRoleNames[static_cast<int>(field.role)] + "\"";
  if (field.dtypes) {
    out += ",\"dtypes\":[";
    for (int t = 0; t < kDTypes; t++)
      if (field.dtypes & 1u << t) out += std::string("\"") + name_of(static_cast<DType>(t)) + "\",";
    out.back() = ']';
  }
  return out + "}";
}

std::string KernelInfo::schema() const {
  std::string out = std::string("{\"name\":\"") + name + "\",\"fields\":[";
  for (const Field& field : fields) (out += &field == fields.data() ? "" : ",") += schema_field(field);
  out += "]";
  if (ops) out += std::string(",\"ops\":\"") + ops + "\"";
  return out + "}";
}

}  // namespace simmim
