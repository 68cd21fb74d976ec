// The hot steps of a search, compiled: plain C functions on plain memory, without Python and without state.
//
// Notation, as in `table.py`, which says why the bound holds and packs the tiles:
//   a tile   16 stored vectors, and p + 16 bytes for each: p codes of 8 bits (a + 128, four components of the first
//            vector, four of the second ...), then for each its norm (int32), rest, rounding (float32) and row (int32)
//   q        the codes of a query, int8
//   key      norm - 2 q.a: what orders stored vectors by their distance from a query, as far as codes tell
//   bound    a stored vector can be as near as t only if
//                norm (1 - DELTA) - 2 q.a - 2 rest_q rest - rounding (rounding + 2 tau) <= limit,
//            with tau and limit from t; in float32, whose own rounding DELTA and the limit allow for
//
// Products of codes are whole numbers, and sums of distances are taken in one order (LANES), so every variant of this
// file, and NumPy, finds the same. It is compiled once for each set of instructions, with VARIANT for its name;
// `library.py` chooses the widest that the processor has.

#include <algorithm>
#include <limits>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__AVX2__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define VISIBLE extern "C" __attribute__((visibility("default")))
#define EXPORT(name) VISIBLE int JOIN(name, VARIANT)  // which is 0 where memory is too little, and nothing is done

namespace {

constexpr int TILE = 16;        // stored vectors
constexpr int LANES = 32;       // partial sums of a distance
constexpr long BLOCK = 1 << 17; // bytes of tiles that stay in the cache while all queries pass
constexpr int AHEAD = 8;        // vectors fetched before their distance is computed
constexpr int WAITING = 256;    // stored vectors that the bound did not rule out, before their distances are computed
constexpr long FEW = 48;        // that are kept in order as they are found
constexpr long MANY = 1 << 20;  // waiting, where vectors have to be read from a disk
constexpr long PAGES = 4 << 20; // bytes of vectors that are read from a disk ahead
constexpr long PIECE = 1 << 17; // bytes that a system reads at a time at least
constexpr long FIRST_LOOK = 32, LOOK = 2048;  // distances before it is seen whether vectors come from a disk
constexpr long SELDOM = 256;    // distances for each wait of which that does not pay
constexpr float DELTA = 1.0f / (1 << 18);
#if defined(__AVX512F__)
constexpr int TOGETHER = 4;     // tiles whose sums, with four queries, fit the registers
#else
constexpr int TOGETHER = 1;
#endif

typedef int32_t int32x16 __attribute__((vector_size(64)));
typedef float float32x16 __attribute__((vector_size(64)));

inline long smaller(long a, long b) { return a < b ? a : b; }  // of this file alone, as `Found` is
inline long larger(long a, long b) { return a > b ? a : b; }

template <class V> inline V load(const void *from) {
    V v;
    memcpy(&v, from, sizeof v);
    return v;
}

// ---- products of codes ---------------------------------------------------------------------------------------------

// What a query's codes are to be for `dot4`: `WORDS` numbers for every four of them.
#if defined(__AVX512VNNI__)
constexpr int WORDS = 1;
inline void prepare(const int8_t *q, long p, int32_t *words) { memcpy(words, q, p); }
inline int32x16 dot4(int32x16 sum, int32x16 codes, const int32_t *words) {
    return (int32x16)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, _mm512_set1_epi32(words[0]));
}
#elif defined(__AVX2__)
constexpr int WORDS = 2;  // the even codes and the odd, as pairs of 16 bits
inline void prepare(const int8_t *q, long p, int32_t *words) {
    for (long i = 0; i < p / 4; i++)
        for (int odd = 0; odd < 2; odd++) {
            int16_t pair[2] = {q[4 * i + odd], q[4 * i + odd + 2]};
            memcpy(words + 2 * i + odd, pair, 4);
        }
}
inline int32x16 dot4(int32x16 sum, int32x16 codes, const int32_t *words) {
    __m256i half[2], total[2], even = _mm256_set1_epi32(words[0]), odd = _mm256_set1_epi32(words[1]);
    memcpy(half, &codes, 64), memcpy(total, &sum, 64);
    for (int i = 0; i < 2; i++) {
        __m256i low = _mm256_and_si256(half[i], _mm256_set1_epi32(0x00ff00ff));
        __m256i high = _mm256_srli_epi16(half[i], 8);
        total[i] = _mm256_add_epi32(total[i], _mm256_add_epi32(_mm256_madd_epi16(low, even), _mm256_madd_epi16(high, odd)));
    }
    memcpy(&sum, total, 64);
    return sum;
}
#else
constexpr int WORDS = 4;
inline void prepare(const int8_t *q, long p, int32_t *words) {
    for (long i = 0; i < p; i++) words[i] = q[i];
}
inline int32x16 dot4(int32x16 sum, int32x16 codes, const int32_t *words) {
    return sum + (codes & 255) * words[0] + ((codes >> 8) & 255) * words[1] + ((codes >> 16) & 255) * words[2] +
           ((codes >> 24) & 255) * words[3];
}
#endif

