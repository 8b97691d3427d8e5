// Twin: the story with two places exchanged, and where the story's stream brings its answer back.
import { button, el, range } from "./dom.js";
import { depthMap } from "./depths.js";
import { bitsColouring, figures } from "./surprise.js";
import { glyph } from "./words.js";

export const twinView = {
  name: "twin",
  build(ctx) {
    const { words, data: { tokens, views: { twin: view } } } = ctx;
    const n = view.twin.length; // tokens before the answer
    const values = view.effect.map((row) => row.map((share) => Math.max(share, 0)));
    const isOther = (t) => view.twin[t] !== tokens[t].id;
    const both = (t) => [glyph(tokens[t]), " → ", glyph(ctx.text(view.twin[t]))];
    const head = (t) => (isOther(t) ? both(t) : glyph(tokens[t]));
    const cell = (r, t) => ({ fraction: values[r][t], content: words.number(view.effect[r][t]) });
    const [right, other] = [view.right, view.other].map((id) => glyph(ctx.text(id)));
    const map = depthMap(ctx, { name: "twin", rows: view.depths.map((name) => words.part(name)),
      values, shift: 0, head, cell, between: null });
    const leads = figures(["story", "twin"].map((name) =>
      [words.number(view[`${name}_lead`]), words.say(`twin.${name}`)]));
    const changed = range(n).filter(isOther).map((t) => button({ class: "series",
      "data-focus": `twin-${t}` }, () => ctx.set({ token: t }), el("small", {}, t), both(t)));
    const most = range(n).map((t) => Math.max(...values.map((row) => row[t])));
    const colours = bitsColouring(ctx, most, words.say("twin.colour"), 1);
    return { update: map.update, colouring: () => colours, node: el("div", {},
      el("p", { class: "finding" }, words.say("twin.question", { t: n }), " ", right, " → ",
        other), leads, el("h3", {}, words.say("twin.changed")),
      el("div", { class: "lines" }, changed), map.nodes) };
  },
};
