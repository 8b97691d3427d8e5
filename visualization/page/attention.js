// Attention: all heads as thumbnails, one of them large, and where the selected token looks.
import { button, choice, el, press, range } from "./dom.js";
import { drawSquare, isExact, openRows } from "./packed.js";
import { glyph, plain } from "./words.js";
import { bars, scroller } from "./bars.js";
import { largeSquare } from "./heat.js";

const THUMBNAIL = 96; // pixels that are drawn of one
const N_SEEN = 8; // tokens that are listed
const MEASURES = ["weight", "size"];
const TICKS = [0, 0.05, 0.25, 0.5, 1]; // of the legend: colour grows with the square root

export const attentionView = {
  name: "attention",
  build(ctx) {
    const { words, data, state } = ctx;
    const view = data.views.attention;
    let heads = headsOf(view, (_, t) => new Float32Array(t + 1)); // zeros, until it is unpacked
    const number = () => Math.max(0, heads.findIndex((it) =>
      it.layer === state.layer && it.head === state.head));
    const query = () => Math.max(state.token - state.offset, 0);
    const shares = (square) => (t) => heads[square].shares(t, state.measure);
    const title = el("h3");
    const readout = el("p", { class: "readout" });
    const seen = el("section", { class: "card" });
    const square = largeSquare(ctx, {
      n: view.shape[3],
      room: Math.min(ctx.width(), 480),
      label: words.say("attention.square"),
      query,
      onCell: (row, key) => ctx.set({ key: key <= row ? key : null,
        token: Math.min(row + state.offset, data.tokens.length - 1) }),
      onHover: (row, key) => say(row ?? query(), row === null ? state.key : key),
    });
    const thumbnails = thumbnailGrid(ctx, heads, (canvas, i) =>
      drawSquare(canvas, view.shape[3], THUMBNAIL, shares(i), ctx.scale));
    function say(row, key) {
      const cell = (t) => `${plain(data.tokens[t])} (${t})`;
      const kind = key === null ? "hint" : key > row ? "future" : "cell";
      const [weights, sizes] = [heads[number()].weights(row), heads[number()].sizes(row)];
      const exact = isExact(view.encoding) ? weights[key]?.toPrecision(9) : "± 1/510";
      readout.textContent = words.say(`attention.${kind}`, { from: cell(row), to: cell(key ?? 0),
        share: words.percent(weights[key]), exact, size: words.number(sizes[key]) });
    }
    function update(changes) {
      const head = heads[number()];
      if (!changes || "layer" in changes || "head" in changes) {
        title.textContent = words.say("head.name", head);
        thumbnails.choose(number());
        square.draw(shares(number()));
      }
      square.mark(query(), state.key);
      say(query(), state.key);
      seen.replaceChildren(...whereItLooks(ctx, head, query()));
    }
    function redraw(changes) {
      Object.assign(state, changes);
      thumbnails.redraw();
      update();
      ctx.repaint();
    }
    openRows(view).then((read) => {
      heads = headsOf(view, read);
      redraw();
    });
    const options = (values, names) =>
      names.map((name, i) => [values[i], words.say(`attention.${name}`)]);
    const node = el("div", {},
      view.kept_share < 1 ? el("p", { class: "note" }, words.say("attention.kept",
        { k: view.sparse.k, share: words.percent(view.kept_share) })) : null,
      el("div", { class: "switches" },
        choice(words.say("attention.measure"), options(MEASURES, MEASURES), state.measure,
          (measure) => redraw({ measure })),
        choice(words.say("attention.from"), options([0, 1], ["this", "before"]), state.offset,
          (offset) => redraw({ offset }))),
      thumbnails.node,
      el("div", { class: "large" }, el("div", {}, title, square.node, readout,
        el("p", { class: "note" }, words.say("attention.axes"))), seen));
    return { node, update, colouring: () => lookColouring(ctx, heads[number()], query()) };
  },
};

// Returns the heads: the weights of row t, their sizes, and shares of the largest for colours.
function headsOf(view, read) {
  const n_head = view.shape[1];
  return range(view.shape[0] * n_head).map((square) => {
    const [l, h] = [Math.floor(square / n_head), square % n_head];
    const norms = view.value_norms[l][h];
    const weights = (t) => read(square, t);
    const sizes = (t) => weights(t).map((weight, s) => weight * norms[s]);
    let most = null; // the largest size of this head
    const shown = (t, measure) => (measure === "size" ? sizes : weights)(t);
    const shares = (t, measure) => {
      if (measure === "weight") return weights(t).map(Math.sqrt);
      most ??= Math.max(1e-9, ...norms.map((_, i) => Math.max(...sizes(i))));
      return sizes(t).map((size) => Math.sqrt(size / most));
    };
    return { layer: view.layers[l], head: view.heads[h], weights, sizes, shown, shares };
  });
}

// The heads as buttons, the first layer lowest; draw(canvas, i) is called once one is in sight.
function thumbnailGrid(ctx, heads, draw) {
  const { words } = ctx;
  const canvases = heads.map(() => el("canvas", { width: 1, height: 1 }));
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      sight.unobserve(target);
      setTimeout(draw, 0, target, canvases.indexOf(target)); // between what else is done
    }
  });
  const buttons = heads.map(({ layer, head }, i) => button({ class: "thumbnail",
    "aria-label": words.say("head.name", { layer, head }), "data-focus": `head-${layer}-${head}` },
  () => ctx.set({ layer, head }), canvases[i]));
  const n_head = heads.findLastIndex(({ layer }) => layer === heads[0].layer) + 1;
  const lines = range(heads.length / n_head).reverse().map((l) => [
    el("span", { class: "layer" }, words.say("layer.short", heads[l * n_head])),
    buttons.slice(l * n_head, (l + 1) * n_head)]);
  const names = heads.slice(0, n_head).map(({ head }) => el("span", {}, head));
  const node = scroller(words.say("attention.heads"),
    el("div", { class: "thumbnails", style: { "--heads": n_head } }, lines,
      el("span", { class: "layer" }, words.say("head.short")), names));
  const redraw = () => canvases.forEach((canvas) => {
    sight.unobserve(canvas);
    sight.observe(canvas);
  });
  return { node, redraw, choose: (chosen) => press(buttons, chosen) };
}

function whereItLooks({ words, data, state }, head, query) {
  const [weights, shown] = [head.weights(query), head.shown(query, state.measure)];
  const isSize = state.measure === "size";
  const best = range(query + 1).sort((a, b) => shown[b] - shown[a]).slice(0, N_SEEN);
  const share = (s) => words.percent(weights[s]);
  const rows = best.map((s) => ({ label: [el("small", {}, `${s} `), glyph(data.tokens[s])],
    value: shown[s], mark: s === state.key, text: isSize ? words.number(sizes[s]) : share(s),
    secondText: isSize && share(s) }));
  return [el("h3", {}, words.say("attention.looks"), " ", glyph(data.tokens[query]), ` (${query})`),
    bars(rows, { most: shown[best[0]] })];
}

function lookColouring({ words, state: { measure } }, head, query) {
  const [shares, shown] = [head.shares(query, measure), head.shown(query, measure)];
  const write = measure === "size" ? words.number : words.percent;
  const at = (t) => (t > query ? { fraction: 0, text: "", future: true }
    : { fraction: shares[t], text: write(shown[t]) });
  const ticks = TICKS.map((share) => [Math.sqrt(share), words.percent(share)]);
  return { title: words.say(`attention.colour_${measure}`), at, ticks };
}
