// Lens: what the model would say if it stopped at each depth; the embeddings are the lowest line.
import { clamp, el, range } from "./dom.js";
import { drawRows } from "./packed.js";
import { glyph } from "./words.js";
import { heatGrid } from "./heat.js";

const CELL = 84; // pixels of a column
const NAMES = 130; // of the names of the depths
const LINE = 12; // of a depth in the overview

export const lensView = {
  name: "lens",
  build(ctx) {
    const { words, data, state } = ctx;
    const view = data.views.lens;
    const n = data.tokens.length;
    const rows = view.depths.map((name) => words.part(name));
    const many = Math.min(clamp(Math.floor((ctx.width() - NAMES) / CELL), 2, 11), n);
    const grid = el("div");
    const verdict = el("p", { class: "finding" });
    const overview = lensOverview(ctx, view);
    function cell(r, t) {
      const [[id, share], p] = [view.top[r][t][0], view.p_true[r][t]];
      const marks = [id === data.tokens[t + 1]?.id && "right", view.settled[t] === r && "settled"];
      const [known, kl] = [words.percent(p), words.bits(view.kl_to_end[r][t])];
      return { fraction: p, kind: marks.filter(Boolean).join(" "),
        content: [glyph(ctx.text(id)), el("small", {}, words.percent(share))],
        title: words.say("lens.cell", { depth: rows[r], p: known, kl }) };
    }
    function update() {
      const selected = Math.max(state.token - 1, 0); // the position that predicts the token
      const first = clamp(selected - Math.floor(many / 2), 0, n - many);
      const columns = range(many).map((i) => first + i + 1).map((t) => [el("small", {}, `${t} `),
        t < n ? glyph(data.tokens[t]) : words.say("lens.next")]);
      grid.replaceChildren(heatGrid(ctx, { label: words.say("lens.grid"), rows, columns,
        corner: words.say("lens.predicts"), bottomUp: true, chosen: selected - first,
        cell: (r, c) => cell(r, first + c),
        onCell: (r, c) => ctx.set({ token: Math.min(first + c + 1, n - 1) }) }));
      const depth = rows[view.settled[selected]];
      verdict.replaceChildren(words.say("lens.settled", { depth }), " ",
        glyph(ctx.text(view.top.at(-1)[selected][0][0])));
      overview.mark(first, many);
    }
    const last = rows.length - 1;
    const colours = { title: words.say("lens.colour"), ticks: [[0, rows[0]], [1, rows[last]]],
      at: (t) => (t === 0 ? null
        : { fraction: view.settled[t - 1] / last, text: rows[view.settled[t - 1]] }) };
    const note = (key) => el("p", { class: "note" }, words.say(key));
    return { update, colouring: () => colours, node: el("div", {},
      el("h3", {}, words.say("lens.overview")), overview.node, note("lens.overview.help"), verdict,
      grid, note("lens.grid.help")) };
  },
};

// All positions at once: a line of pixels for each depth; a frame around what the grid shows.
function lensOverview(ctx, { p_true: known }) {
  const n = ctx.data.tokens.length;
  const style = { height: `${LINE * known.length}px` };
  const canvas = el("canvas", { class: "overview", style });
  const frame = el("i", { class: "frame" });
  drawRows(canvas, known.toReversed().map((row) => row.map((p) => p ?? -1)), ctx.scale);
  const click = ({ offsetX: x }) => ctx.set({
    token: clamp(Math.floor(x / canvas.clientWidth * n) + 1, 0, n - 1) });
  const mark = (first, many) => Object.assign(frame.style,
    { left: `${100 * first / n}%`, width: `${100 * many / n}%` });
  return { mark, node: el("div", { class: "overview-box", role: "img", on: { click },
    "aria-label": ctx.words.say("lens.overview") }, canvas, frame) };
}
