#include "nms.h"

#include "../cuda/launch.cuh"

namespace simmim::cuda {

namespace {

/// A candidate has two scores: the one that decides whose turn it is, and what the boxes selected since leave of it. It is taken
/// when both are equal, so that a reduced one waits for its turn again. Dropped candidates have NaN.
struct Candidates {
  const float *boxes, *scores;
  double *turn, *left;  // [N]
  int64_t count;
  double iou_threshold, score_threshold, scale;  // scale of the exponent, 0 for hard suppression

  SIMMIM_DEVICE void drop(int64_t i) const { turn[i] = __builtin_nan(""); }
  SIMMIM_DEVICE bool is_better(double score, int64_t i, double than, int64_t j) const { return j < 0 || score > than || (score == than && i < j); }
  SIMMIM_DEVICE void start(int64_t i) const {
    turn[i] = left[i] = scores[i];
    if (!(scores[i] > score_threshold)) drop(i);
  }
  /// What the box `selected` does to candidate i.
  SIMMIM_DEVICE void reduce(int64_t i, const BoxCorners& selected) const {
    if (turn[i] != turn[i]) return;
    const double iou = BoxCorners::of(boxes + i * 4).overlap(selected);
    if (iou >= iou_threshold) return drop(i);
    left[i] *= !(iou <= iou_threshold) ? 0 : scale == 0 ? 1 : ::exp(scale * iou * iou);
  }
};

/// The best of the candidates that the threads of the block found, known to all; -1 for none.
SIMMIM_DEVICE int64_t best_of_block(const Candidates& k, double score, int64_t box, double* scores, int64_t* boxes) {
  for (int step = kWarpSize / 2; step > 0; step /= 2) {
    const double other = __shfl_xor_sync(kAllLanes, score, step);
    const int64_t at = __shfl_xor_sync(kAllLanes, box, step);
    if (at >= 0 && k.is_better(other, at, score, box)) score = other, box = at;
  }
  const unsigned lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  __syncthreads();
  if (lane == 0) scores[warp] = score, boxes[warp] = box;
  __syncthreads();
  for (unsigned w = 0; w < blockDim.x / kWarpSize; w++)
    if (boxes[w] >= 0 && k.is_better(scores[w], boxes[w], score, box)) score = scores[w], box = boxes[w];
  return box;
}

struct Selection {
  int32_t* boxes;
  float* scores;  // may be null
  int64_t most;
};

constexpr unsigned kMostThreads = 1024;

/// One block.
__global__ void __launch_bounds__(kMostThreads) suppress(Candidates k, Selection selected, int32_t* count) {
  __shared__ double warp_scores[kWarpSize];
  __shared__ int64_t warp_boxes[kWarpSize];
  for (int64_t i = threadIdx.x; i < k.count; i += blockDim.x) k.start(i);
  int64_t taken = 0;
  while (taken < selected.most) {
    double score = 0;
    int64_t box = -1;
    for (int64_t i = threadIdx.x; i < k.count; i += blockDim.x)  // each thread looks at those that it alone changes
      if (k.turn[i] == k.turn[i] && k.is_better(k.turn[i], i, score, box)) score = k.turn[i], box = i;
    box = best_of_block(k, score, box, warp_scores, warp_boxes);
    if (box < 0) break;
    const bool mine = box % blockDim.x == threadIdx.x, reduced = k.left[box] != k.turn[box];
    const double rest = k.left[box];
    __syncthreads();  // all have read the candidate before its thread changes it
    if (reduced) {
      if (mine && rest > k.score_threshold) k.turn[box] = rest;
      else if (mine) k.drop(box);
      continue;
    }
    if (mine) {
      selected.boxes[taken] = static_cast<int32_t>(box);
      if (selected.scores) selected.scores[taken] = static_cast<float>(rest);
      k.drop(box);
    }
    taken++;
    const BoxCorners corners = BoxCorners::of(k.boxes + box * 4);
    for (int64_t i = threadIdx.x; i < k.count; i += blockDim.x) k.reduce(i, corners);
  }
  if (threadIdx.x == 0) *count = static_cast<int32_t>(taken);
  for (int64_t i = taken + threadIdx.x; i < selected.most; i += blockDim.x) {
    selected.boxes[i] = 0;
    if (selected.scores) selected.scores[i] = 0;
  }
}

}  // namespace

void run(const NonMaxSuppression& k, Stream& stream) {
  const int64_t n = k.boxes.dim(0), lanes = (n + kWarpSize - 1) / kWarpSize * kWarpSize;
  auto* turn = static_cast<double*>(k.workspace);
  const Candidates candidates{k.boxes.f32(), k.scores.f32(), turn, turn + n, n, k.iou_threshold, k.score_threshold, k.soft_sigma > 0 ? -0.5 / k.soft_sigma : 0};
  const unsigned threads = lanes < kWarpSize ? kWarpSize : lanes < kMostThreads ? static_cast<unsigned>(lanes) : kMostThreads;
  launch(stream, &suppress, Grid{dim3(1), dim3(threads)}, candidates, Selection{k.selected.i32(), k.selected_scores.f32(), k.selected.dim(0)}, k.count.i32());
}

}  // namespace simmim::cuda
