// Image work on the accelerator: decoded video to colours, a crop to the network's inputs, its face back into the frame.
//
// One thread per output pixel (x across, y down), 2-D blocks. Pixel centres are whole numbers, as in engines.types.
// Arithmetic is float32 and rounds half up, as the CPU path does (engines.gpu.images_numpy); both agree within 1 of 255.
// Compiled at run time by CuPy; nothing is included, so that the same text also compiles as C++ for tests on a CPU.

typedef unsigned char u8;

__device__ __forceinline__ float clamped(float value, float low, float high) {
    return value < low ? low : (value > high ? high : value);
}

__device__ __forceinline__ u8 rounded(float value) { return (u8)clamped(value + 0.5f, 0.0f, 255.0f); }

__device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int most(int a, int b) { return a > b ? a : b; }

// The four neighbours and weights of a place in a picture of rows x columns, edges repeated.
struct Spot {
    int x0, x1, y0, y1;
    float fx, fy;
};

__device__ __forceinline__ Spot spot(float x, float y, int rows, int columns) {
    x = clamped(x, 0.0f, (float)(columns - 1));
    y = clamped(y, 0.0f, (float)(rows - 1));
    Spot s;
    s.x0 = least((int)x, most(columns - 2, 0));
    s.y0 = least((int)y, most(rows - 2, 0));
    s.x1 = least(s.x0 + 1, columns - 1);
    s.y1 = least(s.y0 + 1, rows - 1);
    s.fx = x - s.x0;
    s.fy = y - s.y0;
    return s;
}

__device__ __forceinline__ float mixed(float a, float b, float c, float d, float fx, float fy) {
    float upper = a * (1.0f - fx) + b * fx;
    float lower = c * (1.0f - fx) + d * fx;
    return upper * (1.0f - fy) + lower * fy;
}

__device__ __forceinline__ float chroma_at(const u8 *plane, int pitch, int step, Spot s) {
    return mixed(plane[s.y0 * pitch + s.x0 * step], plane[s.y0 * pitch + s.x1 * step],
                 plane[s.y1 * pitch + s.x0 * step], plane[s.y1 * pitch + s.x1 * step], s.fx, s.fy);
}

// NV12 and I420 to RGB. NV12: u and v point into one plane, step 2; I420: two planes, step 1. Chroma lies in the middle
// of its four pixels. matrix[3][4] takes (Y, U, V, 1), each 0..255, to R, G, B, 0..255.
extern "C" __global__ void rgb_from_yuv420(const u8 *luma, const u8 *u, const u8 *v, int luma_pitch, int chroma_pitch,
                                           int chroma_step, int rows, int columns, const float *matrix, u8 *rgb) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= columns || y >= rows) return;
    Spot s = spot(0.5f * (x - 0.5f), 0.5f * (y - 0.5f), rows / 2, columns / 2);
    float Y = luma[y * luma_pitch + x];
    float U = chroma_at(u, chroma_pitch, chroma_step, s);
    float V = chroma_at(v, chroma_pitch, chroma_step, s);
    u8 *out = rgb + 3 * (y * columns + x);
    for (int c = 0; c < 3; c++) {
        const float *row = matrix + 4 * c;
        out[c] = rounded(row[0] * Y + row[1] * U + row[2] * V + row[3]);
    }
}

__device__ __forceinline__ u8 sampled(const u8 *rgb, Spot s, int columns, int c) {
    return rounded(mixed(rgb[3 * (s.y0 * columns + s.x0) + c], rgb[3 * (s.y0 * columns + s.x1) + c],
                         rgb[3 * (s.y1 * columns + s.x0) + c], rgb[3 * (s.y1 * columns + s.x1) + c], s.fx, s.fy));
}

// A crop of size x size: every pixel the mean of samples x samples places of the frame (engines.face.align.crop).
// from_fine[2][3] takes pixels of the crop at its finer size to the frame.
extern "C" __global__ void crop_of_frame(const u8 *frame, int rows, int columns, const float *from_fine, int samples,
                                         int size, u8 *crop) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= size || y >= size) return;
    int total[3] = {0, 0, 0};
    for (int j = 0; j < samples; j++) {
        for (int i = 0; i < samples; i++) {
            float fine_x = (float)(x * samples + i), fine_y = (float)(y * samples + j);
            Spot s = spot(from_fine[0] * fine_x + from_fine[1] * fine_y + from_fine[2],
                          from_fine[3] * fine_x + from_fine[4] * fine_y + from_fine[5], rows, columns);
            for (int c = 0; c < 3; c++) total[c] += sampled(frame, s, columns, c);
        }
    }
    int area = samples * samples;
    for (int c = 0; c < 3; c++) crop[3 * (y * size + x) + c] = (u8)((total[c] + area / 2) / area);
}

// A mask between its cells, 0..1; nothing outside of it.
__device__ __forceinline__ float covered_at(const u8 *covered, int rows, int columns, float x, float y) {
    if (!(x >= 0.0f && x < columns - 1 && y >= 0.0f && y < rows - 1)) return 0.0f;
    int x0 = (int)x, y0 = (int)y;
    const u8 *at = covered + y0 * columns + x0;
    return mixed(at[0], at[1], at[columns], at[columns + 1], x - x0, y - y0) / 255.0f;
}

