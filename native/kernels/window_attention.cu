#include "window_attention.h"

#include "attention_rows.cuh"
#include "attention_tiles.cuh"
#include "../cuda/gemm.h"

namespace simmim::cuda {

namespace {

/// Windows [first, end) of a group.
struct Group {
  int64_t first, end;
  SIMMIM_DEVICE Group(int64_t group, int64_t groups, int64_t windows) : first(group * windows / groups), end((group + 1) * windows / groups) {}
};

/// The pairs of tokens of a window that share one entry of the table: pair i of `count`.
struct EntryPairs {
  int64_t dy, dx, columns, count;
  SIMMIM_DEVICE EntryPairs(const WindowGeometry& g, int64_t entry) : dy(entry / (2 * g.ww - 1) - (g.wh - 1)), dx(entry % (2 * g.ww - 1) - (g.ww - 1)) {
    columns = g.ww - (dx < 0 ? -dx : dx);
    count = (g.wh - (dy < 0 ? -dy : dy)) * columns;
  }
  SIMMIM_DEVICE int64_t query(const WindowGeometry& g, int64_t i) const { return (i / columns + (dy > 0 ? dy : 0)) * g.ww + i % columns + (dx > 0 ? dx : 0); }
  SIMMIM_DEVICE int64_t key(const WindowGeometry& g, int64_t i) const { return query(g, i) - dy * g.ww - dx; }
};

/// One warp for each (group, head, entry of the table), and one for the gradient of the head's scale: the sums over the group's
/// windows, their pairs of tokens shared by the lanes.
template <class T>
__global__ void table_gradient(WindowMap map, HeadTensors<T> t, int64_t groups, float* partial) {
  const int64_t entries = map.g.entries(), items = groups * t.heads * (entries + 1), lane = threadIdx.x % kWarpSize;
  for (int64_t item = global_thread() / kWarpSize; item < items; item += global_threads() / kWarpSize) {
    const int64_t entry = item % (entries + 1), head = item / (entries + 1) % t.heads;
    const Group group(item / (entries + 1) / t.heads, groups, map.instances());
    float sum = 0;
    if (entry == entries) {
      for (int64_t i = group.first * map.tokens() + lane; t.scales && i < group.end * map.tokens(); i += kWarpSize)
        sum += t.numbers[((i / map.tokens() * t.heads + head) * map.tokens() + i % map.tokens()) * kRowNumbers + 3] / t.scales[head];
    } else {
      const EntryPairs pairs(map.g, entry);
      for (int64_t i = lane; i < (group.end - group.first) * pairs.count; i += kWarpSize) {
        const int64_t pair = i % pairs.count;
        sum += score_gradient(map, t, group.first + i / pairs.count, head, pairs.query(map.g, pair), pairs.key(map.g, pair));
      }
    }
    sum = warp_reduce(sum, Sum{});
    if (lane == 0) partial[item] = sum;
  }
}

/// Sums of the groups, in order.
struct SumGroups {
  const float* partial;
  float *dtable, *dscales;
  int64_t groups, heads, pitch;
  __device__ void operator()(int64_t i) const {
    const int64_t head = i / pitch, entry = i % pitch;
    float total = 0;
    for (int64_t group = 0; group < groups; group++) total += partial[(group * heads + head) * pitch + entry];
    if (entry + 1 < pitch) dtable[entry * heads + head] = total;
    else if (dscales) dscales[head] = total;
  }
};

/// One warp for each head and entry of the table (and one for its scale): sums over what the tensor-core kernel left for each group.
__global__ void collect_tiles(WindowMap map, int64_t groups, int64_t warps, const float* bias_partial, const float* scale_partial, float* dtable, float* dscales) {
  const int64_t entries = map.g.entries(), n = map.g.tokens(), lane = threadIdx.x % kWarpSize;
  for (int64_t item = global_thread() / kWarpSize; item < map.heads * (entries + 1); item += global_threads() / kWarpSize) {
    const int64_t entry = item / map.heads, head = item % map.heads;
    float sum = 0;
    if (entry == entries) {
      for (int64_t i = lane; dscales && i < groups * warps; i += kWarpSize) sum += scale_partial[(i / warps * map.heads + head) * warps + i % warps];
    } else {
      const EntryPairs pairs(map.g, entry);
      for (int64_t i = lane; i < groups * pairs.count; i += kWarpSize) {
        const int64_t pair = i % pairs.count;
        sum += bias_partial[(i / pairs.count * map.heads + head) * n * n + pairs.query(map.g, pair) * n + pairs.key(map.g, pair)];
      }
    }
    sum = warp_reduce(sum, Sum{});
    if (lane != 0) continue;
    if (entry < entries) dtable[entry * map.heads + head] = sum;
    else if (dscales) dscales[head] = sum;
  }
}

void forward_by_tiles(const WindowMap& map, const TileTensors& t, const TileShape& shape, Stream& stream) {
  if (shape.warps() <= 3) return launch_tiles<3, 3>(map, t, shape, stream);
  if (shape.warps() == 4) return launch_tiles<4, 4>(map, t, shape, stream);
  if (shape.warps() <= 9) return launch_tiles<9, 9>(map, t, shape, stream);
  launch_tiles<4, 16>(map, t, shape, stream);
}

void backward_by_tiles(const WindowAttentionGrad& k, const WindowMap& map, const TileTensors& t, const TileShape& shape, Stream& stream) {
  const int64_t n = map.tokens(), groups = tile_groups(map.instances(), k.heads, n);
  float *const sums = static_cast<float*>(k.workspace), *const scales = sums + groups * k.heads * n * n;
  const auto start = shape.warps() <= 3   ? &launch_tiles_gradient<3, 3, WindowMap>
                     : shape.warps() == 4 ? &launch_tiles_gradient<4, 4, WindowMap>
                     : shape.warps() <= 9 ? &launch_tiles_gradient<9, 9, WindowMap>
                                          : &launch_tiles_gradient<4, 16, WindowMap>;
  start(map, t, shape, groups, sums, scales, stream);
  launch(stream, &collect_tiles, grid_for(stream, k.heads * (map.g.entries() + 1) * kWarpSize), map, groups, int64_t{shape.warps()}, sums, scales, k.dtable.f32(), k.dscales.f32());
}

template <class T>
void forward(const WindowAttention& k, Stream& stream) {
  HeadTensors<T> t = head_tensors<T>(k);
  t.scales = k.scales.f32();
  t.y = k.y.as<T>();
  const WindowMap map{window_geometry(k.qkv, k.window, k.shift), k.table.f32(), k.heads};
  if constexpr (sizeof(T) == 2)
    if (tiles_can(map, t, false, stream)) return forward_by_tiles(map, t, tile_shape(map, t), stream);
  attend_rows(map, t, stream);
}

template <class T>
void backward(const WindowAttentionGrad& k, Stream& stream) {
  HeadTensors<T> t = head_tensors<T>(k);
  t.scales = k.scales.f32();
  t.dy = k.dy.as<T>(), t.dqkv = k.dqkv.as<T>();
  t.numbers = static_cast<float*>(k.workspace);
  const WindowMap map{window_geometry(k.qkv, k.window, k.shift), k.table.f32(), k.heads};
  if constexpr (sizeof(T) == 2)
    if (tiles_can(map, t, true, stream)) return backward_by_tiles(k, map, t, tile_shape(map, t), stream);
  const int64_t groups = map.g.cuda_groups(k.heads), pitch = map.g.entries() + 1;
  float* const partial = t.numbers + map.instances() * k.heads * map.tokens() * kRowNumbers;
  attend_rows_gradient(map, t, stream);
  launch(stream, &table_gradient<T>, grid_for(stream, groups * k.heads * pitch * kWarpSize), map, t, groups, partial);
  for_each(stream, k.heads * pitch, SumGroups{partial, k.dtable.f32(), k.dscales.f32(), groups, k.heads, pitch});
}

}  // namespace

void run(const WindowAttention& k, Stream& stream) {
  if (k.qkv.count() == 0) return;
  if (k.qkv.dtype == DType::bf16) forward<uint16_t>(k, stream);
  else forward<float>(k, stream);
}

void run(const WindowAttentionGrad& k, Stream& stream) {
  if (k.qkv.count() == 0) {
    SIMMIM_CUDA_CALL(cudaMemsetAsync(k.dtable.data, 0, k.dtable.bytes(), stream.handle));
    if (k.dscales.present()) SIMMIM_CUDA_CALL(cudaMemsetAsync(k.dscales.data, 0, k.dscales.bytes(), stream.handle));
    return;
  }
  if (k.qkv.dtype == DType::bf16) backward<uint16_t>(k, stream);
  else backward<float>(k, stream);
}

}  // namespace simmim::cuda
