// Products of small matrices of bf16 by the tensor cores, a warp at a time: D[16,8] += A[16,16] B[16,8] in float.
//
// A fragment is spread over the lanes as the mma.m16n8k16 instruction wants it. With g = lane / 4 and t = lane % 4 a lane
// holds, two neighbouring values in each 32-bit register,
//   A  rows g and g + 8, columns 2t, 2t + 1 and 2t + 8, 2t + 9:  registers (g, 2t) (g + 8, 2t) (g, 2t + 8) (g + 8, 2t + 8)
//   B  column g, rows 2t, 2t + 1 and 2t + 8, 2t + 9
//   D  rows g and g + 8, columns 2t, 2t + 1: as floats, in the order of fragment_row() and fragment_column()
// So the D of one product, rounded, is half of an A of the next one: softmax(Q K^T) V never leaves the registers.
#pragma once
#include "vec.cuh"

namespace simmim::cuda {

SIMMIM_DEVICE int lane_id() { return static_cast<int>(threadIdx.x % kWarpSize); }

/// Where value i of 4 of this lane's D lies.
SIMMIM_DEVICE int fragment_row(int i) { return lane_id() / 4 + (i >= 2 ? 8 : 0); }
SIMMIM_DEVICE int fragment_column(int i) { return lane_id() % 4 * 2 + i % 2; }

/// d += a b; all lanes of the warp together.
SIMMIM_DEVICE void multiply_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(SIMMIM_CUDA_EMULATED)
  const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const auto all = emulation::exchange(kAllLanes, mine, sizeof mine);
  const auto value = [&](unsigned lane, int reg, int half) {
    uint32_t bits;
    std::memcpy(&bits, all[lane] + 4 * reg, 4);
    return half ? high_bf16(bits) : low_bf16(bits);
  };
  for (int i = 0; i < 4; i++) {
    const unsigned row = static_cast<unsigned>(fragment_row(i)), column = static_cast<unsigned>(fragment_column(i));
    for (unsigned k = 0; k < 16; k++)
      d[i] += value(row % 8 * 4 + k % 8 / 2, static_cast<int>(row / 8 + k / 8 * 2), k % 2) * value(column * 4 + k % 8 / 2, static_cast<int>(4 + k / 8), k % 2);
  }
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/// Two neighbouring bf16 values.
SIMMIM_DEVICE uint32_t pair_at(const uint16_t* p) { return *as_vector<const uint32_t>(p); }

/// A from 16 rows of 16 values, `step` values from row to row; pairs must be 4-byte aligned.
SIMMIM_DEVICE void load_a_16x16(uint32_t (&a)[4], const uint16_t* from, int step) {
  const uint16_t* p = from + lane_id() / 4 * step + lane_id() % 4 * 2;
  a[0] = pair_at(p);
  a[1] = pair_at(p + 8 * step);
  a[2] = pair_at(p + 8);
  a[3] = pair_at(p + 8 * step + 8);
}

/// B from its transpose, 8 rows of 16 values (as K is for Q K^T); pairs must be 4-byte aligned.
SIMMIM_DEVICE void load_b_transposed(uint32_t (&b)[2], const uint16_t* from, int step) {
  const uint16_t* p = from + lane_id() / 4 * step + lane_id() % 4 * 2;
  b[0] = pair_at(p);
  b[1] = pair_at(p + 8);
}

/// Matrices of 8 x 8 values in shared memory, transposed: rows 0 to 7 of matrix i begin where lanes 8 i to 8 i + 7 say, each at a
/// multiple of 16 bytes; a lane gets column g of each, rows 2t and 2t + 1.
template <int kCount>
SIMMIM_DEVICE void load_transposed(uint32_t (&to)[kCount], const uint16_t* row) {
  static_assert(kCount == 2 || kCount == 4);
#if defined(SIMMIM_CUDA_EMULATED)
  const auto all = emulation::exchange(kAllLanes, &row, sizeof row);
  for (int i = 0; i < kCount; i++) {
    const unsigned first = static_cast<unsigned>(8 * i + lane_id() % 4 * 2);
    const auto *upper = emulation::lane_value<const uint16_t*>(all, first), *lower = emulation::lane_value<const uint16_t*>(all, first + 1);
    emulation::require_aligned(upper, 16);
    emulation::require_aligned(lower, 16);
    to[i] = upper[lane_id() / 4] | static_cast<uint32_t>(lower[lane_id() / 4]) << 16;
  }
#else
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kCount == 2) asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(at) : "memory");
  else asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
#endif
}

/// B from 16 rows of 8 values in shared memory, `step` values from row to row.
SIMMIM_DEVICE void load_b_16x8(uint32_t (&b)[2], const uint16_t* from, int step) { load_transposed(b, from + lane_id() % 16 * step); }

/// A from its transpose in shared memory, 16 rows (the columns of A) of 16 values.
SIMMIM_DEVICE void load_a_transposed(uint32_t (&a)[4], const uint16_t* from, int step) {
  load_transposed(a, from + (lane_id() % 8 + lane_id() / 16 * 8) * step + lane_id() / 8 % 2 * 8);
}

}  // namespace simmim::cuda
