// Growth: what the snapshots of the training say; and the neurons that tell a fact of the world.
import { button, el, press, replace } from "./dom.js";
import { drawSquare, openRows } from "./packed.js";
import { blocks } from "./blocks.js";
import { glyph } from "./words.js";
import { numberColumn, table } from "./bars.js";

export const growthView = {
  name: "growth",
  build(ctx) {
    const { words, data } = ctx;
    const view = data.views.growth;
    let step = view.steps.length - 1;
    const parts = blocks(ctx, growthBlocks(view, words), { place: () => step, onPlace: go });
    const squares = view.attention ? smallMultiples(ctx, view, go) : null;
    const output = el("output");
    const slider = el("input", { type: "range", min: 0, max: step, "data-focus": "step",
      on: { input: (event) => go(Number(event.target.value)) } });
    function go(i) {
      step = i;
      slider.value = i;
      output.textContent = words.say("growth.at", { step: words.number(view.steps[i], 0) });
      slider.setAttribute("aria-valuetext", output.textContent);
      parts.redraw();
      squares?.choose(i);
    }
    go(step);
    return { node: el("div", {}, el("label", { class: "slider" }, words.say("growth.step"), slider,
      output), parts.nodes, squares?.node) };
  },
};

// Returns the curves and tables of what was measured on every snapshot.
function growthBlocks({ steps, bits_per_byte, floor, heads, chance, kinds, lens }, words) {
  const chart = (name, lines, more) =>
    ({ name, x: steps, x_name: "step", log: true, lines, ...more });
  const kind = (it) => words.named("kind", it.kind);
  const perToken = (it) => it.regret.map((bits) => bits * it.n / it.n_tokens);
  const curves = [
    chart("bits_per_byte", [{ name: words.say("part.model"), values: bits_per_byte }], { floor }),
    ...Object.entries(heads).map(([name, values]) => chart(name, values[0].flatMap((layer, l) =>
      layer.map((_, h) => ({ name: `${l}.${h}`, values: values.map((at) => at[l][h]) }))),
    { chance: chance[name] })),
    chart("lens", lens.depths.map((name, d) =>
      ({ name, values: lens.kl_to_end.map((at) => at[d]) }))),
  ];
  if (!kinds.length) return { curves };
  curves.push(chart("regret", kinds.map((it) => ({ name: kind(it), values: perToken(it) }))));
  const columns = ["kind", "learned_at", "ideal_bits", "regret", "n"];
  const rows = kinds.map((it) => [kind(it), it.learned_at, it.ideal_bits, it.regret.at(-1), it.n]);
  return { curves, tables: [{ name: "learned", columns, rows }] };
}

function smallMultiples(ctx, { attention, steps }, onChoose) {
  const { words, scale } = ctx;
  const canvases = steps.map(() => el("canvas", { width: 1, height: 1 }));
  const buttons = canvases.map((canvas, i) => button({ class: "thumbnail" }, () => onChoose(i),
    canvas, el("small", {}, words.number(steps[i], 0))));
  openRows(attention).then((read) => canvases.forEach((canvas, i) => {
    const shares = (t) => Float32Array.from(read(i, t), (byte) => Math.sqrt(byte / 255));
    drawSquare(canvas, attention.shape.at(-1), 96, shares, scale);
  }));
  return { choose: (chosen) => press(buttons, chosen), node: el("section", { class: "card" },
    el("h3", {}, words.say("growth.attention"), " ", words.part(attention.head)),
    el("div", { class: "multiples" }, buttons)) };
}

export const neuronsView = {
  name: "neurons",
  build(ctx) {
    const { words } = ctx;
    const { found, contexts } = ctx.data.views.neurons;
    const box = el("div");
    const fact = (row) => words.named("predicate", row.predicate);
    const columns = [{ label: words.say("column.predicate"), value: fact },
      ...[["share", 3], ["layer", 0], ["neuron", 0], ["auc", 3], ["shuffled", 3]]
        .map(([name, digits]) => numberColumn(words, name, digits))];
    const context = ({ ids, at, value }) => el("li", { class: "context" },
      el("b", {}, words.number(value)), " ", ids.map((id, i) =>
        el(i === at ? "mark" : "span", {}, glyph(ctx.text(id)))));
    function choose(chosen) {
      const places = chosen ? contexts[`${chosen.layer}.${chosen.neuron}`] : [];
      replace(box, table({ label: words.say("neurons.table"), rows: found, columns,
        sort: [4, true], onRow: choose, isChosen: (row) => row === chosen }),
      el("h3", {}, words.say("neurons.contexts", chosen ?? {})),
      el("ol", { class: "plain" }, places.map(context)));
    }
    choose(found[0]);
    return { node: box };
  },
};
