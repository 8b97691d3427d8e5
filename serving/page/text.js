// A written text: its tokens as one reads them, coloured by how improbable each was. A listbox for
// the keyboard: arrows, Home, End. Tokens may be added at its end.
// Previous: story.js.  Next: alternatives.js.
import { clamp, el, range } from "./xray/dom.js";
import { painted } from "./xray/colour.js";
import { glyph, plain } from "./xray/words.js";
import { tokenOfKey } from "./xray/tokens.js";

const MOST_BITS = 8; // from here on the colour is the strongest: one in 256
const TICKS = [0, 2, 4, 6, 8]; // bits whose probability stands below the legend

// Returns the colour of a probability, from 0 for certain to 1.
export const improbability = (p) => clamp(-Math.log2(p || 1e-9) / MOST_BITS, 0, 1);

// Returns a text's node, `show(tokens, { isEnd, impossible })` and `select(t)`. `vocabulary` says
// what each token stands for.
export function writtenText(app, vocabulary, { onSelect, label, focus = "written" }) {
  const { words, scale } = app;
  let [spans, spaces, shown, chosen] = [[], [], [], -1];
  const node = el("div", { class: "strip written", role: "listbox", tabindex: 0,
    "data-focus": focus, "aria-label": label, on: {
      click({ target }) {
        const span = target.closest("[data-t]");
        if (span) onSelect(Number(span.dataset.t));
      },
      keydown(event) {
        const to = spans.length ? tokenOfKey(event, spans, Math.max(chosen, 0)) : undefined;
        if (to === undefined) return;
        event.preventDefault();
        onSelect(chosen < 0 ? 0 : clamp(to, 0, spans.length - 1));
      },
    } });
  function spanOf(token, t) {
    const meaning = vocabulary[token.id] ?? { text: `#${token.id}` };
    const isSpecial = token.id === app.run.end_of_text;
    const content = isSpecial ? el("i", { class: "end" }, words.say(t ? "text.end" : "text.start"))
      : meaning.bytes ? glyph(meaning) : meaning.text.replace(/^ (?=\S)/, "");
    return el("span", { role: "option", id: `${focus}-${t}`, "data-t": t, class: token.by,
      "aria-selected": "false" }, content);
  }
  function paint(span, token, t) {
    const style = token.p === null ? {} : painted(scale, improbability(token.p));
    span.style.setProperty("background-color", style["background-color"] ?? "");
    span.style.setProperty("color", style.color ?? "");
    span.title = `${t}  ${plain(vocabulary[token.id] ?? { text: "" })}  ${
      token.p === null ? "" : words.percent(token.p)}`;
  }
  function show(tokens, { impossible = null } = {}) {
    const same = shown.findIndex((token, i) => token !== tokens[i]);
    const kept = same < 0 ? Math.min(shown.length, tokens.length) : same;
    for (const old of [...spans.slice(kept), ...spaces.slice(kept)]) old.remove();
    [spans, spaces] = [spans.slice(0, kept), spaces.slice(0, kept)];
    for (const t of range(tokens.length).slice(kept)) { // a colour begins behind a word's space
      spans.push(spanOf(tokens[t], t));
      spaces.push(document.createTextNode(/^ \S/.test(vocabulary[tokens[t].id]?.text) ? " " : ""));
      node.append(spaces[t], spans[t]);
    }
    for (const [t, span] of spans.entries()) {
      if (t >= kept || span.dataset.p !== String(tokens[t].p)) paint(span, tokens[t], t);
      span.dataset.p = tokens[t].p;
      span.classList.toggle("impossible", impossible !== null && t >= impossible);
    }
    shown = [...tokens];
    if (chosen >= spans.length) select(-1);
  }
  function select(t) {
    spans[chosen]?.setAttribute("aria-selected", "false");
    chosen = t;
    if (!spans[t]) return node.removeAttribute("aria-activedescendant");
    spans[t].setAttribute("aria-selected", "true");
    node.setAttribute("aria-activedescendant", spans[t].id);
  }
  return { node, show, select };
}

// Returns the legend of the colours: probabilities below the scale.
export function probabilityLegend({ words, scale }) {
  const stops = range(13).map((i) => scale.css(i / 12)).join(", ");
  const marks = TICKS.map((bits) => el("span", { style: { left: `${100 * bits / MOST_BITS}%` } },
    words.percent(2 ** -bits)));
  return el("div", { class: "legend" }, words.say("text.legend"),
    el("div", { class: "ramp", style: { background: `linear-gradient(to right, ${stops})` } }),
    el("div", { class: "ticks" }, marks));
}
