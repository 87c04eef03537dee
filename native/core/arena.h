// Caching allocator of one device in one environment. Memory is kept after release and handed out again, because touching
// fresh pages runs ten times slower than memory itself, and asking a GPU for memory stops it. Small blocks come from size
// classes (at most 12.5 % larger than asked); large ones are parts of chunks, which are cut as they are needed and put
// together again, so that tensors of one size make room for tensors of another.
// A block may be handed out while work on its former content is still under way: what uses it next runs after that. Not
// thread safe: it belongs to the thread of its environment.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "device.h"

namespace simmim {

struct ArenaStats {
  size_t live = 0;         // bytes in use, rounded up to size classes and pages
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
  void trim();                             // gives everything that is cached back to the system
  void reset_peak() { stats_.peak = stats_.live; }
  const ArenaStats& stats() const { return stats_; }
  /// Test hook: the n-th allocation from now on fails (1 = the next); 0 switches it off.
  void fail_at(uint64_t n) { fail_countdown_ = n; }

 private:
  /// Part of a chunk, in use or free.
  struct Span {
    size_t size;
    bool free;
    uint64_t last_use;  // while free: the last ticket (order.h) that may use it
  };
  using Spans = std::map<char*, Span>;

  bool shares_chunks(size_t bytes) const;
  size_t size_of_block(size_t bytes) const;
  void* take_span(size_t size);
  void* cut_new_chunk(size_t size);
  void give_span(char* data, uint64_t last_use);
  void set_free(Spans::iterator span);
  void join(Spans::iterator first, Spans::iterator second);
  bool is_whole_chunk(Spans::const_iterator span) const;
  void* ask_system(size_t size);
  void make_room(size_t need);
  void give_chunk_back(Spans::iterator span);
  Device& device_;
  std::map<size_t, std::vector<void*>> free_;       // small blocks by size class
  std::map<char*, size_t> chunks_;                  // start and size
  Spans spans_;                                     // of all chunks, which they fill, by address
  std::set<std::pair<size_t, char*>> free_spans_;   // smallest first, of equal ones the lowest
  ArenaStats stats_;
  uint64_t fail_countdown_ = 0;
};

}  // namespace simmim
