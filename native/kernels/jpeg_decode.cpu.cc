#include "jpeg_decode.h"

#include "../cpu/vec.h"

namespace simmim::SIMMIM_ISA {
namespace {

typedef int32_t Row8 __attribute__((vector_size(32)));   // eight coefficients or samples
typedef uint32_t Wrap8 __attribute__((vector_size(32)));  // arithmetic that may wrap: coefficients of damaged files are arbitrary
typedef int16_t Short8 __attribute__((vector_size(16), aligned(2), may_alias));
typedef uint8_t Byte8 __attribute__((vector_size(8)));
typedef Byte8 UnalignedByte8 __attribute__((aligned(1), may_alias));

// Row-major place of the i-th coefficient of the zigzag order (ITU-T T.81, figure A.6).
constexpr uint8_t kZigzag[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
                                 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

constexpr int kPeek = 10;         // bits of a table look-up
constexpr int kEndOfBlock = 100;  // "run" that ends the coefficient loop

struct Huffman {
  int32_t symbol[1 << kPeek];  // code length << 8 | symbol; 0 where the code is longer
  int32_t fast[1 << kPeek];    // AC only: value << 16 | run << 8 | bits in all; 0 where it does not fit the look-up
  int32_t max_code[18];        // largest code of each length, left-aligned to 16 bits, exclusive
  int32_t offset[17];          // index of the first value of each length, minus its code
  uint8_t values[256];
  bool defined;
};

struct Component {
  int32_t id, h, v, quant, dc_table, ac_table;
  int32_t dc;
  uint8_t* plane;
  int64_t stride, width, height;  // plane: whole units; width, height: samples that count
};

struct Decoder {
  const uint8_t *at, *end;
  uint64_t bits;   // left-aligned
  int32_t count;   // valid bits
  int32_t missing; // zero bits that were made up past a marker or the end
  int32_t quant[4][64];
  bool quant_defined[4];
  Huffman dc[4], ac[4];
  Component component[3];
  int32_t components, max_h, max_v, restart_interval;
  int32_t adobe;  // transform flag, or -1
  bool jfif;
};

SIMMIM_INLINE int32_t u16(const uint8_t* p) { return p[0] << 8 | p[1]; }

// ---- headers

/// False for counts that are no prefix code.
bool build_huffman(Huffman& t, const uint8_t* counts, const uint8_t* values, int32_t total, bool with_values) {
  __builtin_memset(&t, 0, sizeof t);
  for (int32_t i = 0; i < total; i++) t.values[i] = values[i];
  int32_t code = 0, index = 0;
  for (int length = 1; length <= 16; length++) {
    t.offset[length] = index - code;
    for (int32_t i = 0; i < counts[length - 1]; i++, code++, index++) {
      if (code >= 1 << length) return false;
      if (length > kPeek) continue;
      const int32_t from = code << (kPeek - length), n = 1 << (kPeek - length);
      for (int32_t j = 0; j < n; j++) t.symbol[from + j] = length << 8 | t.values[index];
    }
    if (code > 1 << length) return false;
    t.max_code[length] = code << (16 - length);
    code <<= 1;
  }
  t.max_code[17] = 0x7fffffff;
  t.defined = true;
  if (!with_values) return true;
  for (int32_t peek = 0; peek < 1 << kPeek; peek++) {
    const int32_t s = t.symbol[peek];
    if (s == 0) continue;
    const int32_t length = s >> 8, run = (s & 255) >> 4, size = s & 15;
    if (size == 0) {
      if (run == 0) t.fast[peek] = kEndOfBlock << 8 | length;
      else if (run == 15) t.fast[peek] = 15 << 8 | length;  // sixteen zeros: fifteen skipped, one written
    } else if (length + size <= kPeek) {
      int32_t value = peek >> (kPeek - length - size) & ((1 << size) - 1);
      if (value < 1 << (size - 1)) value -= (1 << size) - 1;
      t.fast[peek] = static_cast<int32_t>(static_cast<uint32_t>(value) << 16) | run << 8 | (length + size);
    }
  }
  return true;
}

bool read_quant(Decoder& d, const uint8_t* p, const uint8_t* end) {
  while (p < end) {
    const int32_t wide = *p >> 4, id = *p & 15;
    p++;
    if (wide > 1 || id > 3 || end - p < 64 * (wide + 1)) return false;
    for (int i = 0; i < 64; i++) d.quant[id][kZigzag[i]] = wide ? u16(p + 2 * i) : p[i];
    d.quant_defined[id] = true;
    p += 64 * (wide + 1);
  }
  return true;
}

bool read_huffman(Decoder& d, const uint8_t* p, const uint8_t* end) {
  while (p < end) {
    if (end - p < 17) return false;
    const int32_t kind = *p >> 4, id = *p & 15;
    int32_t total = 0;
    for (int i = 1; i <= 16; i++) total += p[i];
    if (kind > 1 || id > 3 || total > 256 || end - p < 17 + total) return false;
    if (!build_huffman(kind ? d.ac[id] : d.dc[id], p + 1, p + 17, total, kind == 1)) return false;
    p += 17 + total;
  }
  return true;
}

bool read_frame(Decoder& d, const JpegDecode& k, const uint8_t* p, int64_t size) {
  if (d.components != 0 || size < 6 || p[0] != 8 || u16(p + 1) != k.image_height || u16(p + 3) != k.image_width) return false;
  d.components = p[5];
  if ((d.components != 1 && d.components != 3) || size < 6 + 3 * d.components) return false;
  for (int i = 0; i < d.components; i++) {
    Component& c = d.component[i];
    c.id = p[6 + 3 * i], c.h = p[7 + 3 * i] >> 4, c.v = p[7 + 3 * i] & 15, c.quant = p[8 + 3 * i];
    if (c.quant > 3) return false;
  }
  Component& y = d.component[0];
  if (d.components == 1) y.h = y.v = 1;  // a single component is not interleaved: its factors do not matter
  const bool known = (y.h == 1 && y.v == 1) || (y.h == 2 && y.v == 1) || (y.h == 2 && y.v == 2);
  for (int i = 1; i < d.components; i++)
    if (d.component[i].h != 1 || d.component[i].v != 1) return false;
  d.max_h = y.h, d.max_v = y.v;
  return known && (d.components == 1 || k.image_width > 4);  // narrower chroma is upsampled by another rule
}

/// libjpeg's guess of the colour space of three components: is it YCbCr?
bool is_ycc(const Decoder& d) {
  if (d.jfif) return true;
  if (d.adobe >= 0) return d.adobe == 1;
  const Component* c = d.component;
  return !(c[0].id == 'R' && c[1].id == 'G' && c[2].id == 'B');
}

bool read_scan(Decoder& d, const uint8_t* p, int64_t size) {
  if (d.components == 0 || size != 4 + 2 * d.components || p[0] != d.components) return false;
  for (int i = 0; i < d.components; i++) {
    Component& c = d.component[i];
    if (p[1 + 2 * i] != c.id) return false;
    c.dc_table = p[2 + 2 * i] >> 4, c.ac_table = p[2 + 2 * i] & 15;
    if (c.dc_table > 3 || c.ac_table > 3 || !d.dc[c.dc_table].defined || !d.ac[c.ac_table].defined || !d.quant_defined[c.quant]) return false;
  }
  const uint8_t* rest = p + 1 + 2 * d.components;
  return rest[0] == 0 && rest[1] == 63 && rest[2] == 0 && (d.components == 1 || is_ycc(d));
}

/// Reads up to the entropy-coded data; false for whatever this decoder leaves to others.
bool read_headers(Decoder& d, const JpegDecode& k) {
  const uint8_t *p = k.bytes.u8(), *end = p + k.length;
  if (k.length < 4 || u16(p) != 0xffd8) return false;
  p += 2;
  for (;;) {
    if (end - p < 4 || p[0] != 0xff) return false;
    if (p[1] == 0xff) { p++; continue; }  // fill byte
    const int32_t marker = p[1], size = u16(p + 2) - 2;
    const uint8_t* body = p + 4;
    if (size < 0 || end - body < size) return false;
    p = body + size;
    if (marker == 0xdb) { if (!read_quant(d, body, p)) return false; }
    else if (marker == 0xc4) { if (!read_huffman(d, body, p)) return false; }
    else if (marker == 0xc0 || marker == 0xc1) { if (!read_frame(d, k, body, size)) return false; }
    else if (marker == 0xdd) { if (size != 2) return false; d.restart_interval = u16(body); }
    else if (marker == 0xe0) d.jfif = d.jfif || (size >= 14 && __builtin_memcmp(body, "JFIF", 5) == 0);
    else if (marker == 0xee) { if (size >= 12 && __builtin_memcmp(body, "Adobe", 5) == 0) d.adobe = body[11]; }
    else if (marker == 0xda) {
      d.at = p, d.end = end;
      return read_scan(d, body, size);
    } else if (!((marker >= 0xe1 && marker <= 0xef) || marker == 0xfe)) return false;
  }
}

// ---- entropy decoding

void refill_slowly(Decoder& d) {
  while (d.count < 56) {
    uint64_t byte = 0;
    if (d.at < d.end && (d.at[0] != 0xff || (d.end - d.at > 1 && d.at[1] == 0))) {
      byte = d.at[0];
      d.at += byte == 0xff ? 2 : 1;
    } else {
      d.missing += 8;
    }
    d.bits |= byte << (56 - d.count);
    d.count += 8;
  }
}

/// At least 56 valid bits afterwards.
SIMMIM_INLINE void refill(Decoder& d) {
  if (d.end - d.at >= 8) {
    uint64_t x;
    __builtin_memcpy(&x, d.at, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    x = __builtin_bswap64(x);
#endif
    const uint64_t inverted = ~x;  // a zero byte of it is an 0xff of x: a stuffed byte or a marker
    if (((inverted - 0x0101010101010101ull) & x & 0x8080808080808080ull) == 0) {
      d.bits |= x >> d.count;
      const int32_t n = (63 - d.count) >> 3;
      d.at += n;
      d.count += 8 * n;
      return;
    }
  }
  refill_slowly(d);
}

SIMMIM_INLINE int32_t peek(const Decoder& d, int n) { return static_cast<int32_t>(d.bits >> (64 - n)); }
SIMMIM_INLINE void consume(Decoder& d, int n) {
  d.bits <<= n;
  d.count -= n;
}

/// The next symbol, or -1 for a code that does not exist.
SIMMIM_INLINE int32_t decode_symbol(Decoder& d, const Huffman& t) {
  const int32_t s = t.symbol[peek(d, kPeek)];
  if (s) {
    consume(d, s >> 8);
    return s & 255;
  }
  const int32_t code = peek(d, 16);
  int length = kPeek + 1;
  while (code >= t.max_code[length]) length++;
  if (length > 16) return -1;
  consume(d, length);
  return t.values[((code >> (16 - length)) + t.offset[length]) & 255];
}

SIMMIM_INLINE int32_t receive(Decoder& d, int size) {
  if (size == 0) return 0;
  const int32_t v = peek(d, size);
  consume(d, size);
  return v < 1 << (size - 1) ? v - (1 << size) + 1 : v;
}

/// One block into `coefficients` (row-major, zero before); returns the last place written (0: only DC), or -1.
SIMMIM_INLINE int32_t decode_block(Decoder& d, Component& c, int16_t* coefficients) {
  refill(d);
  const int32_t size = decode_symbol(d, d.dc[c.dc_table]);
  if (size < 0 || size > 15) return -1;
  c.dc = static_cast<int16_t>(c.dc + receive(d, size));
  coefficients[0] = static_cast<int16_t>(c.dc);
  const Huffman& t = d.ac[c.ac_table];
  int32_t k = 1, last = 0;
  while (k < 64) {
    if (d.count < 32) refill(d);
    const int32_t fast = t.fast[peek(d, kPeek)];
    if (fast) {
      consume(d, fast & 255);
      k += fast >> 8 & 255;
      if (k > 63) return k >= kEndOfBlock ? last : -1;
      last = k;
      coefficients[kZigzag[k++]] = static_cast<int16_t>(fast >> 16);
      continue;
    }
    const int32_t s = decode_symbol(d, t);
    if (s < 0) return -1;
    const int32_t bits = s & 15;
    if (bits == 0) {
      if (s != 0xf0) return s == 0 ? last : -1;
      k += 16;
      if (k > 64) return -1;
      continue;
    }
    k += s >> 4;
    if (k > 63) return -1;
    last = k;
    coefficients[kZigzag[k++]] = static_cast<int16_t>(receive(d, bits));
  }
  return last;
}

bool restart(Decoder& d, int32_t number) {
  if (d.count < d.missing || d.count - d.missing >= 8) return false;  // bits made up, or whole bytes left over
  d.bits = 0, d.count = 0, d.missing = 0;
  if (d.end - d.at < 2 || d.at[0] != 0xff || d.at[1] != 0xd0 + (number & 7)) return false;
  d.at += 2;
  for (int i = 0; i < d.components; i++) d.component[i].dc = 0;
  return true;
}

// ---- inverse DCT: Loeffler, Ligtenberg and Moschytz with 13-bit constants, columns then rows

constexpr uint32_t negative(uint32_t v) { return 0 - v; }

template <int kShift>
SIMMIM_INLINE void transform8(Row8* rows) {
  Wrap8 v[8];
  for (int r = 0; r < 8; r++) v[r] = reinterpret_cast<Wrap8>(rows[r]);
  const Wrap8 z1 = (v[2] + v[6]) * 4433u, even2 = z1 - v[6] * 15137u, even3 = z1 + v[2] * 6270u;
  const Wrap8 sum = (v[0] + v[4]) << 13, difference = (v[0] - v[4]) << 13;
  const Wrap8 e0 = sum + even3, e3 = sum - even3, e1 = difference + even2, e2 = difference - even2;
  const Wrap8 a = v[7], b = v[5], c = v[3], e = v[1];
  const Wrap8 ac = a + c, be = b + e, z5 = (ac + be) * 9633u;
  const Wrap8 y1 = (a + e) * negative(7373), y2 = (b + c) * negative(20995), y3 = ac * negative(16069) + z5, y4 = be * negative(3196) + z5;
  const Wrap8 o0 = a * 2446u + y1 + y3, o1 = b * 16819u + y2 + y4, o2 = c * 25172u + y2 + y3, o3 = e * 12299u + y1 + y4;
  constexpr uint32_t half = 1u << (kShift - 1);
  const Wrap8 out[8] = {e0 + o3 + half, e1 + o2 + half, e2 + o1 + half, e3 + o0 + half, e3 - o0 + half, e2 - o1 + half, e1 - o2 + half, e0 - o3 + half};
  for (int r = 0; r < 8; r++) rows[r] = reinterpret_cast<Row8>(out[r]) >> kShift;
}

SIMMIM_INLINE void transpose8(Row8* v) {
  Row8 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    t[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; j++) {
      u[i + j] = __builtin_shufflevector(t[i + j], t[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      u[i + 2 + j] = __builtin_shufflevector(t[i + j], t[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int j = 0; j < 4; j++) {
    v[j] = __builtin_shufflevector(u[j], u[4 + j], 0, 1, 2, 3, 8, 9, 10, 11);
    v[4 + j] = __builtin_shufflevector(u[j], u[4 + j], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

SIMMIM_INLINE Row8 clamp8(Row8 v) {
  const Row8 low = v < 0 ? Row8{} : v;
  return low > 255 ? Row8{} + 255 : low;
}

void inverse_dct(const int16_t* coefficients, const int32_t* quant, int32_t last, uint8_t* out, int64_t stride) {
  if (last == 0) {
    const uint32_t product = static_cast<uint32_t>(coefficients[0]) * static_cast<uint32_t>(quant[0]);
    const int32_t v = (static_cast<int32_t>(product * 4 + 16) >> 5) + 128;
    const uint8_t level = static_cast<uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v);
    for (int r = 0; r < 8; r++) __builtin_memset(out + r * stride, level, 8);
    return;
  }
  Row8 v[8];
  for (int r = 0; r < 8; r++) {
    Wrap8 q;
    __builtin_memcpy(&q, quant + 8 * r, sizeof q);
    const Row8 c = __builtin_convertvector(*reinterpret_cast<const Short8*>(coefficients + 8 * r), Row8);
    v[r] = reinterpret_cast<Row8>(reinterpret_cast<Wrap8>(c) * q);
  }
  transform8<11>(v);
  transpose8(v);
  transform8<18>(v);
  transpose8(v);
  for (int r = 0; r < 8; r++) *reinterpret_cast<UnalignedByte8*>(out + r * stride) = __builtin_convertvector(clamp8(v[r] + 128), Byte8);
}

// ---- the scan

/// First and one-past-last block of a component, along one axis, that samples [from, to) of the picture need.
struct BlockRange {
  int64_t begin, end;
};
SIMMIM_INLINE BlockRange needed_blocks(int64_t from, int64_t to, int32_t factor, int32_t max_factor) {
  if (factor == max_factor) return {from / 8, (to + 7) / 8};
  const int64_t low = from / 2 - 1, high = (to - 1) / 2 + 2;  // and one neighbour each way for the triangle filter
  return {(low < 0 ? 0 : low) / 8, (high + 7) / 8};
}

bool decode_scan(Decoder& d, const JpegDecode& k) {
  const int64_t unit_w = 8 * d.max_h, unit_h = 8 * d.max_v;
  const int64_t units_x = (k.image_width + unit_w - 1) / unit_w, units_y = (k.image_height + unit_h - 1) / unit_h;
  BlockRange rows[3], columns[3];
  int64_t last_unit_row = 0;
  for (int i = 0; i < d.components; i++) {
    const Component& c = d.component[i];
    rows[i] = needed_blocks(k.top, k.top + k.pixels.dim(0), c.v, d.max_v);
    columns[i] = needed_blocks(k.left, k.left + k.pixels.dim(1), c.h, d.max_h);
    const int64_t unit_row = (rows[i].end + c.v - 1) / c.v;
    if (unit_row > last_unit_row) last_unit_row = unit_row;
  }
  if (last_unit_row > units_y) last_unit_row = units_y;
  int32_t until_restart = d.restart_interval, restarts = 0;
  alignas(64) int16_t coefficients[64];
  for (int64_t uy = 0; uy < last_unit_row; uy++) {
    for (int64_t ux = 0; ux < units_x; ux++) {
      if (d.restart_interval && until_restart-- == 0) {
        if (!restart(d, restarts++)) return false;
        until_restart = d.restart_interval - 1;
      }
      for (int i = 0; i < d.components; i++) {
        Component& c = d.component[i];
        for (int32_t v = 0; v < c.v; v++)
          for (int32_t h = 0; h < c.h; h++) {
            __builtin_memset(coefficients, 0, sizeof coefficients);
            const int32_t last = decode_block(d, c, coefficients);
            if (last < 0) return false;
            const int64_t by = uy * c.v + v, bx = ux * c.h + h;
            if (by < rows[i].begin || by >= rows[i].end || bx < columns[i].begin || bx >= columns[i].end) continue;
            inverse_dct(coefficients, d.quant[c.quant], last, c.plane + by * 8 * c.stride + bx * 8, c.stride);
          }
      }
    }
    if (d.missing > d.count) return false;  // bits were used that the file does not have
  }
  return true;
}

// ---- upsampling and colour

/// Samples [left, left + n) of a doubled row whose source values come from at(x), x in [0, width).
template <class At>
SIMMIM_INLINE void double_row(const At& at, int64_t width, int32_t even_bias, int32_t odd_bias, int32_t edge_bias, int shift, int64_t left, int64_t n, uint8_t* out) {
  const int32_t weight = shift == 4 ? 4 : 1;  // of the outermost samples, which have one neighbour only
  const int64_t first = left / 2, last = (left + n - 1) / 2;
  uint8_t* p = out - (left & 1);  // the caller keeps one byte free before
  for (int64_t x = first; x <= last; x++, p += 2) {
    if (x > 0 && x < width - 1) continue;  // the interior is done below, in a loop without branches
    const int32_t v = at(x);
    p[0] = static_cast<uint8_t>(x == 0 ? (v * weight + edge_bias) >> (shift == 4 ? 4 : 0) : (v * 3 + at(x - 1) + even_bias) >> shift);
    p[1] = static_cast<uint8_t>(x == width - 1 ? (v * weight + (shift == 4 ? 7 : 0)) >> (shift == 4 ? 4 : 0) : (v * 3 + at(x + 1) + odd_bias) >> shift);
  }
  const int64_t begin = first > 1 ? first : 1, end = last < width - 2 ? last : width - 2;
  p = out - (left & 1) + 2 * (begin - first);
  for (int64_t x = begin; x <= end; x++) {
    const int32_t v = at(x) * 3;
    p[2 * (x - begin)] = static_cast<uint8_t>((v + at(x - 1) + even_bias) >> shift);
    p[2 * (x - begin) + 1] = static_cast<uint8_t>((v + at(x + 1) + odd_bias) >> shift);
  }
}

/// Row y of a chroma plane at full size, columns [left, left + n): a pointer to them, in `buffer` where they had to be made.
const uint8_t* full_row(const Decoder& d, const Component& c, int64_t y, int64_t left, int64_t n, uint8_t* buffer) {
  if (d.max_h == 1) return c.plane + y * c.stride + left;
  if (d.max_v == 1) {
    const uint8_t* row = c.plane + y * c.stride;
    double_row([row](int64_t x) -> int32_t { return row[x]; }, c.width, 1, 2, 0, 2, left, n, buffer);
    return buffer;
  }
  const int64_t middle = y / 2;
  int64_t other = y % 2 ? middle + 1 : middle - 1;
  if (other < 0) other = 0;
  if (other > c.height - 1) other = c.height - 1;
  const uint8_t *near = c.plane + middle * c.stride, *far = c.plane + other * c.stride;
  double_row([near, far](int64_t x) -> int32_t { return near[x] * 3 + far[x]; }, c.width, 8, 7, 8, 4, left, n, buffer);
  return buffer;
}

void convert_row(const uint8_t* luma, const uint8_t* blue, const uint8_t* red, int64_t n, uint32_t* out) {
  for (int64_t x = 0; x < n; x++) {
    const int32_t y = luma[x], cb = blue[x] - 128, cr = red[x] - 128;
    int32_t r = y + ((91881 * cr + 32768) >> 16);
    int32_t g = y + ((-22554 * cb - 46802 * cr + 32768) >> 16);
    int32_t b = y + ((116130 * cb + 32768) >> 16);
    r = r < 0 ? 0 : r > 255 ? 255 : r;
    g = g < 0 ? 0 : g > 255 ? 255 : g;
    b = b < 0 ? 0 : b > 255 ? 255 : b;
    out[x] = static_cast<uint32_t>(r | g << 8 | b << 16);
  }
}

void write_pixels(const Decoder& d, const JpegDecode& k, uint8_t* buffers) {
  const int64_t n = k.pixels.dim(1);
  uint8_t *blue = buffers + 32, *red = blue + k.padded_width() + 64;
  for (int64_t row = 0; row < k.pixels.dim(0); row++) {
    const int64_t y = k.top + row;
    const uint8_t* luma = d.component[0].plane + y * d.component[0].stride + k.left;
    uint32_t* out = k.pixels.as<uint32_t>() + row * n;
    if (d.components == 1) {
      for (int64_t x = 0; x < n; x++) out[x] = luma[x] * 0x010101u;
    } else {
      convert_row(luma, full_row(d, d.component[1], y, k.left, n, blue), full_row(d, d.component[2], y, k.left, n, red), n, out);
    }
  }
}

}  // namespace

void run(const JpegDecode& k) {
  Decoder d;
  d.bits = 0, d.count = 0, d.missing = 0, d.components = 0, d.restart_interval = 0, d.adobe = -1, d.jfif = false;
  for (int i = 0; i < 4; i++) d.quant_defined[i] = d.dc[i].defined = d.ac[i].defined = false;
  k.status.i32()[0] = 1;
  if (!read_headers(d, k)) return;
  uint8_t* at = static_cast<uint8_t*>(k.workspace);
  for (int i = 0; i < d.components; i++) {
    Component& c = d.component[i];
    c.dc = 0;
    c.plane = at;
    c.stride = k.padded_width();
    c.width = (k.image_width * c.h + d.max_h - 1) / d.max_h;
    c.height = (k.image_height * c.v + d.max_v - 1) / d.max_v;
    at += k.padded_width() * k.padded_height();
  }
  if (!decode_scan(d, k)) return;
  write_pixels(d, k, at);
  k.status.i32()[0] = 0;
}

}  // namespace simmim::SIMMIM_ISA