// The region to be drawn (engines.face.region.face_region), and on the way the sums for the colour that fills it.
// sides[n][3]: of the grown hull, inwards: (in_x, in_y, start), so that depth = start + in_x x + in_y y.
// covered may be null. sums: four counters, red, green, blue and weight, in 1/1024; integers, so that the order of
// threads does not show in the result.
extern "C" __global__ void region_of_face(const float *sides, int count, float feather_px, const u8 *covered,
                                          int covered_rows, int covered_columns, const float *covered_from_crop,
                                          const u8 *crop, int size, float *mask, float *alpha,
                                          unsigned long long *sums) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= size || y >= size) return;
    float depth = 1e9f;
    for (int i = 0; i < count; i++) {
        float here = sides[3 * i + 2] + y * sides[3 * i + 1] + x * sides[3 * i];
        depth = here < depth ? here : depth;
    }
    int at = y * size + x;
    if (depth <= 0.0f) {
        mask[at] = alpha[at] = 0.0f;
        return;
    }
    float clear = 1.0f;
    if (covered) {
        const float *m = covered_from_crop;
        clear -= covered_at(covered, covered_rows, covered_columns, m[0] * x + m[1] * y + m[2],
                            m[3] * x + m[4] * y + m[5]);
    }
    float ramp = clamped(depth / feather_px, 0.0f, 1.0f);
    mask[at] = clamped(depth, 0.0f, 1.0f) * clear;
    alpha[at] = ramp * ramp * (3.0f - 2.0f * ramp) * clear;
    unsigned long long weight = (unsigned long long)(mask[at] * 1024.0f + 0.5f);
    if (!weight) return;
    for (int c = 0; c < 3; c++) atomicAdd(sums + c, weight * crop[3 * at + c]);
    atomicAdd(sums + 3, weight);
}

// Pixels as networks read them, [3, size, size], -1..1: the frame's crop with the region filled, and the proxy's crop.
// sums may be null: then grey fills the region.
extern "C" __global__ void network_inputs(const u8 *crop, const u8 *proxy_crop, const float *mask,
                                          const unsigned long long *sums, int size, float *masked, float *proxy) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= size || y >= size) return;
    int at = y * size + x, plane = size * size;
    for (int c = 0; c < 3; c++) {
        float fill = sums && sums[3] ? (float)((double)sums[c] / (double)sums[3]) : 127.5f;
        float m = mask[at];  // a blend by 1 would leave a rounding error of the face's own pixel
        float shown = m < 1.0f ? (1.0f - m) * crop[3 * at + c] + m * fill : fill;
        masked[c * plane + at] = shown * (1.0f / 127.5f) - 1.0f;
        proxy[c * plane + at] = proxy_crop[3 * at + c] * (1.0f / 127.5f) - 1.0f;
    }
}

// The face as colour times opacity and opacity, [size, size, 4], 0..255 and 0..1 (engines.face.paste.coloured).
extern "C" __global__ void coloured(const float *face, const float *alpha, int size, float *out) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= size || y >= size) return;
    int at = y * size + x;
    for (int c = 0; c < 3; c++)
        out[4 * at + c] = clamped((face[c * size * size + at] + 1.0f) * 127.5f, 0.0f, 255.0f) * alpha[at];
    out[4 * at + 3] = alpha[at];
}

// The mean of every 2x2 pixels: [2 size, 2 size, 4] -> [size, size, 4].
extern "C" __global__ void halved(const float *fine, int size, float *out) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= size || y >= size) return;
    for (int k = 0; k < 4; k++) {
        const float *at = fine + 4 * (2 * y * 2 * size + 2 * x) + k;
        out[4 * (y * size + x) + k] = ((at[0] + at[4]) + (at[8 * size] + at[8 * size + 4])) * 0.25f;
    }
}

// Lays the face over a box of the frame, and the label over the whole, in place: one pass over the pixels that change.
// there[2][3] takes pixels of the frame to those of `colours`. plate: RGB and opacity, uint8 [plate_rows,
// plate_columns, 4], whose corner lies at (plate_x, plate_y); null: no label. The grid covers the whole frame.
extern "C" __global__ void paste_and_label(u8 *frame, int rows, int columns, const float *colours, int size,
                                           const float *there, const u8 *plate, int plate_rows, int plate_columns,
                                           int plate_x, int plate_y) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= columns || y >= rows) return;
    u8 *pixel = frame + 3 * (y * columns + x);
    float at_x = there[0] * x + there[1] * y + there[2];
    float at_y = there[3] * x + there[4] * y + there[5];
    float last = (float)(size - 1);
    if (at_x >= 0.0f && at_x < last && at_y >= 0.0f && at_y < last) {
        int x0 = (int)at_x, y0 = (int)at_y;
        const float *a = colours + 4 * (y0 * size + x0), *b = a + 4 * size;
        float fx = at_x - x0, fy = at_y - y0;
        float opacity = mixed(a[3], a[7], b[3], b[7], fx, fy);
        if (opacity > 0.0f)
            for (int c = 0; c < 3; c++)
                pixel[c] = rounded(mixed(a[c], a[4 + c], b[c], b[4 + c], fx, fy) + (1.0f - opacity) * pixel[c]);
    }
    int px = x - plate_x, py = y - plate_y;
    if (!plate || px < 0 || px >= plate_columns || py < 0 || py >= plate_rows) return;
    const u8 *over = plate + 4 * (py * plate_columns + px);
    for (int c = 0; c < 3; c++) pixel[c] = (u8)((over[c] * over[3] + pixel[c] * (255 - over[3]) + 127) / 255);
}

