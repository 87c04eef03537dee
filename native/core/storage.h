// Storages: reference-counted bytes on a device, views into them, and the table of handles that JavaScript holds.
#pragma once
#include <cstdint>
#include <deque>
#include <vector>

#include "tensor.h"

namespace simmim {

/// A handle packs a slot (22 bits) and its generation (9 bits, never 0): a stale handle is an error, not a crash.
using Handle = int32_t;

class Arena;
struct Block;  // reference-counted bytes of one arena

class StorageTable {
 public:
  /// `host` serves device 0.
  explicit StorageTable(Arena& host) : arenas_{&host} {}
  StorageTable(const StorageTable&) = delete;
  StorageTable& operator=(const StorageTable&) = delete;
  ~StorageTable();

  Handle allocate(DType dtype, size_t bytes, int device = 0);
  /// A second handle on bytes [offset, offset + bytes) of the same block.
  Handle view(Handle parent, size_t offset, size_t bytes, DType dtype);
  /// False when the handle is stale (already released).
  bool release(Handle handle);

  struct Slot {
    Block* block = nullptr;
    char* data = nullptr;
    size_t bytes = 0;
    DType dtype = DType::f32;
    uint16_t generation = 1;
    uint16_t device = 0;
  };
  /// Throws Error{disposed} for a stale or made-up handle.
  const Slot& get(Handle handle) const;
  size_t live_handles() const { return live_; }

  int devices() const { return static_cast<int>(arenas_.size()); }
  /// Where new storages of a device come from; a recording swaps in its program's arena. Devices are numbered in order.
  Arena& arena(int device) const { return *arenas_[static_cast<size_t>(device)]; }
  void set_arena(int device, Arena& arena) { arenas_[static_cast<size_t>(device)] = &arena; }
  int add_device(Arena& arena) {
    arenas_.push_back(&arena);
    return devices() - 1;
  }
  /// While set, every storage that a kernel reads or writes is appended here (recording).
  void watch(std::vector<Block*>* touched) { touched_ = touched; }
  void touch(Handle handle) {
    if (touched_) touched_->push_back(get(handle).block);
  }
  static void retain(Block* block);
  static void drop(Block* block);
  static Arena* arena_of(const Block* block);

 private:
  Handle add(Block* block, char* data, size_t bytes, DType dtype, int device);
  std::vector<Arena*> arenas_;
  std::vector<Block*>* touched_ = nullptr;
  std::vector<Slot> slots_{1};     // slot 0 is never used: handle 0 means "none"
  std::deque<uint32_t> free_;      // oldest first, so that generations last
  size_t live_ = 0;
};

}  // namespace simmim
