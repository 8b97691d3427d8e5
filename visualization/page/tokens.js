// The text: its tokens as one reads them, coloured by what the open view says about each; one of
// them is selected. A listbox for the keyboard: arrows, Home, End.
import { arrow, button, clamp, el, range } from "./dom.js";
import { glyph, plain } from "./words.js";
import { painted } from "./colour.js";

// Returns the strip of tokens: its node, `paint(colouring)` and `select(token)`.
export function tokenStrip(ctx) {
  const { tokens } = ctx.data;
  const spans = tokens.map((token, t) =>
    el("span", { role: "option", id: `xray-token-${t}`, "data-t": t }, glyph(token)));
  const node = el("div", { class: "strip", role: "listbox", tabindex: 0, "data-focus": "strip",
    "aria-label": ctx.words.say("text.label", { n: spans.length }), on: {
      click({ target }) {
        const span = target.closest("[data-t]");
        if (span) ctx.set({ token: Number(span.dataset.t) });
      },
      keydown(event) {
        const token = tokenOfKey(event, spans, ctx.state.token);
        if (token === undefined) return;
        event.preventDefault();
        ctx.set({ token: clamp(token, 0, spans.length - 1) });
      },
    } }, spans.map((span, t) => [breakBefore(tokens, t), span]));
  function paint(colouring) {
    for (const [t, span] of spans.entries()) {
      const found = colouring?.at(t) ?? null;
      const { color = "", "background-color": back = "" } =
        found ? painted(ctx.scale, found.fraction) : {};
      Object.assign(span.style, { color, backgroundColor: back });
      span.dataset.value = found?.text ?? "";
      span.title = `${t}  ${plain(tokens[t])}  ${found?.text ?? ""}`;
      span.classList.toggle("future", found?.future ?? false);
    }
  }
  function select(token) {
    for (const [t, span] of spans.entries()) span.ariaSelected = t === token;
    node.setAttribute("aria-activedescendant", spans[token].id);
    const { offsetTop: top, offsetHeight: height } = spans[token];
    const hidden = top < node.scrollTop || top + height > node.scrollTop + node.clientHeight;
    if (hidden) node.scrollTop = top - node.clientHeight / 3;
  }
  return { node, paint, select };
}

// A line may break before a word, and breaks behind the token of a line end.
function breakBefore(tokens, t) {
  if (t > 0 && tokens[t - 1].text.endsWith("\n")) return el("br");
  return /^\s/.test(tokens[t].text) ? el("wbr") : null;
}

export function tokenOfKey(event, spans, token) {
  const step = arrow(event);
  if (!step) return { Home: 0, End: spans.length - 1 }[event.key];
  if (step[0]) return token + step[0];
  const [top, left] = [spans[token].offsetTop, spans[token].offsetLeft];
  const away = (t) => step[1] * (spans[t].offsetTop - top); // pixels in the direction of the key
  const ahead = range(spans.length).filter((t) => away(t) > 8);
  const line = Math.min(...ahead.map(away));
  const distance = (t) => Math.abs(away(t) - line) * 1000 + Math.abs(spans[t].offsetLeft - left);
  return ahead.reduce((best, t) => (distance(t) < distance(best) ? t : best), ahead[0] ?? token);
}

// Returns the line that names the selected token, with buttons to the ones beside it.
export function selectedBar(ctx) {
  const { words, data: { tokens, views } } = ctx;
  const last = tokens.length - 1;
  const text = el("div", { class: "about", "aria-live": "polite" });
  const [back, on] = [["previous", -1, "◀"], ["next", 1, "▶"]].map(([name, step, sign]) =>
    button({ "aria-label": words.say(`token.${name}`), "data-focus": name },
      () => ctx.set({ token: ctx.state.token + step }), sign));
  function select(token) {
    const bits = ["surprise", "ideal"].filter((name) => views[name] && token > 0).map((name) =>
      el("span", {}, words.say(`token.${name}`, { n: words.number(views[name].bits[token]) })));
    const place = el("span", { class: "pale" }, words.say("token.place", { t: token, last }));
    text.replaceChildren(place, el("b", {}, glyph(tokens[token])), ...bits);
    [back.disabled, on.disabled] = [token === 0, token === last];
  }
  return { node: el("div", { class: "selected" }, back, text, on), select };
}

// Returns the legend of a colouring: its title, the scale, and numbers below it.
export function legend(ctx, { title, ticks }) {
  const stops = range(13).map((i) => ctx.scale.css(i / 12)).join(", ");
  const marks = ticks.map(([fraction, text]) =>
    el("span", { style: { left: `${100 * fraction}%` } }, text));
  const background = `linear-gradient(to right, ${stops})`;
  return el("div", { class: "legend" }, title, el("div", { class: "ramp", style: { background } }),
    el("div", { class: "ticks", "aria-hidden": "true" }, marks));
}
