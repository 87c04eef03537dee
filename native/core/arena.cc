#include "arena.h"

#include "error.h"
#include "order.h"

namespace simmim {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kSlack = size_t{64} << 20;
constexpr int64_t kQueuedSlack = int64_t{256} << 20;  // may be waiting for work that was put off

/// What may be live and kept: what the program has needed at its peak, an eighth and some slack.
size_t limit_of(const ArenaStats& stats) { return stats.peak + stats.peak / 8 + kSlack; }

/// 64-byte steps up to 1 KiB, then eight classes per doubling.
size_t class_of(size_t bytes) {
  if (bytes <= 1024) return bytes == 0 ? kAlign : (bytes + kAlign - 1) / kAlign * kAlign;
  size_t step = kAlign;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

bool keeps_released() { return current_order() && current_order()->keeps_released; }

bool unused(const void* data) { return !current_order() || current_order()->unused(data); }

/// A block of those kept, in the order of their release; null where none will do.
void* take(std::vector<void*>& blocks) {
  if (blocks.empty()) return nullptr;
  const bool oldest = current_order() && current_order()->unused_only;
  if (oldest && !unused(blocks.front())) return nullptr;
  void* data = oldest ? blocks.front() : blocks.back();
  blocks.erase(oldest ? blocks.begin() : blocks.end() - 1);
  return data;
}

}  // namespace

Order*& current_order() {
  static thread_local Order* current = nullptr;
  return current;
}

Arena::~Arena() { trim(); }

size_t Arena::size_of_block(size_t bytes) const { return device_.strict() ? bytes : class_of(bytes); }

void* Arena::allocate(size_t bytes) {
  if (fail_countdown_ > 0 && --fail_countdown_ == 0) fail_as("out_of_memory", "allocation of %zu bytes failed (test hook)", bytes);
  const size_t size = size_of_block(bytes);
  std::vector<void*>& kept = free_[size];
  void* data = take(kept);
  if (!data && !kept.empty() && stats_.live + stats_.cached + size > limit_of(stats_)) {
    current_order()->drain();  // rather than growing: what is kept is in use by work that was put off
    data = take(kept);
  }
  if (data) {
    stats_.cached -= size;
  } else {
    if (!keeps_released()) make_room(size);
    data = device_.allocate(size);
    if (!data && !keeps_released()) {
      trim();
      data = device_.allocate(size);
    }
    if (!data) fail_as("out_of_memory", "no %zu bytes are left on %s (%zu bytes are live)", bytes, device_.name().c_str(), stats_.live);
    stats_.system_allocations++;
  }
  if (device_.strict()) device_.poison(data, size);
  stats_.live += size;
  stats_.live_blocks++;
  if (stats_.live > stats_.peak) stats_.peak = stats_.live;
  return data;
}

void Arena::release(void* data, size_t bytes) {
  const size_t size = size_of_block(bytes);
  stats_.live -= size;
  stats_.live_blocks--;
  free_[size].push_back(data);
  stats_.cached += size;
  if (current_order() && device_.on_host()) current_order()->released(data);
}

/// Before asking the system for more: give back kept blocks, largest first, while there would be more than the limit. What
/// unfinished work may use is waited for when it is much.
void Arena::make_room(size_t need) {
  const auto excess = [&] { return static_cast<int64_t>(stats_.live + stats_.cached + need) - static_cast<int64_t>(limit_of(stats_)); };
  const auto give_back = [&] {
    for (auto it = free_.rbegin(); it != free_.rend(); ++it)
      while (excess() > 0 && !it->second.empty() && unused(it->second.front())) {
        device_.release(it->second.front(), it->first);
        it->second.erase(it->second.begin());
        stats_.cached -= it->first;
      }
  };
  give_back();
  if (excess() <= kQueuedSlack || !current_order()) return;
  current_order()->drain();
  give_back();
}

void Arena::trim() {
  if (current_order()) current_order()->drain();
  for (auto& [size, blocks] : free_) {
    for (void* block : blocks) device_.release(block, size);
    stats_.cached -= size * blocks.size();
  }
  free_.clear();
}

}  // namespace simmim
