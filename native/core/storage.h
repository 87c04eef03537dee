// Storages: reference-counted bytes, views into them, and the table of handles that JavaScript holds.
#pragma once
#include <cstdint>
#include <deque>
#include <vector>

#include "arena.h"
#include "tensor.h"

namespace simmim {

/// A handle packs a slot (22 bits) and its generation (9 bits, never 0): a stale handle is an error, not a crash.
using Handle = int32_t;

struct Block;  // reference-counted bytes of one arena

class StorageTable {
 public:
  explicit StorageTable(Arena& arena) : arena_(&arena) {}
  StorageTable(const StorageTable&) = delete;
  StorageTable& operator=(const StorageTable&) = delete;
  ~StorageTable();

  Handle allocate(DType dtype, size_t bytes);
  /// A second handle on bytes [offset, offset + bytes) of the same block.
  Handle view(Handle parent, size_t offset, size_t bytes, DType dtype);
  /// False when the handle is stale (already released).
  bool release(Handle handle);

  struct Slot {
    Block* block = nullptr;
    char* data = nullptr;
    size_t bytes = 0;
    DType dtype = DType::f32;
    uint32_t generation = 1;
  };
  /// Throws Error{disposed} for a stale or made-up handle.
  const Slot& get(Handle handle) const;
  size_t live_handles() const { return live_; }

  /// Where new storages come from; a recording swaps in its program's arena.
  Arena& arena() { return *arena_; }
  void set_arena(Arena& arena) { arena_ = &arena; }
  /// While set, every storage that a kernel reads or writes is appended here (recording).
  void watch(std::vector<Block*>* touched) { touched_ = touched; }
  void touch(Handle handle) {
    if (touched_) touched_->push_back(get(handle).block);
  }
  static void retain(Block* block);
  static void drop(Block* block);
  static Arena* arena_of(const Block* block);

 private:
  Handle add(Block* block, char* data, size_t bytes, DType dtype);
  Arena* arena_;
  std::vector<Block*>* touched_ = nullptr;
  std::vector<Slot> slots_{1};     // slot 0 is never used: handle 0 means "none"
  std::deque<uint32_t> free_;      // oldest first, so that generations last
  size_t live_ = 0;
};

}  // namespace simmim