// Which of 16 numbers are not greater than a limit, bit by bit; what is no number is not greater.
#if !defined(__AVX512F__)
inline uint32_t where_zero(int32x16 v) {
    const int32x16 bits = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    int32x16 set = ~v & bits;
    int32_t mask = 0;
    for (int i = 0; i < TILE; i++) mask |= set[i];
    return uint32_t(mask);
}
#endif
inline uint32_t not_greater(float32x16 v, float limit) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(limit), _CMP_NGT_UQ);
#else
    return where_zero(v > limit);
#endif
}
inline uint32_t not_greater(int32x16 v, int32_t limit) {
#if defined(__AVX512F__)
    return _mm512_cmple_epi32_mask((__m512i)v, _mm512_set1_epi32(limit));
#else
    return where_zero(v > limit);
#endif
}

struct Tiles {
    const uint8_t *first;
    long p;
    long size() const { return TILE * (p + 16); }
    const uint8_t *tile(long i) const { return first + i * size(); }
    const uint8_t *norm(long i) const { return tile(i) + TILE * p; }
    const uint8_t *rest(long i) const { return norm(i) + 4 * TILE; }
    const uint8_t *rounding(long i) const { return norm(i) + 8 * TILE; }
    const uint8_t *row(long i) const { return norm(i) + 12 * TILE; }
};

// q.a of T tiles and Q queries. Codes are stored as a + 128, so that sums begin with -128 times that of q.
template <int T, int Q>
inline void products(const Tiles &tiles, long tile, const int32_t *const *words, const int32_t *begin, int32x16 (*sum)[Q]) {
    for (int t = 0; t < T; t++)
        for (int j = 0; j < Q; j++) sum[t][j] = int32x16{} + begin[j];
    const uint8_t *codes = tiles.tile(tile);
    long size = tiles.size();
    long i = 0, count = tiles.p / 4;
    if (T * Q == 1) {  // one sum would wait for itself
        int32x16 part[3] = {};
        for (; i + 4 <= count; i += 4)
            for (int a = 0; a < 4; a++) {
                int32x16 &to = a < 3 ? part[a] : sum[0][0];
                to = dot4(to, load<int32x16>(codes + 64 * (i + a)), words[0] + WORDS * (i + a));
            }
        sum[0][0] += part[0] + part[1] + part[2];
    }
    for (; i < count; i++)
        for (int t = 0; t < T; t++) {
            int32x16 c = load<int32x16>(codes + t * size + 64 * i);
            for (int j = 0; j < Q; j++) sum[t][j] = dot4(sum[t][j], c, words[j] + WORDS * i);
        }
}

inline int32_t beginning(const int8_t *q, long p) {
    int32_t sum = 0;
    for (long i = 0; i < p; i++) sum += q[i];
    return -128 * sum;
}

// ---- the m least, in order -----------------------------------------------------------------------------------------

// Of this file alone, so that what the library makes of it is too, and no variant gets another's instructions.
template <class Value> struct Found {
    Value value;
    int32_t row;
    bool operator<(const Found &other) const { return value < other.value || (value == other.value && row < other.row); }
};

// Keeps the m least of (value, row): a few in order; of many, those that are less than the m-th of before gather behind
// it until there are twice as many.
template <class Value> struct Least {
    Found<Value> *found;  // 2 m
    long m, held = 0;
    Found<Value> last = {std::numeric_limits<Value>::max(), INT32_MAX};  // the m-th, once there are so many
    void insert(Found<Value> one) {
        if (!(one < last)) return;
        if (m > FEW) {
            found[held++] = one;
            if (held == 2 * m) cut();
            return;
        }
        long i = held < m ? held++ : m - 1;
        for (; i > 0 && one < found[i - 1]; i--) found[i] = found[i - 1];
        found[i] = one;
        if (held == m) last = found[m - 1];
    }
    void cut() {
        std::nth_element(found, found + m - 1, found + held);
        held = m, last = found[m - 1];
    }
    void sort() {
        if (m <= FEW) return;
        std::sort(found, found + held);
        if (held >= m) held = m, last = found[m - 1];
    }
};

