// Heat: a grid of coloured cells that say their number, and a square of attention on a canvas.
import { arrow, clamp, el } from "./dom.js";
import { drawSquare } from "./packed.js";
import { painted } from "./colour.js";
import { plain } from "./words.js";
import { scroller } from "./bars.js";

// Returns a grid of cells. `rows` and `columns` are labels; cell(r, c) returns { fraction, content,
// title, kind }. With bottomUp row 0 is the lowest. onCell(r, c) is called on a click.
export function heatGrid(ctx, { label, corner, rows, columns, cell, bottomUp, onCell, chosen }) {
  const lines = rows.map((name, r) => el("tr", {}, el("th", { scope: "row" }, name),
    columns.map((_, c) => {
      const { fraction, content, title, kind } = cell(r, c);
      const style = fraction === null ? {} : painted(ctx.scale, fraction);
      const on = onCell ? { click: () => onCell(r, c) } : {};
      return el("td", { style, title, on, class: kind }, content);
    })));
  if (bottomUp) lines.reverse();
  const heads = columns.map((name, c) =>
    el("th", { scope: "col", class: chosen === c ? "chosen" : null }, name));
  return scroller(label, el("table", { class: "heat" },
    el("thead", {}, el("tr", {}, el("td", {}, corner ?? ""), heads)), el("tbody", {}, lines)));
}

const LABELLED = 15; // pixels of a cell from which on the tokens are written along the square

// Returns the large square of a head: a canvas, and lines through the selected query and key.
// onCell(query, key) is called for a click and for the arrow keys; onHover(query, key) for the
// pointer, with nulls where it leaves. draw(values) takes the fractions of row t.
export function largeSquare(ctx, { n, room, label, query, onCell, onHover }) {
  const isNamed = n * LABELLED <= room - 70;
  const space = room - (isNamed ? 72 : 22);
  const cell = space < 4 * n ? space / n : Math.min(Math.floor(space / n), 28);
  const size = { width: `${cell * n}px`, height: `${cell * n}px` };
  const canvas = el("canvas", { style: size });
  const [across, down] = [el("i", { class: "row" }), el("i", { class: "column" })];
  const at = (event) => [event.offsetY, event.offsetX].map((pixels) =>
    clamp(Math.floor(pixels / cell), 0, n - 1));
  function keydown(event) {
    const step = arrow(event);
    if (!step) return;
    event.preventDefault();
    const row = clamp(query() + step[1], 0, n - 1);
    onCell(row, clamp((ctx.state.key ?? query()) + step[0], 0, row));
  }
  const on = { keydown, click: (event) => onCell(...at(event)),
    pointermove: (event) => onHover(...at(event)), pointerleave: () => onHover(null, null) };
  const square = el("div", { class: "square", tabindex: 0, role: "img", "aria-label": label,
    "data-focus": "square", style: size, on }, canvas, across, down);
  const axis = (name, side) => el("div", { class: name, "aria-hidden": "true" }, isNamed
    ? ctx.data.tokens.map((token) => el("span", { style: { [side]: `${cell}px` } }, plain(token)))
    : ctx.words.say(`attention.${name}`));
  const node = el("div", { class: isNamed ? "axes named" : "axes" }, axis("columns", "width"),
    axis("rows", "height"), square);
  function mark(row, key) {
    const thick = `${Math.max(cell, 2)}px`;
    Object.assign(across.style, { top: `${row * cell}px`, height: thick });
    Object.assign(down.style, { left: `${(key ?? 0) * cell}px`, width: thick });
    down.hidden = key === null;
  }
  const side = Math.min(cell * n * (globalThis.devicePixelRatio ?? 1), n);
  return { node, mark, draw: (values) => drawSquare(canvas, n, side, values, ctx.scale) };
}
