#include "nms.h"

#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {

namespace {

using Candidate = NonMaxSuppression::Candidate;

SIMMIM_INLINE bool is_better(const Candidate& a, const Candidate& b) { return a.score > b.score || (a.score == b.score && a.box < b.box); }

/// The best candidate is at the root.
struct Heap {
  Candidate* items;
  int64_t size = 0;
  void sink(int64_t at) {
    const Candidate item = items[at];
    for (;;) {
      int64_t child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && is_better(items[child + 1], items[child])) child++;
      if (!is_better(items[child], item)) break;
      items[at] = items[child];
      at = child;
    }
    items[at] = item;
  }
  void build() {
    for (int64_t i = size / 2 - 1; i >= 0; i--) sink(i);
  }
  Candidate pop() {
    const Candidate best = items[0];
    items[0] = items[--size];
    if (size > 0) sink(0);
    return best;
  }
  void push(Candidate item) {
    int64_t at = size++;
    for (; at > 0 && is_better(item, items[(at - 1) / 2]); at = (at - 1) / 2) items[at] = items[(at - 1) / 2];
    items[at] = item;
  }
};

/// Lets the boxes selected since the last look reduce the candidate's score; false when one of them suppresses it.
bool survives(const NonMaxSuppression& k, Candidate& candidate, const BoxCorners* selected, int64_t count, double scale) {
  const BoxCorners box = BoxCorners::of(k.boxes.f32() + candidate.box * int64_t{4});
  for (int64_t j = count - 1; j >= candidate.looked_at; j--) {
    const double iou = box.overlap(selected[j]);
    if (iou >= k.iou_threshold) return false;
    candidate.score *= !(iou <= k.iou_threshold) ? 0 : scale == 0 ? 1 : __builtin_exp(scale * iou * iou);
    if (candidate.score <= k.score_threshold) break;
  }
  candidate.looked_at = static_cast<int32_t>(count);
  return true;
}

}  // namespace

void run(const NonMaxSuppression& k) {
  const int64_t n = k.boxes.dim(0), most = k.selected.dim(0);
  Heap heap{static_cast<Candidate*>(k.workspace)};
  BoxCorners* selected = reinterpret_cast<BoxCorners*>(heap.items + n);
  for (int64_t i = 0; i < n; i++)
    if (k.scores.f32()[i] > k.score_threshold) heap.items[heap.size++] = {k.scores.f32()[i], static_cast<int32_t>(i), 0};
  heap.build();
  const double scale = k.soft_sigma > 0 ? -0.5 / k.soft_sigma : 0;
  int64_t count = 0;
  while (count < most && heap.size > 0) {
    Candidate candidate = heap.pop();
    const double before = candidate.score;
    if (!survives(k, candidate, selected, count, scale)) continue;
    if (candidate.score == before) {
      selected[count] = BoxCorners::of(k.boxes.f32() + candidate.box * int64_t{4});
      k.selected.i32()[count] = candidate.box;
      if (k.selected_scores.present()) k.selected_scores.f32()[count] = static_cast<float>(candidate.score);
      count++;
    } else if (candidate.score > k.score_threshold) {
      heap.push(candidate);
    }
  }
  k.count.i32()[0] = static_cast<int32_t>(count);
  for (int64_t i = count; i < most; i++) {
    k.selected.i32()[i] = 0;
    if (k.selected_scores.present()) k.selected_scores.f32()[i] = 0;
  }
}

}  // namespace simmim::SIMMIM_ISA