// ---- distances -----------------------------------------------------------------------------------------------------

struct Half {  // float16
    uint16_t bits;
};

// A number of a stored vector: in a mapped file of FAISS it lies at any address.
template <class X> struct __attribute__((packed)) Anywhere {
    X value;
    operator X() const { return value; }
};

// Up to LANES values of a stored vector, as the processor takes them: float16 as float32, which holds each, and so int8
// where that is faster; others as they are. Stored values are finite.
template <class X> inline const Anywhere<X> *widened(const Anywhere<X> *x, long, float *) { return x; }
#if defined(__AVX512F__)
inline __m512 floats(const Half *x) { return _mm512_cvtph_ps(load<__m256i>(x)); }
inline __m512 floats(const int8_t *x) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load<__m128i>(x))); }
template <class X> inline const float *in_floats(const void *x, long count, float *room) {
    X part[LANES] = {};
    if (count < LANES) memcpy(part, x, count * sizeof(X)), x = part;
    for (int i = 0; i < LANES; i += 16) _mm512_storeu_ps(room + i, floats((const X *)x + i));  // as wide as it is loaded
    return room;
}
inline const float *widened(const Anywhere<Half> *x, long count, float *room) { return in_floats<Half>(x, count, room); }
inline const float *widened(const Anywhere<int8_t> *x, long count, float *room) {
    return in_floats<int8_t>(x, count, room);
}
#elif defined(__F16C__)
inline const float *widened(const Anywhere<Half> *x, long count, float *room) {
    Half part[LANES] = {};
    memcpy(part, x, count * sizeof(Half));
    for (int i = 0; i < LANES; i += 8) _mm256_storeu_ps(room + i, _mm256_cvtph_ps(load<__m128i>(part + i)));
    return room;
}
#else
inline const float *widened(const Anywhere<Half> *x, long count, float *room) {
    for (long i = 0; i < count; i++) {
        int32_t bits = x[i].value.bits, size = bits & 0x7fff, sign = (bits & 0x8000) << 16, subnormal;
        int32_t normal = (size << 13) + (112 << 23);  // exponents begin at -15 in float16, and at -127 in float32
        float steps = float(size) * 0x1p-24f;
        memcpy(&subnormal, &steps, 4);
        int32_t value = sign | (size < 0x400 ? subnormal : normal);
        memcpy(room + i, &value, 4);
    }
    return room;
}
#endif

// Sums have LANES parts: the i-th term goes to part i mod LANES, and at the end the upper half is added to the lower
// until one is left. No product is fused with a sum, so that NumPy's have the same bits.
template <class Sum, class X, class Term> inline Sum sum_of(const X *x, long d, Term term) {
    Sum part[LANES] = {};
    float room[LANES];
    long i = 0;
    for (; i + LANES <= d; i += LANES) {
        auto values = widened(x + i, LANES, room);
        for (int j = 0; j < LANES; j++) part[j] += term(i + j, values[j]);
    }
    if (i < d) {
        auto values = widened(x + i, d - i, room);
        for (int j = 0; i + j < d; j++) part[j] += term(i + j, values[j]);
    }
    for (int half = LANES / 2; half; half /= 2)
        for (int j = 0; j < half; j++) part[j] += part[j + half];
    return part[0];
}

struct Query {
    const double *values;  // in the metric's space
    const float *floats;   // the same in float32, if there is a `Lowest` that takes it
    const uint8_t *bytes;  // of l2 between bytes, instead
    double squares;        // of cosine between whole numbers: the sum of the squares of its values
    long d;
};

