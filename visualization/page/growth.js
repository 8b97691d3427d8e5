// Growth: what the snapshots of the training say; and the neurons that tell a fact of the world.
import { button, el, press, replace } from "./dom.js";
import { drawSquare, openRows } from "./packed.js";
import { blocks } from "./blocks.js";
import { glyph } from "./words.js";
import { table } from "./bars.js";

export const growthView = {
  name: "growth",
  build(ctx) {
    const { words, data } = ctx;
    const view = data.views.growth;
    let step = view.steps.length - 1;
    const parts = blocks(ctx, view, { place: () => step, onPlace: go });
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

function smallMultiples(ctx, { attention, steps }, onChoose) {
  const { words, scale } = ctx;
  const canvases = steps.map(() => el("canvas", { width: 1, height: 1 }));
  const buttons = canvases.map((canvas, i) => button({ class: "thumbnail" }, () => onChoose(i),
    canvas, el("small", {}, words.number(steps[i], 0))));
  openRows(attention).then((read) => canvases.forEach((canvas, i) => {
    drawSquare(canvas, attention.shape.at(-1), 96, (t) => read(i, t).map(Math.sqrt), scale);
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
        .map(([name, digits]) => ({ label: words.say(`column.${name}`), value: (row) => row[name],
          cell: (row) => words.number(row[name], digits) }))];
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
