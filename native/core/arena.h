// Caching allocator of one device in one environment. Blocks come from size classes (at most 12.5 % larger than asked),
// are kept after release and handed out again, because touching fresh pages runs ten times slower than
// memory itself, and asking a GPU for memory stops it. A block may be handed out while work on its former content is
// still under way: what uses it next runs after that. Not thread safe: it belongs to the thread of its environment.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "device.h"

namespace simmim {

struct ArenaStats {
  size_t live = 0;         // bytes in use, rounded up to size classes
  size_t cached = 0;       // bytes kept for reuse
  size_t peak = 0;         // highest `live` since reset_peak()
  uint64_t live_blocks = 0;
  uint64_t system_allocations = 0;  // calls that had to go to the system
};

class Arena {
 public:
  explicit Arena(Device& device) : device_(device) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  Device& device() const { return device_; }
  /// 64-byte aligned memory of at least `bytes` bytes, not cleared. Throws Error{out_of_memory}.
  void* allocate(size_t bytes);
  void release(void* data, size_t bytes);  // `bytes` as given to allocate()
  void trim();                             // gives every cached block back to the system
  void reset_peak() { stats_.peak = stats_.live; }
  const ArenaStats& stats() const { return stats_; }
  /// Test hook: the n-th allocation from now on fails (1 = the next); 0 switches it off.
  void fail_at(uint64_t n) { fail_countdown_ = n; }

 private:
  size_t size_of_block(size_t bytes) const;
  void make_room(size_t need);
  Device& device_;
  std::map<size_t, std::vector<void*>> free_;
  ArenaStats stats_;
  uint64_t fail_countdown_ = 0;
};

}  // namespace simmim