constexpr auto square = [](long, double value) { return value * value; };
template <class X> double squared_l2(const Query &q, const void *stored) {
    const Anywhere<X> *x = (const Anywhere<X> *)stored;
    const double *values = q.values;
    return sum_of<double>(x, q.d, [=](long i, double value) {
        double e = values[i] - value;
        return e * e;
    });
}
template <class X> double l1(const Query &q, const void *stored) {
    const Anywhere<X> *x = (const Anywhere<X> *)stored;
    const double *values = q.values;
    return sum_of<double>(x, q.d, [=](long i, double value) { return fabs(values[i] - value); });
}
template <class X> double cosine(const Query &q, const void *stored) {
    const Anywhere<X> *x = (const Anywhere<X> *)stored;
    const double *values = q.values;
    double length = sqrt(sum_of<double>(x, q.d, square));
    double scale = 1 / (length == 0 ? 1 : length);
    return sum_of<double>(x, q.d, [=](long i, double value) {
        double e = values[i] - value * scale;
        return e * e;
    }) / 2;
}
template <class X> double cosine_of_whole(const Query &q, const void *stored) {
    const Anywhere<X> *x = (const Anywhere<X> *)stored;
    const double *values = q.values;
    double dot = sum_of<double>(x, q.d, [=](long i, double value) { return values[i] * value; });
    double squares = sum_of<double>(x, q.d, square);
    double distance = 1 - dot / sqrt(q.squares * squares);
    return distance > 0 ? distance : 0;
}
double squared_l2_of_bytes(const Query &q, const void *stored) {
    const uint8_t *x = (const uint8_t *)stored, *y = q.bytes;
    int64_t total = 0;
    for (long start = 0; start < q.d; start += 1 << 14) {  // sums of so many stay below 2^31
        long end = start + (1 << 14) < q.d ? start + (1 << 14) : q.d;
        int32_t sum = 0;
        long i = start;
#if defined(__AVX512VNNI__)
        __m512i sums[2] = {};
        for (; i < end; i += 64)
            for (int half = 0; half < 2; half++) {
                long left = end - i - 32 * half;
                __mmask32 mask = left >= 32 ? ~0u : left > 0 ? (1u << left) - 1 : 0;
                __m512i a = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, x + i + 32 * half));
                __m512i b = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, y + i + 32 * half));
                __m512i e = _mm512_sub_epi16(a, b);
                sums[half] = _mm512_dpwssd_epi32(sums[half], e, e);
            }
        sum = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]));
#endif
        for (; i < end; i++) {
            int32_t e = int32_t(x[i]) - int32_t(y[i]);
            sum += e * e;
        }
        total += sum;
    }
    return double(total);
}

typedef double (*Distance)(const Query &, const void *);

// Lower bounds of these from sums in float32, which take a third of the time. A sum of d products is off by d 2^-24 times
// the sum of their sizes at most (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); what has left
// float32's range bounds nothing.
inline double float_rounding(long d) { return double(d + 80) / (1 << 23); }

// Where each value of the query is one of float32, as each of x is: their difference is then off by 2^-24 of itself. What
// squares lose below float32's range is nothing beside a sum that is not that small.
template <class X> double lowest_l2(const Query &q, const void *stored) {
    const Anywhere<X> *x = (const Anywhere<X> *)stored;
    const float *values = q.floats;
    float sum = sum_of<float>(x, q.d, [=](long i, float value) {
        float e = values[i] - value;
        return e * e;
    });
    return sum > 1e-25f && sum < INFINITY ? sum * (1 - float_rounding(q.d)) : 0;
}
template <class X> double lowest_cosine(const Query &q, const void *stored) {
    const Anywhere<X> *x = (const Anywhere<X> *)stored;
    const float *values = q.floats;
    float dot = sum_of<float>(x, q.d, [=](long i, float value) { return values[i] * value; });
    float squares = sum_of<float>(x, q.d, [](long, float value) { return value * value; });
    return squares > 1e-25f && squares < INFINITY ? 1 - dot / sqrt((double)squares) - float_rounding(q.d) : 0;
}

// By the numbers that `steps.py` has for metrics and types.
constexpr int L2_OF_BYTES = 7;
constexpr long SIZES[] = {1, 2, 4, 4, 8, 2, 1, 1};
template <class X> Distance distance_for(int metric) {
    Distance of[] = {squared_l2<X>, cosine<X>, l1<X>, cosine_of_whole<X>};
    return of[metric];
}
Distance distance_for(int metric, int type) {
    switch (type) {
    case 0: return distance_for<uint8_t>(metric);
    case 1: return distance_for<uint16_t>(metric);
    case 2: return distance_for<uint32_t>(metric);
    case 3: return distance_for<float>(metric);
    case 4: return distance_for<double>(metric);
    case 5: return distance_for<Half>(metric);
    case 6: return distance_for<int8_t>(metric);
    default: return squared_l2_of_bytes;
    }
}
template <class X> Distance lowest_for(int metric) {
    return metric == 0 ? lowest_l2<X> : metric == 1 ? lowest_cosine<X> : nullptr;
}
Distance lowest_for(int metric, int type) {
    switch (type) {
    case 1: return metric == 0 ? lowest_l2<uint16_t> : nullptr;
    case 3: return lowest_for<float>(metric);
    case 5: return lowest_for<Half>(metric);
    case 6: return lowest_for<int8_t>(metric);
    default: return nullptr;
    }
}

