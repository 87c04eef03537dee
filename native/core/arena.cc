#include "arena.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "error.h"
#include "order.h"

namespace simmim {
namespace {

constexpr size_t kAlign = 64, kPage = 4096;
constexpr size_t kLargeBlock = size_t{64} << 10;  // larger ones are cut out of chunks
constexpr size_t kChunk = size_t{32} << 20;
constexpr size_t kSlack = size_t{64} << 20;
constexpr int64_t kQueuedSlack = int64_t{256} << 20;  // may be waiting for work that was put off
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;  // it is to know where every tensor ends, so that stray accesses show
#else
constexpr bool kSanitized = false;
#endif

/// What may be live and kept: what the program has needed at its peak, an eighth and some slack.
size_t limit_of(const ArenaStats& stats) { return stats.peak + stats.peak / 8 + kSlack; }

/// 64-byte steps up to 1 KiB, then eight classes per doubling.
size_t class_of(size_t bytes) {
  if (bytes <= 1024) return bytes == 0 ? kAlign : (bytes + kAlign - 1) / kAlign * kAlign;
  size_t step = kAlign;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

/// Something else in every block handed out, so that a result which depends on it shows.
void fill_with_anything(void* data, size_t bytes) {
  static thread_local unsigned char pattern = 0;
  std::memset(data, pattern += 37, bytes);
}

bool keeps_released() { return current_order() && current_order()->keeps_released; }
bool unused_only() { return current_order() && current_order()->unused_only; }

bool unused(const void* data) { return !current_order() || current_order()->unused(data); }
bool is_done(uint64_t ticket) { return !current_order() || current_order()->is_done(ticket); }

/// A block of those kept, in the order of their release; null where none will do.
void* take(std::vector<void*>& blocks) {
  if (blocks.empty()) return nullptr;
  const bool oldest = unused_only();
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

bool Arena::shares_chunks(size_t bytes) const { return !kSanitized && bytes > kLargeBlock && !device_.strict(); }

size_t Arena::size_of_block(size_t bytes) const {
  if (device_.strict() || kSanitized) return bytes;
  return shares_chunks(bytes) ? (bytes + kPage - 1) / kPage * kPage : class_of(bytes);
}

void* Arena::allocate(size_t bytes) {
  if (fail_countdown_ > 0 && --fail_countdown_ == 0) fail_as("out_of_memory", "allocation of %zu bytes failed (test hook)", bytes);
  const size_t size = size_of_block(bytes);
  const bool large = shares_chunks(bytes);
  const auto take_kept = [&] { return large ? take_span(size) : take(free_[size]); };
  void* data = take_kept();
  if (!data && unused_only() && stats_.live + stats_.cached + size > limit_of(stats_)) {
    current_order()->drain();  // rather than growing: what is kept is in use by work that was put off
    data = take_kept();
  }
  if (data) stats_.cached -= size;
  else data = large ? cut_new_chunk(size) : ask_system(size);
  if (!data) fail_as("out_of_memory", "no %zu bytes are left on %s (%zu bytes are live)", bytes, device_.name().c_str(), stats_.live);
  if (device_.strict()) device_.poison(data, size);
  else if (kSanitized && device_.on_host() && unused(data)) fill_with_anything(data, size);
  stats_.live += size;
  stats_.live_blocks++;
  if (stats_.live > stats_.peak) stats_.peak = stats_.live;
  return data;
}

void Arena::release(void* data, size_t bytes) {
  const size_t size = size_of_block(bytes);
  stats_.live -= size;
  stats_.live_blocks--;
  stats_.cached += size;
  Order* const order = device_.on_host() ? current_order() : nullptr;
  if (shares_chunks(bytes)) return give_span(static_cast<char*>(data), order && !order->idle() ? order->asked : 0);
  free_[size].push_back(data);
  if (order) order->released(data);
}

/// The smallest free span that is large enough and may be used; what it has too much stays free. Null where there is none.
void* Arena::take_span(size_t size) {
  auto fit = free_spans_.lower_bound({size, nullptr});
  while (unused_only() && fit != free_spans_.end() && !is_done(spans_.find(fit->second)->second.last_use)) ++fit;
  if (fit == free_spans_.end()) return nullptr;
  const auto [found, data] = *fit;
  free_spans_.erase(fit);
  Span& span = spans_.find(data)->second;
  const uint64_t last_use = span.last_use;
  span = {size, false, 0};
  if (found > size) set_free(spans_.emplace(data + size, Span{found - size, false, last_use}).first);
  return data;
}

/// The front of a new chunk; null when there is no memory left.
void* Arena::cut_new_chunk(size_t size) {
  size_t chunk = std::max(size, kChunk);
  auto* start = static_cast<char*>(ask_system(chunk));
  if (!start && chunk > size) start = static_cast<char*>(ask_system(chunk = size));
  if (!start) return nullptr;
  chunks_.emplace(start, chunk);
  spans_.emplace(start, Span{size, false, 0});
  if (chunk > size) set_free(spans_.emplace(start + size, Span{chunk - size, false, 0}).first);
  stats_.cached += chunk - size;
  return start;
}

/// `last_use`: the last ticket that may use it.
void Arena::give_span(char* data, uint64_t last_use) {
  auto span = spans_.find(data);
  span->second.last_use = last_use;
  const auto next = std::next(span);
  if (next != spans_.end() && next->second.free && !chunks_.contains(next->first)) join(span, next);
  if (span != spans_.begin() && !chunks_.contains(data) && std::prev(span)->second.free) {
    const auto before = std::prev(span);
    free_spans_.erase({before->second.size, before->first});
    join(before, span);
    span = before;
  }
  set_free(span);
}

void Arena::set_free(Spans::iterator span) {
  span->second.free = true;
  free_spans_.emplace(span->second.size, span->first);
}

/// Makes one of two neighbours of a chunk, the first of which is not among the free ones.
void Arena::join(Spans::iterator first, Spans::iterator second) {
  if (second->second.free) free_spans_.erase({second->second.size, second->first});
  first->second.size += second->second.size;
  first->second.last_use = std::max(first->second.last_use, second->second.last_use);
  spans_.erase(second);
}

void* Arena::ask_system(size_t size) {
  if (!keeps_released()) make_room(size);
  void* data = device_.allocate(size);
  if (!data && !keeps_released()) {
    trim();
    data = device_.allocate(size);
  }
  if (data) stats_.system_allocations++;
  return data;
}

bool Arena::is_whole_chunk(Spans::const_iterator span) const {
  const auto chunk = chunks_.find(span->first);
  return span->second.free && chunk != chunks_.end() && chunk->second == span->second.size;
}

void Arena::give_chunk_back(Spans::iterator span) {
  char* const data = span->first;
  const size_t size = span->second.size;
  free_spans_.erase({size, data});
  chunks_.erase(data);
  spans_.erase(span);
  stats_.cached -= size;
  device_.release(data, size);
}

/// Before asking the system for more: give back free chunks and kept blocks, largest first, while there would be more than the
/// limit. What unfinished work may use is waited for when it is much.
void Arena::make_room(size_t need) {
  const auto excess = [&] { return static_cast<int64_t>(stats_.live + stats_.cached + need) - static_cast<int64_t>(limit_of(stats_)); };
  const auto give_back = [&] {
    for (auto at = free_spans_.end(); at != free_spans_.begin() && excess() > 0;) {
      const auto span = spans_.find((--at)->second);
      if (!is_whole_chunk(span) || !is_done(span->second.last_use)) continue;
      ++at;
      give_chunk_back(span);
    }
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
  for (auto at = spans_.begin(); at != spans_.end();) {
    const auto span = at++;
    if (is_whole_chunk(span)) give_chunk_back(span);
    else if (span->second.free) device_.discard(span->first, span->second.size);
  }
  for (auto& [size, blocks] : free_) {
    for (void* block : blocks) device_.release(block, size);
    stats_.cached -= size * blocks.size();
  }
  free_.clear();
}

}  // namespace simmim
