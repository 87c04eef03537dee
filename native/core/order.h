// The order of the work that a JavaScript environment puts off (binding/queue.h), as core needs to know it. Tickets number
// that work; memory and values are settled when no unfinished ticket uses or makes them.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "error.h"

namespace simmim {

struct Block;  // storage.h

/// Whether the values that a queued call has to check are good. Written by the call, read once its ticket is done.
struct Verdict {
  uint64_t ticket = 0;
  std::vector<std::shared_ptr<const Verdict>> basis;  // of the tensors it read: the call fails where one of them has
  std::unique_ptr<const Error> failure;
};
using Verdicts = std::vector<std::shared_ptr<const Verdict>>;

/// Where the values of a block come from.
struct Provenance {
  uint64_t written = 0;  // the last ticket that writes it
  Verdicts verdicts;     // on which its values hang
};
Provenance& provenance_of(Block* block);
/// Whether an address lies in a block.
bool contains(const Block* block, const void* data);

class Order {
 public:
  uint64_t asked = 0;             // the last ticket given out
  std::atomic<uint64_t> done{0};  // every ticket up to here is finished
  uint64_t replayed = 0;          // the last ticket of a recorded program, which may write anything it knows
  std::function<void()> drain;    // waits for all tickets

  bool is_done(uint64_t ticket) const { return ticket <= done.load(std::memory_order_acquire); }
  bool idle() const { return is_done(asked); }
  bool settled(Block* block) const { return is_done(std::max(provenance_of(block).written, replayed)); }

  /// Of memory that an arena keeps: unfinished work may still use it.
  void released(const void* data) {
    if (!idle()) last_use_[data] = asked;
    else if (!last_use_.empty()) last_use_.clear();
  }
  bool unused(const void* data) const {
    const auto found = last_use_.find(data);
    return found == last_use_.end() || is_done(found->second);
  }

  bool unused_only = false;      // see UnusedOnly
  bool keeps_released = false;   // they give nothing back to the system: a recorded program has the addresses
  bool judges = false;           // there has been a verdict
  std::vector<Block*> written;   // by the call that is being decoded

 private:
  std::unordered_map<const void*, uint64_t> last_use_;
};

/// While it lives, arenas hand out only memory that may be written at once.
class UnusedOnly {
 public:
  explicit UnusedOnly(Order& order) : order_(order) { order.unused_only = true; }
  ~UnusedOnly() { order_.unused_only = false; }
  UnusedOnly(const UnusedOnly&) = delete;
  UnusedOnly& operator=(const UnusedOnly&) = delete;

 private:
  Order& order_;
};

/// Of the JavaScript environment that this thread runs; null on other threads.
Order*& current_order();

}  // namespace simmim