struct Vectors {
    const uint8_t *first;
    long size;  // bytes of one
    Distance distance;
    Vectors(const void *x, long d, int metric, int type)
        : first((const uint8_t *)x), size(d * SIZES[type]), distance(distance_for(metric, type)) {}
    const uint8_t *at(int64_t row) const { return first + row * size; }
    void fetch(int64_t row) const {
        for (long i = 0; i < size && i < 4096; i += 64) __builtin_prefetch(at(row) + i);
    }
};
struct Queries {
    const void *first;
    const double *squares;
    long d;
    bool are_bytes;
    Query operator[](long i) const {
        if (are_bytes) return {nullptr, nullptr, (const uint8_t *)first + i * d, 0, d};
        return {(const double *)first + i * d, nullptr, nullptr, squares ? squares[i] : 0, d};
    }
};

// ---- vectors on a disk ---------------------------------------------------------------------------------------------

// Stored vectors may be a mapped file, larger than memory. One at a time, each is waited for; asked for together, many are
// read at once, and in the order of their rows a page of several is read once. Where all are in memory that is not worth
// its cost.

// What waits for the distance of a stored vector: a query, or a place among distances.
struct Pair {
    int32_t row;
    int32_t query;
    bool operator<(const Pair &other) const { return row < other.row || (row == other.row && query < other.query); }
};

// Whether they have to be read, told by the pages that this thread waits for.
struct Watch {
    long before = faults(), next = FIRST_LOOK, computed = 0;
    bool away = false;
    void count(long distances) {
        computed += distances;
        if (computed < next || away) return;
        long now = faults();
        away = (now - before) * SELDOM > computed;
        before = now, computed = 0, next = LOOK;
    }
    static long faults() {
#if defined(RUSAGE_THREAD)
        rusage usage;
        return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_majflt;
#else
        return 0;
#endif
    }
};

// Has the system begin to read the vectors of some pairs, which are in the order of their rows.
void read_ahead(const Vectors &vectors, const Pair *pairs, long count) {
    long page = sysconf(_SC_PAGESIZE);
    auto begin = [&](long i) { return (long)vectors.at(pairs[i].row) / page * page; };
    auto end = [&](long i) { return ((long)vectors.at(pairs[i].row) + vectors.size + page - 1) / page * page; };
    for (long i = 0; i < count;) {
        long first = begin(i), last = end(i);
        for (i++; i < count && begin(i) <= last; i++) last = end(i);
        for (; first < last; first += PIECE) madvise((void *)first, smaller(last - first, PIECE), MADV_WILLNEED);
    }
}

// Does something for each of some pairs in the order of their rows, while the vectors of the next are read.
template <class Each> void in_row_order(const Vectors &vectors, Pair *pairs, long count, Each each) {
    long step = larger(1, PAGES / vectors.size);
    std::sort(pairs, pairs + count);
    read_ahead(vectors, pairs, smaller(step, count));
    for (long start = 0; start < count; start += step) {
        long end = smaller(start + step, count);
        read_ahead(vectors, pairs + end, smaller(step, count - end));
        for (long i = start; i < end; i++) each(pairs[i]);
    }
}

}  // namespace

