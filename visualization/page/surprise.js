// Surprise: the bits of each token, and what the model had expected in its place.
import { bars, table } from "./bars.js";
import { clamp, el, range } from "./dom.js";
import { glyph } from "./words.js";

const PROFILE = 120; // pixels of the profile's height

// Returns the colouring of a list of bits, or of others numbers whose largest is at least `least`:
// 0 is the paper, the largest value the strongest.
export function bitsColouring(ctx, values, title, least = 4) {
  const { number } = ctx.words;
  const most = Math.max(least, ...values.map((value) => value ?? 0));
  const ticks = [0, 0.5, 1].map((share) => [share, number(share * most, 1)]);
  const at = (t) => ((values[t] ?? null) === null ? null
    : { fraction: Math.max(values[t], 0) / most, text: number(values[t]) });
  return { title, at, ticks };
}

// Returns numbers with their names below them.
export function figures(pairs) {
  return el("dl", { class: "figures" }, pairs.map(([value, name]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

// Returns the sum of numbers of which some may be null.
export function sum(values) {
  return values.reduce((total, value) => total + (value ?? 0), 0);
}

export const surpriseView = {
  name: "surprise",
  build(ctx) {
    const { words, data } = ctx;
    const { surprise, ideal } = data.views;
    const numbers = [[words.number(surprise.total_bits, 1), words.say("surprise.total")],
      [words.number(surprise.bits_per_byte, 4), words.say("surprise.per_byte")]];
    if (ideal) numbers.push([words.number(sum(ideal.bits), 1), words.say("surprise.ideal_total")]);
    const profile = bitsProfile(ctx, surprise.bits, ideal?.bits);
    const title = (name) => el("h3", {}, words.say(`surprise.${name}`));
    const node = el("div", {}, figures(numbers), surprise.worst.length > 0 && [
      title("profile"), profile.node, title("worst"), worstTable(ctx)]);
    const colouring = bitsColouring(ctx, surprise.bits, words.say("surprise.colour"));
    return { node, update: profile.draw, colouring: () => colouring };
  },
};

function worstTable(ctx) {
  const { words, data } = ctx;
  const { surprise: { bits, worst }, alternatives, ideal } = data.views;
  const guess = (t) => alternatives.top[t - 1][0];
  const text = (t) => el("span", { class: "context" }, el("small", {}, `${t} `),
    range(3).map((i) => t - 3 + i).filter((i) => i >= 0)
      .map((i) => el("span", { class: "pale" }, glyph(data.tokens[i]))),
    glyph(data.tokens[t]));
  const columns = [
    { label: words.say("column.token"), isText: true, value: (t) => t, cell: text },
    { label: words.say("column.bits"), value: (t) => bits[t], cell: (t) => words.number(bits[t]),
      fraction: (t) => bits[t] / bits[worst[0]] },
    ideal && { label: words.say("column.ideal_bits"), value: (t) => ideal.bits[t] ?? -1,
      cell: (t) => words.number(ideal.bits[t]) },
    alternatives && { label: words.say("column.expected"), isText: true, value: (t) => guess(t)[1],
      cell: (t) => [glyph(ctx.text(guess(t)[0])), ` ${words.percent(guess(t)[1])}`] },
  ].filter(Boolean);
  return table({ label: words.say("surprise.worst"), columns, rows: worst, sort: [1, true],
    onRow: (t) => ctx.set({ token: t }) });
}

// Bars of bits; where tokens share a pixel the tallest is seen.
function bitsProfile(ctx, bits, ideal) {
  const width = clamp(ctx.width(), 200, 1200);
  const density = globalThis.devicePixelRatio ?? 1;
  const [step, last] = [width / bits.length, bits.length - 1];
  const most = Math.max(1, ...bits.map((value) => value ?? 0));
  const choose = ({ offsetX: x }) => ctx.set({ token: clamp(Math.floor(x / step), 0, last) });
  const canvas = el("canvas", { class: "profile", role: "img",
    "aria-label": ctx.words.say("surprise.profile"), width: width * density,
    height: PROFILE * density, style: { width: `${width}px`, height: `${PROFILE}px` },
    on: { click: choose } });
  function draw() {
    const brush = canvas.getContext("2d");
    const style = getComputedStyle(canvas); // asked once: for each bar it would take longest
    const [bar, accent, second] = ["--bar", "--accent", "--second"].map((name) =>
      style.getPropertyValue(name));
    brush.setTransform(density, 0, 0, density, 0, 0);
    brush.clearRect(0, 0, width, PROFILE);
    const paint = (t, colour, top, height) => {
      brush.fillStyle = colour;
      brush.fillRect(t * step, top, Math.max(step - 1, 1), height);
    };
    const height = (value) => (PROFILE - 4) * (value ?? 0) / most;
    for (const [t, value] of bits.entries()) {
      paint(t, t === ctx.state.token ? accent : bar, PROFILE - height(value), height(value));
      if (ideal?.[t]) paint(t, second, PROFILE - height(ideal[t]) - 1, 3);
    }
  }
  const note = ctx.words.say(ideal ? "surprise.profile_ideal" : "surprise.profile_model");
  return { node: el("figure", {}, canvas, el("figcaption", {}, note)), draw };
}

export const alternativesView = {
  name: "alternatives",
  build(ctx) {
    const { words, data } = ctx;
    const { temperature, top_p: topP } = data.views.alternatives;
    const how = words.say("alternatives.how",
      { temperature: words.number(temperature), p: words.number(topP ?? 1) });
    const sides = el("div", { class: "halves" });
    const node = el("div", {}, sides, el("p", { class: "note" }, how));
    function side(title, t) {
      const found = t < 0 ? null : candidates(ctx, t);
      const most = found && Math.max(...found.rows.flatMap((row) => [row.value, row.second ?? 0]));
      return el("section", { class: "card" }, el("h3", {}, words.say(`alternatives.${title}`)),
        found ? bars(found.rows, { most }) : el("p", {}, words.say("alternatives.first")),
        typeof found?.kl === "number" ? el("p", { class: "note" },
          words.say("alternatives.kl", { n: words.bits(found.kl) })) : null);
    }
    function update() {
      const { token } = ctx.state;
      const after = token === data.tokens.length - 1 ? "end" : "after";
      sides.replaceChildren(side("here", token - 1), side(after, token));
    }
    const colouring = data.views.surprise
      && bitsColouring(ctx, data.views.surprise.bits, words.say("surprise.colour"));
    return { node, update, colouring: () => colouring };
  },
};

// Returns the bars of the token after position t: the model's, and beside them the ideal ones.
function candidates(ctx, t) {
  const { words, data } = ctx;
  const { alternatives, ideal } = data.views;
  const next = data.tokens[t + 1];
  const perfect = ideal?.top[t]?.length ? new Map(ideal.top[t]) : null;
  const isWhole = perfect && sum([...perfect.values()]) > 0.999; // else more is possible
  const row = (token, p, second, mark, drawn) => ({ label: glyph(token), value: p ?? 0, mark,
    second, text: words.percent(p), secondText: [drawn >= 0 && [words.say("alternatives.drawn",
      { n: words.percent(drawn) }), el("br")],
    perfect && words.say("ideal.p", { n: words.percent(second) })] });
  const rows = alternatives.top[t].map(([id, p], i) => {
    const second = perfect?.get(ctx.text(id).text) ?? (isWhole ? 0 : null);
    perfect?.delete(ctx.text(id).text);
    return row(ctx.text(id), p, second, id === next?.id, alternatives.drawn[t][i]);
  });
  const missed = [...perfect ?? []].map(([text, p]) => row({ text }, null, p, text === next?.text));
  const isNamed = [...rows, ...missed].some((it) => it.mark);
  const bits = data.views.surprise?.bits[t + 1];
  const actual = isNamed || typeof bits !== "number" ? []
    : [row(next, 2 ** -bits, isWhole ? 0 : null, true)];
  return { rows: [...rows, ...missed, ...actual], kl: perfect && ideal.kl[t] };
}
