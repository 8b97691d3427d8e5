// Depths: a map of numbers by depth and position, the embeddings lowest. All is drawn as a line of
// pixels for each depth, and the part around the selected token, framed there, as a grid of cells.
import { clamp, el, range } from "./dom.js";
import { drawRows } from "./packed.js";
import { heatGrid } from "./heat.js";

const CELL = 84; // pixels of a column
const NAMES = 130; // of the names of the depths
const LINE = 12; // of a depth in the lines

// Returns the map `name` of values[row][t], null where there is none. Position t is about the token
// t + shift, which head(t) names; cell(row, t) is as in heatGrid; `between` stands over the grid.
export function depthMap(ctx, { name, rows, values, shift, head, cell, between }) {
  const { words: { say }, state, data } = ctx;
  const n = values[0].length;
  const many = Math.min(clamp(Math.floor((ctx.width() - NAMES) / CELL), 2, 11), n);
  const canvas = el("canvas",
    { class: "overview", style: { height: `${LINE * rows.length}px` } });
  const [frame, grid] = [el("i", { class: "frame" }), el("div")];
  const note = (key) => el("p", { class: "note" }, say(`${name}.${key}`));
  const choose = (t) => ctx.set({ token: clamp(t + shift, 0, data.tokens.length - 1) });
  const click = ({ offsetX: x }) => choose(Math.floor(x / canvas.clientWidth * n));
  drawRows(canvas, values.toReversed().map((row) => row.map((value) => value ?? -1)), ctx.scale);
  // Shows the part around the selected token, and returns its position.
  function update() {
    const selected = clamp(state.token - shift, 0, n - 1);
    const first = clamp(selected - Math.floor(many / 2), 0, n - many);
    const columns = range(many).map((i) =>
      [el("small", {}, `${first + i + shift} `), head(first + i)]);
    grid.replaceChildren(heatGrid(ctx, { label: say(`${name}.grid`), rows, columns,
      corner: say(`${name}.corner`), bottomUp: true, chosen: selected - first,
      cell: (r, i) => cell(r, first + i), onCell: (r, i) => choose(first + i) }));
    Object.assign(frame.style, { left: `${100 * first / n}%`, width: `${100 * many / n}%` });
    return selected;
  }
  const lines = el("div", { class: "overview-box", role: "img", on: { click },
    "aria-label": say(`${name}.overview`) }, canvas, frame);
  return { update, nodes: [el("h3", {}, say(`${name}.overview`)), lines, note("overview.help"),
    between, grid, note("grid.help")] };
}