// Distances D (nq, m) of candidates I (nq, m), infinite for -1.
EXPORT(distances)(const void *xq, const double *squares, long nq, const void *x, long d, int metric, int type,
                  const int64_t *I, long m, double *D) {
    Vectors vectors(x, d, metric, type);
    Queries queries{xq, squares, d, type == L2_OF_BYTES};
    Watch watch;
    long done = 0;
    for (long i = 0; i < nq && !watch.away; i++) {
        Query q = queries[i];
        for (long end = done + m; done < end && !watch.away;) {
            long first = done, stop = smaller(done + FIRST_LOOK, end);
            for (; done < stop; done++) {
                long ahead = done + AHEAD;
                if (ahead < nq * m && I[ahead] >= 0) vectors.fetch(I[ahead]);
                D[done] = I[done] < 0 ? INFINITY : vectors.distance(q, vectors.at(I[done]));
            }
            watch.count(done - first);
        }
    }
    if (done == nq * m) return 1;
    Pair *pairs = (Pair *)malloc(MANY * sizeof(Pair));
    if (!pairs) return 0;
    for (long start = done; start < nq * m; start += MANY) {
        long held = 0, end = smaller(start + MANY, nq * m);
        for (long place = start; place < end; place++) {
            if (I[place] >= 0) pairs[held++] = {int32_t(I[place]), int32_t(place - start)};
            else D[place] = INFINITY;
        }
        in_row_order(vectors, pairs, held, [&](Pair pair) {
            long place = start + pair.query;
            D[place] = vectors.distance(queries[place / m], vectors.at(pair.row));
        });
    }
    free(pairs);
    return 1;
}

namespace {

// Adds what may have the least keys of T tiles for Q queries, as far as it lies from start to end.
template <int T, int Q>
inline void gather(const Tiles &tiles, long tile, long start, long end, const int32_t *const *words,
                   const int32_t *begin, Least<int32_t> *least) {
    int32x16 sum[T][Q];
    products<T, Q>(tiles, tile, words, begin, sum);
    for (int t = 0; t < T; t++) {
        long first = (tile + t) * TILE;
        uint32_t inside = 0xffff;
        if (first < start) inside &= ~0u << (start - first);
        if (end - first < TILE) inside &= (1u << (end - first)) - 1;
        int32x16 norm = load<int32x16>(tiles.norm(tile + t)), row = load<int32x16>(tiles.row(tile + t));
        for (int j = 0; j < Q; j++) {
            int32x16 key = norm - 2 * sum[t][j];
            uint32_t mask = not_greater(key, least[j].last.value) & inside;
            for (; mask; mask &= mask - 1) {
                int lane = __builtin_ctz(mask);
                least[j].insert({key[lane], row[lane]});
            }
        }
    }
}
template <int Q>
inline void gather_all(const Tiles &tiles, long start, long end, const int32_t *const *words, const int32_t *begin,
                       Least<int32_t> *least) {
    long tile = start / TILE, last = (end + TILE - 1) / TILE;
    for (; tile + TOGETHER <= last; tile += TOGETHER) gather<TOGETHER, Q>(tiles, tile, start, end, words, begin, least);
    for (; tile < last; tile++) gather<1, Q>(tiles, tile, start, end, words, begin, least);
}

}  // namespace

// The m stored vectors of least keys in some lists, or of all n without lists: rows (nq, m) in order, -1 for none. There
// is room for 8 m found.
EXPORT(nearest)(const uint8_t *first, long p, long n, const int8_t *codes, long nq, const int64_t *list_ends,
                const int64_t *lists, long nprobe, long m, void *room, int64_t *rows) {
    constexpr int Q = 4;
    Tiles tiles{first, p};
    long width = p / 4 * WORDS;
    int32_t *room_of_words = (int32_t *)malloc(Q * width * 4), begin[Q];
    const int32_t *words[Q];
    if (!room_of_words) return 0;
    for (long i = 0; i < nq;) {
        int together = !lists && i + Q <= nq ? Q : 1;
        Least<int32_t> least[Q];
        for (int j = 0; j < together; j++) {
            prepare(codes + (i + j) * p, p, room_of_words + j * width);
            words[j] = room_of_words + j * width, begin[j] = beginning(codes + (i + j) * p, p);
            least[j].found = (Found<int32_t> *)room + j * 2 * m, least[j].m = m;
        }
        if (together == Q) gather_all<Q>(tiles, 0, n, words, begin, least);
        else if (!lists) gather_all<1>(tiles, 0, n, words, begin, least);
        else
            for (long l = 0; l < nprobe; l++) {
                int64_t list = lists[i * nprobe + l];
                if (list >= 0) gather_all<1>(tiles, list ? list_ends[list - 1] : 0, list_ends[list], words, begin, least);
            }
        for (int j = 0; j < together; j++) {
            least[j].sort();
            for (long o = 0; o < m; o++) rows[(i + j) * m + o] = o < least[j].held ? least[j].found[o].row : -1;
        }
        i += together;
    }
    free(room_of_words);
    return 1;
}

