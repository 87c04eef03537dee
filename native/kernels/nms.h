// Non-maximum suppression, hard and soft (Bodla et al. 2017), as tfjs defines it: of the boxes (y1, x1, y2, x2, corners in any
// order) whose score is above score_threshold the best are selected one after the other (equal scores: lower index first); a
// candidate that overlaps a selected box by iou_threshold or more is dropped, one that overlaps less loses a factor
// exp(-iou^2 / (2 soft_sigma)) of its score (soft_sigma > 0) and is looked at again when it is the best.
// selected [M] holds the indices, selected_scores [M] their scores, both filled with zeros behind count [1].
// Candidates wait in a heap: N + (selected + looked at again) log N steps, each at most `selected` overlaps. One after the
// other by nature: one thread, on a GPU one block, whose threads look for the best candidate and let each selected box reduce
// all others at once.
#pragma once
#include "../core/spec.h"
#include "rounded_product.h"

namespace simmim {

/// A box with its corners in order, and its area. NaN wins, as in JavaScript.
struct BoxCorners {
  double top, left, bottom, right, area;

  static SIMMIM_INLINE double lower(double a, double b) { return a != a || a < b ? a : b; }
  static SIMMIM_INLINE double upper(double a, double b) { return a != a || a > b ? a : b; }
  static SIMMIM_INLINE BoxCorners of(const float* b) {
    BoxCorners c{lower(b[0], b[2]), lower(b[1], b[3]), upper(b[0], b[2]), upper(b[1], b[3]), 0};
    c.area = rounded_product(c.bottom - c.top, c.right - c.left);
    return c;
  }
  /// Intersection over union.
  SIMMIM_INLINE double overlap(const BoxCorners& o) const {
    if (area <= 0 || o.area <= 0) return 0;
    const double height = lower(bottom, o.bottom) - upper(top, o.top), width = lower(right, o.right) - upper(left, o.left);
    if (height <= 0 || width <= 0) return 0;
    const double common = rounded_product(height, width);
    return common / (area + o.area - common);
  }
};

struct NonMaxSuppression {
  static constexpr const char* name = "non_max_suppression";
  Tensor boxes, scores, selected, selected_scores, count;  // [N, 4], [N], [M], [M], [1]
  double iou_threshold, score_threshold, soft_sigma;
  void* workspace = nullptr;
  static auto spec() {
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
  size_t workspace_bytes() const { return static_cast<size_t>(boxes.dim(0)) * sizeof(Candidate) + static_cast<size_t>(selected.dim(0)) * sizeof(BoxCorners); }
  /// A GPU keeps two scores of each box.
  size_t cuda_workspace_bytes() const { return static_cast<size_t>(boxes.dim(0)) * 2 * sizeof(double); }
};

}  // namespace simmim
