// The machine's own ceilings, for bench/limits.ts: multiply-adds in float32 and of bf16 pairs, and memory bandwidth.
//   limits THREADS   -> one line of JSON: {"f32_gflops": .., "bf16_gflops": .. or null, "triad_gbs": .., "triad_streamed_gbs": .. or null, "copy_gbs": .., "read_gbs": ..}
// Every figure is the best of many short rounds: other processes can only make it smaller. bf16 is null where the processor
// has no dot product of bf16 pairs. Compile with -O3 -march=native -pthread.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kChains = 24;
#elif defined(__AVX__)
constexpr int kLanes = 8, kChains = 12;
#else
constexpr int kLanes = 4, kChains = 12;
#endif
typedef float Vector __attribute__((vector_size(kLanes * 4)));  // kChains of them are summed side by side: enough to hide the latency, few enough for the registers

constexpr long kSpins = 400'000;             // of a round of arithmetic: milliseconds
constexpr std::size_t kFloats = 16u << 20;   // of an array: 64 MiB, beyond the caches
constexpr int kRounds = 15;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

volatile float sink;

double multiply_adds() {
  Vector sums[kChains], a, b;
  for (int i = 0; i < kChains; ++i) sums[i] = Vector{} + i * 1e-9f;
  a = Vector{} + 0.999f;
  b = Vector{} + 1e-9f;
  for (long spin = 0; spin < kSpins; ++spin) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * a + b;
  }
  for (int i = 1; i < kChains; ++i) sums[0] += sums[i];
  sink = sums[0][0];
  return 2.0 * kLanes * kChains * kSpins;
}

#if defined(__AVX512BF16__)
double bf16_dots() {
  __m512 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(i * 1e-9f);
  const __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = (__m512bh)_mm512_set1_epi16(0x0080);
  for (long spin = 0; spin < kSpins; ++spin) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
  }
  for (int i = 1; i < kChains; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  sink = _mm512_cvtss_f32(sums[0]);
  return 64.0 * kChains * kSpins;
}
#endif

// Best rate of `work(thread)`, which says how much it did, with all threads at once.
double best_rate(int threads, const std::function<double(int)>& work) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::atomic<int> waiting{threads};
    std::vector<double> done(threads), begin(threads), end(threads);
    std::vector<std::thread> team;
    for (int t = 0; t < threads; ++t) {
      team.emplace_back([&, t] {
        --waiting;
        while (waiting > 0) std::this_thread::yield();
        begin[t] = now();
        done[t] = work(t);
        end[t] = now();
      });
    }
    for (auto& thread : team) thread.join();
    double all = 0, first = begin[0], last = end[0];
    for (int t = 0; t < threads; ++t) {
      all += done[t];
      first = begin[t] < first ? begin[t] : first;
      last = end[t] > last ? end[t] : last;
    }
    const double rate = all / (last - first) / 1e9;
    best = rate > best ? rate : best;
  }
  return best;
}

struct Part {
  float *a, *b, *c;
  std::size_t count;
};

double triad(const Part& p) {
  for (std::size_t i = 0; i < p.count; ++i) p.a[i] = p.b[i] + 0.5f * p.c[i];
  return 12.0 * p.count;
}

#if defined(__AVX512F__)
double triad_streamed(const Part& p) {
  const __m512 half = _mm512_set1_ps(0.5f);
  for (std::size_t i = 0; i < p.count; i += 16) _mm512_stream_ps(p.a + i, _mm512_fmadd_ps(half, _mm512_load_ps(p.c + i), _mm512_load_ps(p.b + i)));
  _mm_sfence();
  return 12.0 * p.count;
}
#elif defined(__AVX2__) && defined(__FMA__)
double triad_streamed(const Part& p) {
  const __m256 half = _mm256_set1_ps(0.5f);
  for (std::size_t i = 0; i < p.count; i += 8) _mm256_stream_ps(p.a + i, _mm256_fmadd_ps(half, _mm256_load_ps(p.c + i), _mm256_load_ps(p.b + i)));
  _mm_sfence();
  return 12.0 * p.count;
}
#endif

double copy(const Part& p) {
  for (std::size_t i = 0; i < p.count; i += kLanes) *reinterpret_cast<Vector*>(p.a + i) = *reinterpret_cast<const Vector*>(p.b + i);
  return 8.0 * p.count;
}

double read(const Part& p) {
  Vector sums[8] = {};
  for (std::size_t i = 0; i < p.count; i += 8 * kLanes)
    for (int j = 0; j < 8; ++j) sums[j] += *reinterpret_cast<const Vector*>(p.b + i + j * kLanes);
  for (int j = 1; j < 8; ++j) sums[0] += sums[j];
  sink = sums[0][0];
  return 4.0 * p.count;
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  if (threads < 1 || threads > 1024) {
    std::fprintf(stderr, "limits: THREADS is %s, expected 1 to 1024\n", argv[1]);
    return 1;
  }
  std::vector<std::unique_ptr<float, Free>> arrays;
  for (int i = 0; i < 3; ++i) {
    arrays.emplace_back(static_cast<float*>(std::aligned_alloc(2u << 20, kFloats * sizeof(float))));
    for (std::size_t k = 0; k < kFloats; ++k) arrays[i].get()[k] = 1.0f;
  }
  const std::size_t each = kFloats / threads / 128 * 128;
  const auto part = [&](int t) { return Part{arrays[0].get() + t * each, arrays[1].get() + t * each, arrays[2].get() + t * each, each}; };
  const auto memory = [&](double (*pass)(const Part&)) { return best_rate(threads, [&](int t) { return pass(part(t)); }); };
  std::printf("{\"f32_gflops\": %.1f, ", best_rate(threads, [](int) { return multiply_adds(); }));
#if defined(__AVX512BF16__)
  std::printf("\"bf16_gflops\": %.1f, ", best_rate(threads, [](int) { return bf16_dots(); }));
#else
  std::printf("\"bf16_gflops\": null, ");
#endif
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
  const double streamed = memory(triad_streamed);
  std::printf("\"triad_streamed_gbs\": %.1f, ", streamed);
#else
  std::printf("\"triad_streamed_gbs\": null, ");
#endif
  std::printf("\"triad_gbs\": %.1f, \"copy_gbs\": %.1f, \"read_gbs\": %.1f}\n", memory(triad), memory(copy), memory(read));
}
