// Ideal: what surprises even a reader who knows the world's law, and the model's regret.
import { bitsColouring, figures, sum } from "./surprise.js";
import { blocks } from "./blocks.js";
import { el } from "./dom.js";
import { glyph } from "./words.js";
import { table } from "./bars.js";

export const idealView = {
  name: "ideal",
  build(ctx) {
    const { words, data } = ctx;
    const view = data.views.ideal;
    const here = el("section", { class: "card" });
    const from = view.impossible_from;
    const three = (ideal, regret) => figures([[ideal, "ideal_bits"], [ideal + regret, "model_bits"],
      [regret, "regret"]].map(([bits, name]) => [words.number(bits), words.say(`column.${name}`)]));
    function update() {
      const { token } = ctx.state;
      const event = view.events.find(({ first, last }) => first <= token && token <= last);
      const facts = event?.facts ? `: ${event.facts[words.language]}` : "";
      const about = event ? [el("b", {}, words.named("kind", event.kind)), facts]
        : words.say("ideal.no_event");
      here.replaceChildren(el("h3", {}, words.say("ideal.here")), el("p", {}, about),
        view.bits[token] === null ? "" : three(view.bits[token], view.regret[token]));
    }
    const impossible = typeof from === "number" && el("p", { class: "finding", role: "alert" },
      words.say("ideal.impossible", { t: from }), " ", glyph(data.tokens[from]));
    const node = el("div", {}, impossible, three(sum(view.bits), sum(view.regret)), here,
      blocks(ctx, view).nodes, view.events.length > 0
        && [el("h3", {}, words.say("ideal.events")), eventTable(ctx, view)]);
    const colours = bitsColouring(ctx, view.regret, words.say("ideal.colour"));
    return { node, update, colouring: () => colours };
  },
};

function eventTable(ctx, view) {
  const { words, data } = ctx;
  const column = (name, value, cell, isText) =>
    ({ label: words.say(`column.${name}`), value, cell, isText });
  const text = ({ first, last }) => el("span", { class: "context" },
    data.tokens.slice(first, last + 1).map((token) => glyph(token)));
  const regret = ({ first, last }) => sum(view.regret.slice(first, last + 1));
  return table({ label: words.say("ideal.events"), rows: view.events,
    onRow: (row) => ctx.set({ token: row.first }), columns: [
      column("position", (row) => row.first),
      column("kind", (row) => words.named("kind", row.kind)),
      column("text", (row) => row.first, text, true),
      column("facts", (row) => row.facts[words.language]),
      column("regret", regret, (row) => words.number(regret(row))),
    ] });
}
