// Embeddings: the token vectors seen along their two strongest directions, and nearest neighbours.
import { button, clamp, el, range, replace, svg } from "./dom.js";
import { glyph, plain } from "./words.js";
import { blocks } from "./blocks.js";

const TALL = 420; // pixels of the picture
const SHAPES = "●■▲◆✚"; // of the classes, so that colour is not alone

export const embeddingsView = {
  name: "embeddings",
  build(ctx) {
    const { words, data, scale } = ctx;
    const { ids, points, classes, explained, nearest } = data.views.embeddings;
    const kinds = [...new Set(classes.filter(Boolean))];
    const place = projection(points, clamp(ctx.width(), 260, 720));
    const text = (i) => ctx.text(ids[i]);
    const dot = (kind) => (kind ? [{ style: { fill: scale.series[kinds.indexOf(kind) % 6] } },
      SHAPES[kinds.indexOf(kind) % SHAPES.length]] : [{}, "·"]);
    const named = (i) => Number(Boolean(classes[i])); // drawn over the others
    const dots = range(ids.length).sort((a, b) => named(a) - named(b)).map((i) => {
      const [look, letter] = dot(classes[i]);
      return svg("text", { class: "shape", ...place(i), ...look, on: { click: () => show(i) } },
        letter, svg("title", {}, plain(text(i))));
    });
    const front = svg("g");
    const card = el("section", { class: "card" });
    const search = el("input", { type: "search", "data-focus": "search", on: { input() {
      const wanted = search.value.trim();
      const found = range(ids.length).find((i) => text(i).text.trim() === wanted);
      if (wanted && found !== undefined) show(found);
    } } });
    function show(i) {
      const near = nearest[i].map(([id, cosine]) => [id, cosine, ids.indexOf(id)]);
      const label = (j, kind) => svg("text", { class: kind, dx: 9, ...place(j) }, plain(text(j)));
      front.replaceChildren(...near.filter(([, , j]) => j >= 0).map(([, , j]) => label(j, "near")),
        label(i, "chosen"));
      const kind = classes[i] ? ` (${words.named("class", classes[i])})` : "";
      replace(card,
        el("h3", {}, words.say("embeddings.nearest"), " ", glyph(text(i)), kind),
        el("div", { class: "lines" }, near.map(([id, cosine, j], place_) => button(
          { class: "series", disabled: j < 0, "data-focus": `near-${place_}` }, () => show(j),
          glyph(ctx.text(id)), el("b", {}, words.number(cosine))))));
    }
    function update() {
      const i = ids.indexOf(data.tokens[ctx.state.token].id);
      if (i >= 0) show(i);
      else card.replaceChildren(el("p", {}, words.say("embeddings.absent")));
    }
    const key = kinds.map((kind) => {
      const [{ style: { fill: color } }, letter] = dot(kind);
      return el("span", {}, el("b", { style: { color } }, letter), " ", words.named("class", kind));
    });
    const [first, second] = explained.map((share) => words.percent(share));
    return { update, node: el("div", {}, el("div", { class: "switches" }, key,
      el("label", {}, words.say("embeddings.search"), " ", search)),
    svg("svg", { class: "scatter", width: ctx.width(), height: TALL, role: "img",
      "aria-label": words.say("embeddings.picture") }, dots, front),
    el("p", { class: "note" }, words.say("embeddings.explained", { first, second })), card,
    blocks(ctx, data.views.embeddings).nodes) };
  },
};

// Returns place(i): where a point stands in a picture of this width, with room for its text.
function projection(points, width) {
  const along = (axis, from, to) => {
    const values = points.map((point) => point[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return (i) => from + (to - from) * (values[i] - low) / (high - low || 1);
  };
  const [x, y] = [along(0, 15, width - 90), along(1, TALL - 15, 15)];
  return (i) => ({ x: x(i).toFixed(1), y: y(i).toFixed(1) });
}
