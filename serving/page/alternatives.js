// What could have stood in the place of a token: the model's probabilities, the ideal reader's
// beside them, and a button for each to go on from it. Previous: text.js.  Next: tree.js.
import { bars } from "./xray/bars.js";
import { button, el } from "./xray/dom.js";
import { glyph } from "./xray/words.js";

// Returns the alternatives of token t of a branch; `ideal` are pairs of an id and a probability.
export function alternatives(app, vocabulary, { tokens, t, ideal, onPick, n_shown: n = 8 }) {
  const { words, run } = app;
  const { say } = words;
  const token = tokens[t];
  if (!token) return el("p", { class: "note" }, say("alternatives.choose"));
  const perfect = ideal?.length ? new Map(ideal) : null;
  const isWhole = perfect && [...perfect.values()].reduce((sum, p) => sum + p, 0) > 0.999;
  const model = new Map([...token.top, ...(token.p === null ? [] : [[token.id, token.p]])]);
  const ids = [...new Set([...model.keys(), ...perfect?.keys() ?? []])];
  const weight = (id) => model.get(id) ?? perfect?.get(id) ?? 0;
  const ranked = ids.sort((a, b) => weight(b) - weight(a))
    .filter((id, i) => i < n || id === token.id);
  const name = (id) => (id === run.end_of_text ? say("text.end")
    : glyph(vocabulary[id] ?? { text: `#${id}` }));
  const rows = ranked.map((id) => {
    const second = perfect ? perfect.get(id) ?? (isWhole ? 0 : null) : null;
    const p = model.get(id) ?? null;
    const isTaken = id === token.id;
    const pick = button({ class: "pick", "data-focus": `pick-${id}`, disabled: isTaken,
      "aria-label": say(isTaken ? "alternatives.taken" : "alternatives.pick",
        { token: vocabulary[id]?.text ?? `#${id}`, p: words.percent(p) }) },
    () => onPick(t, [id, p]), name(id));
    return { label: pick, value: p ?? 0, mark: isTaken, second,
      text: p === null ? say("alternatives.rare") : words.percent(p),
      secondText: perfect && say("ideal.p", { n: words.percent(second) }) };
  });
  const most = Math.max(...rows.flatMap((row) => [row.value, row.second ?? 0]), 1e-6);
  return el("div", { class: "alternatives" },
    el("p", { class: "note" },
      say(token.p === null ? "alternatives.unknown" : "alternatives.hint")),
    rows.length ? bars(rows, { most }) : null);
}