namespace {

// A query of a scan: its codes, what its bound needs, and the k nearest so far.
struct Scan {
    const int32_t *words;
    int32_t begin;
    float rest2, tau2, limit;
    double norm, rounding;
    Least<double> nearest;
    Query query;
    double t;  // the most that its k-th distance can be

    // The k-th of the distances that were found first is the most that it can be.
    void begin_at(Least<double> &first) {
        first.sort();
        if (first.held == first.m) t = first.last.value;
    }

    // The bound for t. A distance of the metric, as `distances` gives it, times `square` is squared; `unit` times its
    // root is in units of codes.
    void aim(double square, double plus, double unit) {
        double tau = sqrt((t + plus) * square) * unit * (1 + 1e-9) + rounding;
        double most = tau * tau - norm;
        most += (tau * tau + norm) * DELTA + 1;
        limit = nextafterf(float(most), INFINITY);
        tau2 = nextafterf(float(2 * tau), INFINITY);
    }
};

template <int T, int Q>
inline long sift(const Tiles &tiles, long tile, Scan *scans, long first_query, Pair *waiting, long count) {
    const int32_t *words[Q];
    int32_t begin[Q];
    for (int j = 0; j < Q; j++) words[j] = scans[j].words, begin[j] = scans[j].begin;
    int32x16 sum[T][Q];
    products<T, Q>(tiles, tile, words, begin, sum);
    for (int t = 0; t < T; t++) {
        float32x16 norm = __builtin_convertvector(load<int32x16>(tiles.norm(tile + t)), float32x16) * (1 - DELTA);
        float32x16 rest = load<float32x16>(tiles.rest(tile + t)), rounding = load<float32x16>(tiles.rounding(tile + t));
        for (int j = 0; j < Q; j++) {
            float32x16 bound = norm - 2 * __builtin_convertvector(sum[t][j], float32x16) - rest * scans[j].rest2 -
                               rounding * (rounding + scans[j].tau2);
            uint32_t mask = not_greater(bound, scans[j].limit);
            if (__builtin_expect(mask != 0, 0)) {
                int32x16 row = load<int32x16>(tiles.row(tile + t));
                for (; mask; mask &= mask - 1) {
                    int lane = __builtin_ctz(mask);
                    if (row[lane] >= 0) waiting[count++] = {row[lane], int32_t(first_query + j)};
                }
            }
        }
    }
    return count;
}

}  // namespace