// What the face encoder reads, [3, small, small], -1..1: every pixel the mean of `by` x `by` pixels of the crop.
extern "C" __global__ void small_picture(const u8 *crop, int size, int by, float *out) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    int small = size / by;
    if (x >= small || y >= small) return;
    for (int c = 0; c < 3; c++) {
        int total = 0;
        for (int j = 0; j < by; j++)
            for (int i = 0; i < by; i++) total += crop[3 * ((y * by + j) * size + x * by + i) + c];
        int level = (total + by * by / 2) / (by * by);
        out[c * small * small + y * small + x] = level * (1.0f / 127.5f) - 1.0f;
    }
}

// The same where the sizes do not divide: sampled between pixels, and rounded as the CPU path does.
extern "C" __global__ void sampled_picture(const u8 *crop, int size, int small, float *out) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= small || y >= small) return;
    float scale = (float)size / small, middle = (scale - 1.0f) * 0.5f;
    Spot s = spot(scale * x + middle, scale * y + middle, size, size);
    for (int c = 0; c < 3; c++)
        out[c * small * small + y * small + x] = sampled(crop, s, size, c) * (1.0f / 127.5f) - 1.0f;
}

// One over the brightness of each cell of the frame, of each colour (engines.marks.invisible): whole numbers in
// [down, across, 3], one thread a cell.
extern "C" __global__ void mark_surroundings(const u8 *rgb, int rows, int columns, int cell, float *inverses) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int j = blockIdx.y * blockDim.y + threadIdx.y;
    int across = (columns + cell - 1) / cell, down = (rows + cell - 1) / cell;
    if (i >= across || j >= down) return;
    unsigned sums[3] = {0, 0, 0}, count = 0;
    for (int y = j * cell; y < (j + 1) * cell && y < rows; y += 4)
        for (int x = i * cell; x < (i + 1) * cell && x < columns; x++, count++)
            for (int c = 0; c < 3; c++) sums[c] += rgb[3 * (y * columns + x) + c];
    for (int c = 0; c < 3; c++) {
        unsigned lifted = sums[c] + 4 * count;
        inverses[3 * (j * across + i) + c] = (float)((2 * 11776 * count + lifted) / (2 * lifted));
    }
}

// Of a pixel, along one side: the cell before it (-1 at first), and in sixteenths how far it lies on the way to the next.
__device__ __forceinline__ int cell_before(int place, int cell, int *share) {
    int at = 2 * place + 1 - cell, before = (at + 2 * cell) / (2 * cell) - 1;
    *share = 16 * (at - 2 * cell * before) / (2 * cell);
    return before;
}

// The invisible mark (engines.marks.invisible): what is added to each pixel's colours in sixteenths of a step, [rows,
// columns], 128 for nothing; less where a colour is nearly black or brighter than its surroundings; dithered.
extern "C" __global__ void add_mark(u8 *rgb, int rows, int columns, int cell, const float *inverses, const u8 *field) {
    const int bayer[16] = {0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5};
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= columns || y >= rows) return;
    int down = (rows + cell - 1) / cell, across = (columns + cell - 1) / cell, to_right, to_below;
    int left = cell_before(x, cell, &to_right), upper = cell_before(y, cell, &to_below);
    int right = left + 1 < across ? left + 1 : across - 1, lower = upper + 1 < down ? upper + 1 : down - 1;
    left = left < 0 ? 0 : left;
    upper = upper < 0 ? 0 : upper;
    int at = y * columns + x, full = field[at] - 128, threshold = 16 * bayer[4 * (y % 4) + x % 4] + 8;
    for (int c = 0; c < 3; c++) {
        const float *above = inverses + 3 * upper * across + c, *below = inverses + 3 * lower * across + c;
        int over_it = ((int)above[3 * left] * (16 - to_right) + (int)above[3 * right] * to_right + 8) / 16;
        int under_it = ((int)below[3 * left] * (16 - to_right) + (int)below[3 * right] * to_right + 8) / 16;
        unsigned inverse = over_it * (16 - to_below) + under_it * to_below;
        int before = rgb[3 * at + c], even = 27 - (int)(4u * (before + 4) * inverse >> 16);
        even = even < 8 ? 8 : even > 20 ? 20 : even;
        int share = before + 2 < even ? before + 2 : even;
        int value = before + ((full * share + threshold) >> 8);
        rgb[3 * at + c] = (u8)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
}
