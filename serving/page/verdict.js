// The world's verdict on a text: possible as far as it goes, told to its end, or impossible from a
// token on, with what is so there and what could have come. Previous: tree.js.  Next: write.js.
import { el } from "./xray/dom.js";
import { glyph } from "./xray/words.js";

// Returns the verdict as a card; tokens are those of the text, onSelect goes to one of them.
export function verdictCard(app, vocabulary, tokens, verdict, onSelect) {
  const { say, named, percent, number, count } = app.words;
  const at = verdict.impossible_from;
  const text = (id) => glyph(vocabulary[id] ?? { text: `#${id}` });
  const kind = at !== null ? "impossible" : verdict.is_over ? "over" : "possible";
  const facts = verdict.events.at(-1)?.facts[app.language];
  const last = (pairs) => pairs.slice(0, 6).map(([id, p], i) =>
    [i > 0 && ", ", text(id), ` ${percent(p)}`]);
  const could = at === null ? null : at > 0 ? verdict.top[at - 1] : verdict.start;
  const both = tokens.map(({ p }, t) => [verdict.bits[t], p])
    .filter(([bits, p]) => bits !== null && p);
  const ideal = both.reduce((sum, [bits]) => sum + bits, 0);
  const paid = both.reduce((sum, [, p]) => sum - Math.log2(p), 0);
  const events = count("verdict.events", verdict.events.length);
  const list = el("dl", { class: "reasons" },
    could && [el("dt", {}, say("verdict.there")), el("dd", {}, el("button", { type: "button",
      class: "pick", on: { click: () => onSelect(at) } }, text(tokens[at]?.id)),
    " ", say("verdict.place", { t: at }))],
    at !== null && verdict.kinds.length > 0 && [el("dt", {}, say("verdict.telling")),
      el("dd", {}, verdict.kinds.slice(0, 5).map(([name, p], i) =>
        [i > 0 && ", ", named("kind", name), p < 1 && ` ${percent(p)}`]))],
    could && could.length > 0 && [el("dt", {}, say("verdict.could")), el("dd", {}, last(could))],
    could && could.length === 0 && [el("dt", {}, say("verdict.could")),
      el("dd", {}, say("verdict.nothing"))],
    at !== null && verdict.sentences.length > 0 && [el("dt", {}, say("verdict.sentences")),
      el("dd", {}, verdict.sentences.map(([sentence, p]) =>
        el("div", {}, `${sentence} `, el("span", { class: "pale" }, percent(p)))))],
    facts && [el("dt", {}, say(at === null ? "verdict.facts" : "verdict.before")),
      el("dd", {}, facts)]);
  return el("section", { class: `card verdict ${kind}`, "aria-live": "polite" },
    el("h3", {}, say("verdict.title")),
    el("p", { class: "finding" }, el("b", {}, say(`verdict.${kind}`)), " ", events, "."), list,
    el("p", { class: "note" }, say("verdict.bits", { ideal: number(ideal, 1),
      model: number(paid, 1) })));
}
