// Packed attention: bytes in base64, deflated, row after row of the lower triangle; and pixels.
import { range } from "./dom.js";

// Returns the bytes of a raw deflate stream in base64.
async function inflate(base64) {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Whether packed weights are the fp32 numbers themselves, not rounded to 1/255.
export const isExact = (encoding) => encoding?.startsWith("f32") ?? false;

// Opens a view whose last two sizes are those of a square. Returns read(square, t): the t + 1
// weights of a row, fp32 or to 1/255. Of a sparse view the weights that are left out are 0.
export async function openRows({ shape, weight, sparse, encoding }) {
  const n = shape.at(-1);
  const k = sparse?.k ?? n; // entries of a row, where it has as many
  const before = (t) => Math.min(t, k) * (Math.min(t, k) + 1) / 2 + Math.max(t - k, 0) * k;
  const bytes = await inflate(sparse?.weight ?? weight);
  const [one, numbers] = isExact(encoding) ? [1, new Float32Array(bytes.buffer)] : [255, bytes];
  const places = sparse ? new Uint16Array((await inflate(sparse.index)).buffer) : null;
  return (square, t) => {
    const start = square * before(n) + before(t);
    const kept = numbers.subarray(start, start + Math.min(t + 1, k));
    if (!places) return Float32Array.from(kept, (number) => number / one);
    const row = new Float32Array(t + 1);
    kept.forEach((number, i) => { row[places[start + i]] = number / one; });
    return row;
  };
}

// Draws rows of fractions, a pixel for each; negative ones are what is hidden or not known.
export function drawRows(canvas, rows, scale) {
  [canvas.width, canvas.height] = [rows[0].length, rows.length];
  const image = new ImageData(canvas.width, canvas.height);
  for (const [y, row] of rows.entries()) {
    row.forEach((value, x) => {
      const [r, g, b] = value < 0 ? scale.future : scale.at(value);
      image.data.set([r, g, b, 255], 4 * (y * row.length + x));
    });
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Draws a square of n rows on at most `side` pixels; cells that share a pixel show their largest.
// values(t) returns the t + 1 fractions of row t.
export function drawSquare(canvas, n, side, values, scale) {
  const size = Math.min(n, Math.round(side));
  const rows = range(size).map(() => new Float32Array(size).fill(-1));
  for (let t = 0; t < n; t++) {
    const [row, drawn] = [values(t), rows[Math.floor(t * size / n)]];
    for (let s = 0; s <= t; s++) {
      const x = Math.floor(s * size / n);
      if (row[s] > drawn[x]) drawn[x] = row[s];
    }
  }
  drawRows(canvas, rows, scale);
}
