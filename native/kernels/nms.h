// Non-maximum suppression, hard and soft (Bodla et al. 2017), as tfjs defines it: of the boxes (y1, x1, y2, x2, corners in any
// order) whose score is above score_threshold the best are selected one after the other (equal scores: lower index first); a
// candidate that overlaps a selected box by iou_threshold or more is dropped, one that overlaps less loses a factor
// exp(-iou^2 / (2 soft_sigma)) of its score (soft_sigma > 0) and is looked at again when it is the best.
// selected [M] holds the indices, selected_scores [M] their scores, both filled with zeros behind count [1].
// Candidates wait in a heap: N + (selected + looked at again) log N steps, each at most `selected` overlaps. One after the
// other by nature: one thread.
#pragma once
#include "../core/kernel.h"

namespace simmim {

struct NonMaxSuppression {
  static constexpr const char* name = "non_max_suppression";
  Tensor boxes, scores, selected, selected_scores, count;  // [N, 4], [N], [M], [M], [1]
  double iou_threshold, score_threshold, soft_sigma;
  void* workspace = nullptr;
  static constexpr auto spec() {
    return fields(in("boxes", &NonMaxSuppression::boxes, kF32), in("scores", &NonMaxSuppression::scores, kF32), out("selected", &NonMaxSuppression::selected, kI32), optional_out("selected_scores", &NonMaxSuppression::selected_scores, kF32),
                  out("count", &NonMaxSuppression::count, kI32), par("iou_threshold", &NonMaxSuppression::iou_threshold), par("score_threshold", &NonMaxSuppression::score_threshold), par("soft_sigma", &NonMaxSuppression::soft_sigma));
  }
  void check() const {
    require(boxes.shape.rank == 2 && boxes.dim(1) == 4, "boxes has %lld values, expected shape [N, 4]", static_cast<long long>(boxes.count()));
    require(scores.shape.rank == 1 && scores.dim(0) == boxes.dim(0), "scores has %lld values, expected %lld, one per box", static_cast<long long>(scores.count()), static_cast<long long>(boxes.dim(0)));
    require(selected.shape.rank == 1 && count.count() == 1, "selected has rank %d and count %lld values, expected 1 and 1", selected.shape.rank, static_cast<long long>(count.count()));
    require(!selected_scores.present() || selected_scores.shape == selected.shape, "selected_scores must have the shape of selected");
  }
  struct Candidate {
    double score;
    int32_t box, looked_at;  // of the selected boxes, the first `looked_at` have had their say
  };
  struct Corners {
    double top, left, bottom, right, area;
  };
  size_t workspace_bytes() const { return static_cast<size_t>(boxes.dim(0)) * sizeof(Candidate) + static_cast<size_t>(selected.dim(0)) * sizeof(Corners); }
};

}  // namespace simmim
