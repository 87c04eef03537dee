#include "storage.h"

#include "arena.h"
#include "error.h"
#include "order.h"

namespace simmim {

struct Block {
  Arena* arena;
  void* data;
  size_t bytes;
  uint32_t references;
  Provenance provenance = {};
};

Provenance& provenance_of(Block* block) { return block->provenance; }
bool contains(const Block* block, const void* data) {
  const char* begin = static_cast<const char*>(block->data);
  return data >= begin && data < begin + block->bytes;
}

void StorageTable::retain(Block* block) { block->references++; }
void StorageTable::drop(Block* block) {
  if (--block->references > 0) return;
  block->arena->release(block->data, block->bytes);
  delete block;
}
Arena* StorageTable::arena_of(const Block* block) { return block->arena; }

namespace {
constexpr uint32_t kSlotBits = 22;
constexpr uint32_t kSlotMask = (1u << kSlotBits) - 1;
constexpr uint32_t kGenerations = 1u << 9;
constexpr size_t kReuseAfter = 1024;  // freed slots rest this long before reuse, so stale handles stay detectable
}  // namespace

StorageTable::~StorageTable() {
  for (Slot& slot : slots_)
    if (slot.block) drop(slot.block);
}

Handle StorageTable::add(Block* block, char* data, size_t bytes, DType dtype, int device) {
  uint32_t index;
  if (free_.size() > kReuseAfter) {
    index = free_.front();
    free_.pop_front();
  } else {
    index = static_cast<uint32_t>(slots_.size());
    if (index > kSlotMask) fail_as("out_of_memory", "%u tensors are live, the limit", kSlotMask);
    slots_.emplace_back();
  }
  Slot& slot = slots_[index];
  slot.block = block;
  slot.data = data;
  slot.bytes = bytes;
  slot.dtype = dtype;
  slot.device = static_cast<uint16_t>(device);
  live_++;
  return static_cast<Handle>(static_cast<uint32_t>(slot.generation) << kSlotBits | index);
}

Handle StorageTable::allocate(DType dtype, size_t bytes, int device) {
  Arena& from = arena(device);
  void* data = from.allocate(bytes);
  return add(new Block{&from, data, bytes, 1}, static_cast<char*>(data), bytes, dtype, device);
}

Handle StorageTable::view(Handle parent, size_t offset, size_t bytes, DType dtype) {
  const Slot& slot = get(parent);
  if (offset > slot.bytes || bytes > slot.bytes - offset) fail("bytes %zu..%zu lie outside the storage of %zu bytes", offset, offset + bytes, slot.bytes);
  Block* block = slot.block;
  char* data = slot.data + offset;
  const int device = slot.device;
  block->references++;
  return add(block, data, bytes, dtype, device);
}

const StorageTable::Slot& StorageTable::get(Handle handle) const {
  const uint32_t index = static_cast<uint32_t>(handle) & kSlotMask;
  const uint32_t generation = static_cast<uint32_t>(handle) >> kSlotBits;
  if (handle <= 0 || index == 0 || index >= slots_.size()) fail_as("disposed", "handle %d is not a tensor", handle);
  const Slot& slot = slots_[index];
  if (!slot.block || slot.generation != generation) fail_as("disposed", "the tensor of handle %d was disposed", handle);
  return slot;
}

bool StorageTable::release(Handle handle) {
  const uint32_t index = static_cast<uint32_t>(handle) & kSlotMask;
  if (handle <= 0 || index == 0 || index >= slots_.size()) return false;
  Slot& slot = slots_[index];
  if (!slot.block || slot.generation != static_cast<uint32_t>(handle) >> kSlotBits) return false;
  drop(slot.block);
  slot.block = nullptr;
  slot.generation = static_cast<uint16_t>(slot.generation + 1u < kGenerations ? slot.generation + 1 : 1);
  free_.push_back(index);
  live_--;
  return true;
}

}  // namespace simmim
