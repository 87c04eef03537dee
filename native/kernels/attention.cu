#include "attention.h"

#include "attention_rows.cuh"
#include "attention_tiles.cuh"

namespace simmim::cuda {

namespace {

template <class K>
ImageMap map_of(const K& k) {
  return {k.qkv.dim(0), k.qkv.dim(1), k.bias.f32()};
}

/// dbias of one pair: the sum over the images, in order.
template <class T>
struct SumImages {
  ImageMap map;
  HeadTensors<T> t;
  float* dbias;
  __device__ void operator()(int64_t item) const {
    const int64_t square = map.length * map.length, head = item / square, i = item % square / map.length, j = item % map.length;
    float total = 0;
    for (int64_t image = 0; image < map.batch; image++) total += score_gradient(map, t, image, head, i, j);
    dbias[item] = total;
  }
};

/// Sums of the groups, in order.
struct SumGroups {
  const float* partial;
  float* sums;
  int64_t groups, count;
  __device__ void operator()(int64_t i) const {
    float total = 0;
    for (int64_t group = 0; group < groups; group++) total += partial[group * count + i];
    sums[i] = total;
  }
};

/// Whether the tensor cores did it.
template <class T>
bool by_tiles(const ImageMap& map, const HeadTensors<T>& t, const AttentionGrad* gradient, Stream& stream) {
  if constexpr (sizeof(T) != sizeof(uint16_t)) {
    return false;
  } else {
    if (!tiles_can(map, t, gradient != nullptr, stream)) return false;
    const TileShape shape = tile_shape(map, t);
    if (!gradient) {
      launch_tiles<4, 16>(map, t, shape, stream);
      return true;
    }
    const int64_t groups = tile_groups(map.batch, t.heads, map.length);
    float* const partial = gradient->dbias.present() ? static_cast<float*>(gradient->workspace) : nullptr;
    launch_tiles_gradient<4, 16>(map, t, shape, groups, partial, nullptr, stream);
    if (partial) for_each(stream, gradient->dbias.count(), SumGroups{partial, gradient->dbias.f32(), groups, gradient->dbias.count()});
    return true;
  }
}

template <class T>
void forward(const Attention& k, Stream& stream) {
  HeadTensors<T> t = head_tensors<T>(k);
  t.y = k.y.as<T>();
  if (!by_tiles(map_of(k), t, nullptr, stream)) attend_rows(map_of(k), t, stream);
}

template <class T>
void backward(const AttentionGrad& k, Stream& stream) {
  HeadTensors<T> t = head_tensors<T>(k);
  t.dy = k.dy.as<T>(), t.dqkv = k.dqkv.as<T>();
  t.numbers = static_cast<float*>(k.workspace);
  if (by_tiles(map_of(k), t, &k, stream)) return;
  attend_rows_gradient(map_of(k), t, stream);
  if (k.dbias.present()) for_each(stream, k.dbias.count(), SumImages<T>{map_of(k), t, k.dbias.f32()});
}

}  // namespace

void run(const Attention& k, Stream& stream) {
  if (k.qkv.count() == 0) return;
  if (k.qkv.dtype == DType::bf16) forward<uint16_t>(k, stream);
  else forward<float>(k, stream);
}

void run(const AttentionGrad& k, Stream& stream) {
  if (k.qkv.count() == 0) {
    if (k.dbias.present() && k.dbias.count() > 0) SIMMIM_CUDA_CALL(cudaMemsetAsync(k.dbias.data, 0, k.dbias.bytes(), stream.handle));
    return;
  }
  if (k.qkv.dtype == DType::bf16) backward<uint16_t>(k, stream);
  else backward<float>(k, stream);
}

}  // namespace simmim::cuda
