// Lens: what the model would say if it stopped at each depth; the embeddings are the lowest line.
import { depthMap } from "./depths.js";
import { el } from "./dom.js";
import { glyph } from "./words.js";

export const lensView = {
  name: "lens",
  build(ctx) {
    const { words, data: { tokens, views: { lens: view } } } = ctx;
    const rows = view.depths.map((name) => words.part(name));
    const verdict = el("p", { class: "finding" });
    const head = (t) => (tokens[t + 1] ? glyph(tokens[t + 1]) : words.say("lens.next"));
    function cell(r, t) {
      const [[id, share], p] = [view.top[r][t][0], view.p_true[r][t]];
      const marks = [id === tokens[t + 1]?.id && "right", view.settled[t] === r && "settled"];
      const [known, kl] = [words.percent(p), words.bits(view.kl_to_end[r][t])];
      return { fraction: p, kind: marks.filter(Boolean).join(" "),
        content: [glyph(ctx.text(id)), el("small", {}, words.percent(share))],
        title: words.say("lens.cell", { depth: rows[r], p: known, kl }) };
    }
    const map = depthMap(ctx, { name: "lens", rows, values: view.p_true, shift: 1, head, cell,
      between: verdict });
    function update() {
      const t = map.update(); // the position that predicts the token
      verdict.replaceChildren(words.say("lens.settled", { depth: rows[view.settled[t]] }), " ",
        glyph(ctx.text(view.top.at(-1)[t][0][0])));
    }
    const last = rows.length - 1;
    const colours = { title: words.say("lens.colour"), ticks: [[0, rows[0]], [1, rows[last]]],
      at: (t) => (t === 0 ? null
        : { fraction: view.settled[t - 1] / last, text: rows[view.settled[t - 1]] }) };
    return { update, colouring: () => colours, node: el("div", {}, map.nodes) };
  },
};
