// Attribution: what each part of the model adds to the logit of a token, or to a difference of two.
import { choice, el, range, replace } from "./dom.js";
import { glyph, plain } from "./words.js";
import { bars } from "./bars.js";
import { sum } from "./surprise.js";

const N_PARTS = 16; // that are listed before the rest is one bar

export const attributionView = {
  name: "attribution",
  build(ctx) {
    const { words, data, state } = ctx;
    const { parts, candidates: all, values: found } = data.views.attribution;
    const node = el("div");
    const none = [-1, words.say("attribution.nothing")];
    function pick(name, chosen, options, onPick) {
      const change = (event) => onPick(Number(event.target.value));
      const entries = options.map(([value, text]) =>
        el("option", { value, selected: value === chosen }, text));
      return el("label", {}, words.say(name), " ",
        el("select", { "data-focus": name, on: { change } }, entries));
    }
    // Draws position t: what is added to candidate `plus`, less what is to `minus`; -1 is none.
    function draw(t, plus, minus) {
      const options = all[t].map((id, i) => [i, plain(ctx.text(id))]);
      const values = found[t][plus].map((value, i) => value - (found[t][minus]?.[i] ?? 0));
      const order = range(values.length).reverse(); // the last layer is the highest
      const bySize = state.order === "size";
      if (bySize) order.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
      const row = (label, value) => ({ label, value, text: words.number(value) });
      const listed = bySize ? order.slice(0, N_PARTS) : order;
      const rest = order.slice(listed.length);
      const rows = listed.map((i) => row(words.part(parts[i]), values[i]));
      if (rest.length) rows.push(row(words.say("attribution.rest", { n: rest.length }),
        sum(rest.map((i) => values[i]))));
      const ordered = ["size", "place"].map((it) => [it, words.say(`attribution.by_${it}`)]);
      const others = [none, ...options.filter(([i]) => i !== plus)];
      const name = (i) => glyph(ctx.text(all[t][i]));
      const key = minus < 0 ? "attribution.total" : "attribution.difference";
      replace(node,
        el("div", { class: "switches" },
          pick("attribution.for", plus, options, (i) => draw(t, i, minus === i ? -1 : minus)),
          pick("attribution.against", minus, others, (i) => draw(t, plus, i)),
          choice(words.say("attribution.order"), ordered, state.order, (order_) => {
            state.order = order_;
            draw(t, plus, minus);
          })),
        el("p", { class: "finding" }, words.say(key, { n: words.number(sum(values)) }), " ",
          name(plus), minus < 0 ? null : [" − ", name(minus)]),
        bars(rows, { most: Math.max(...rows.map((it) => Math.abs(it.value))), signed: true }));
    }
    function update() {
      const t = Math.max(state.token - 1, 0); // the position that predicts the token
      draw(t, 0, all[t].length > 1 ? 1 : -1);
    }
    return { node, update };
  },
};