// The k nearest D, I (nq, k) of all n stored vectors. Among those at first (nq, m; -1 for none) the k-th is at most so far
// as it is among all: the bound rules out what is farther, and each of the rest gets its distance, by which that falls.
// There is room for 2 k found of each query.
EXPORT(scan)(const uint8_t *first, long p, long n, const int8_t *codes, const double *norm, const double *rest,
             const double *rounding, const int64_t *first_rows, long m, double square, double plus, double unit,
             const void *xq, const double *squares, long nq, const void *x, long d, int metric, int type, long k, void *room,
             double *D, int64_t *I) {
    constexpr int T = TOGETHER, Q = 4;
    Tiles tiles{first, p};
    Vectors vectors(x, d, metric, type);
    Queries queries{xq, squares, d, type == L2_OF_BYTES};
    long count = (n + TILE - 1) / TILE, width = p / 4 * WORDS;
    int32_t *words = (int32_t *)malloc(nq * width * 4 + 64);
    Scan *scans = (Scan *)malloc((nq + 1) * sizeof(Scan));
    Pair *waiting = (Pair *)malloc((MANY + T * Q * TILE) * sizeof(Pair));
    Found<double> *found = (Found<double> *)room;
    Distance lowest = lowest_for(metric, type);
    float *floats = lowest ? (float *)malloc(nq * d * 4 + 4) : nullptr;
    auto release = [&] { free(words), free(scans), free(waiting), free(floats); };
    if (!words || !scans || !waiting || (lowest && !floats)) return release(), 0;
    for (long i = 0; i < nq; i++) {
        prepare(codes + i * p, p, words + i * width);
        scans[i] = {words + i * width,      beginning(codes + i * p, p), nextafterf(float(2 * rest[i]), INFINITY), 0, 0,
                    norm[i], rounding[i], {found + 2 * i * k, k}, queries[i], INFINITY};
        if (lowest) {
            bool is_whole = true;
            for (long j = 0; j < d; j++) {
                double value = scans[i].query.values[j];
                floats[i * d + j] = float(value);
                is_whole &= metric == 1 || value == double(floats[i * d + j]);
            }
            if (is_whole) scans[i].query.floats = floats + i * d;
        }
    }
    Watch watch;
    long held = 0, tried = 0;
    for (; tried < nq && !watch.away; tried++) {
        Least<double> least = scans[tried].nearest;
        for (long j = 0; j < m; j++) {
            long ahead = tried * m + j + AHEAD;
            if (ahead < nq * m && first_rows[ahead] >= 0) vectors.fetch(first_rows[ahead]);
            int64_t row = first_rows[tried * m + j];
            if (row >= 0) least.insert({vectors.distance(scans[tried].query, vectors.at(row)), int32_t(row)});
        }
        scans[tried].begin_at(least);
        watch.count(m);
    }
    auto try_all = [&] {
        in_row_order(vectors, waiting, held, [&](Pair pair) {
            Scan &scan = scans[pair.query];
            scan.nearest.insert({vectors.distance(scan.query, vectors.at(pair.row)), pair.row});
        });
        held = 0;
    };
    for (long i = tried * m; i < nq * m; i++) {
        if (first_rows[i] >= 0) waiting[held++] = {int32_t(first_rows[i]), int32_t(i / m)};
        if (held == MANY) try_all();
    }
    try_all();
    for (; tried < nq; tried++) {
        scans[tried].begin_at(scans[tried].nearest);
        scans[tried].nearest = {scans[tried].nearest.found, k};
    }
    for (long i = 0; i < nq; i++) scans[i].aim(square, plus, unit);
    long most = watch.away ? MANY : WAITING;
    auto settle_one = [&](Pair pair) __attribute__((always_inline)) {
        Scan &scan = scans[pair.query];
        const void *stored = vectors.at(pair.row);
        if (scan.query.floats && lowest(scan.query, stored) > scan.t) return;
        double distance = vectors.distance(scan.query, stored);
        if (!(distance <= scan.t)) return;
        scan.nearest.insert({distance, pair.row});
        if (scan.nearest.last.value < scan.t) {
            scan.t = scan.nearest.last.value;
            scan.aim(square, plus, unit);
        }
    };
    auto settle = [&] {
        if (watch.away) in_row_order(vectors, waiting, held, settle_one);
        else
            for (long w = 0; w < held; w++) {
                if (w + AHEAD < held) vectors.fetch(waiting[w + AHEAD].row);
                settle_one(waiting[w]);
            }
        watch.count(held);
        most = watch.away ? MANY : WAITING, held = 0;
    };
    long block = BLOCK / tiles.size() / T * T;
    if (block < T) block = T;
    for (long start = 0; start < count; start += block) {
        long end = start + block < count ? start + block : count;
        long i = 0;
        for (; i + Q <= nq; i += Q) {
            long tile = start;
            for (; tile + T <= end; tile += T) {
                held = sift<T, Q>(tiles, tile, scans + i, i, waiting, held);
                if (held >= most) settle();
            }
            for (; tile < end; tile++) {
                held = sift<1, Q>(tiles, tile, scans + i, i, waiting, held);
                if (held >= most) settle();
            }
        }
        for (; i < nq; i++)
            for (long tile = start; tile < end; tile++) {
                held = sift<1, 1>(tiles, tile, scans + i, i, waiting, held);
                if (held >= most) settle();
            }
        if (!watch.away) settle();
    }
    settle();
    for (long i = 0; i < nq; i++) {
        Least<double> &least = scans[i].nearest;
        least.sort();
        for (long j = 0; j < k; j++) {
            D[i * k + j] = j < least.held ? least.found[j].value : INFINITY;
            I[i * k + j] = j < least.held ? least.found[j].row : -1;
        }
    }
    release();
    return 1;
}

#if defined(__AVX2__)
static bool has_f16c() {  // which not every compiler can be asked for by name
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

// Whether the processor has the instructions of this variant.
VISIBLE int JOIN(runs, VARIANT)() {
#if defined(__AVX512VNNI__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && has_f16c();
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && has_f16c();
#else
    return 1;
#endif
}

#if defined(MARK)
VISIBLE const char *const knnvote_mark = MARK;  // of this source, so that no other is taken for it
#endif
