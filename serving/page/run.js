// Run: the curve of the training, its settings and its samples; it follows a run that is trained.
// Previous: compare.js.  Next: chat.js.
import { el, range } from "./xray/dom.js";
import { curveChart } from "./xray/curves.js";
import { scroller } from "./xray/bars.js";

const EVERY = 3000; // milliseconds between two looks at metrics.jsonl

export function runPage(app) {
  const { client, run, words } = app;
  const { say, number } = words;
  const status = el("p", { class: "note", role: "status" });
  const error = el("p", { class: "error", role: "alert" });
  const curves = el("div");
  const about = el("div");
  const node = el("div", { class: "panel" }, el("h2", {}, say("run.title", { name: run.name })),
    el("ul", { class: "facts" }, ["shape", "context", "vocabulary"].map((name) =>
      el("li", {}, say(`run.${name}`, { ...run, context: number(run.context_length, 0),
        vocabulary: number(run.vocab_size, 0) })))), status, error, curves, about);
  let [known, timer, isOpen, evaluations] = [-1, null, true, 0];

  async function look() {
    const name = encodeURIComponent(run.name);
    try {
      const { n, lines, max_steps: last } =
        await client.json(`/views/curve?model=${name}&known=${known}`);
      if (!isOpen) return;
      error.textContent = "";
      if (lines) showCurves(lines, last, known >= 0);
      known = n;
    } catch (problem) {
      if (problem.status) error.textContent = problem.message;
    }
    if (isOpen) timer = setTimeout(() => (document.hidden ? waitForSight() : look()), EVERY);
  }
  function waitForSight() {
    document.addEventListener("visibilitychange", look, { once: true });
  }
  function showCurves(lines, last, isGrowing) {
    if (lines.length === 0) {
      status.textContent = say("run.empty");
      return;
    }
    const newest = lines.at(-1);
    const age = say(newest.step >= last ? "run.finished"
      : isGrowing ? "run.training" : "run.unfinished");
    status.textContent = [say("run.step", { n: `${number(newest.step, 0)} / ${number(last, 0)}` }),
      age, newest.tokens_per_second && say("run.speed",
        { n: number(newest.tokens_per_second, 0) })].filter(Boolean).join(" · ");
    const charts = [["val_bits_per_byte", "train_bits_per_byte"], ["val_loss", "train_loss"],
      ["learning_rate"], ["grad_norm"]].map((names) => chartOf(app, lines, names)).filter(Boolean);
    const isOpened = curves.querySelector("details")?.open;
    curves.replaceChildren(el("div", { class: "halves charts" }, charts),
      tableOf(app, lines, isOpened) ?? "");
    const n = lines.filter((line) => "val_loss" in line).length;
    if (n > evaluations && isGrowing) showAbout(); // samples are written at evaluations
    evaluations = n;
  }
  async function showAbout() {
    let found;
    try {
      found = await client.json(`/views/about?model=${encodeURIComponent(run.name)}`);
    } catch (problem) {
      if (problem.status) error.textContent = problem.message;
      return;
    }
    const { settings, samples } = found;
    const isOpened = about.querySelector("details")?.open;
    const entries = (part) => Object.entries(settings[part]).filter(([, value]) => value !== null);
    about.replaceChildren(
      samples && el("section", { class: "card" }, el("h3", {}, say("run.samples")),
        el("pre", { class: "code", tabindex: 0 }, samples)),
      el("details", { class: "card", open: isOpened }, el("summary", {}, say("run.settings")),
        ["model", "train"].map((part) => [el("h3", {}, say(`run.${part}`)),
          el("dl", { class: "pairs" }, entries(part).map(([name, value]) =>
            el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))))])));
  }
  return {
    node,
    shown() {
      look();
      showAbout();
    },
    back: look,
    close() {
      isOpen = false;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    },
  };
}

// Returns a chart of figures that the lines have, or null where none of them has one.
function chartOf(app, lines, names) {
  const { say, number, named } = app.words;
  const rows = lines.filter((line) => line.step > 0 && names.some((name) => name in line));
  const present = names.filter((name) => rows.some((line) => name in line));
  if (present.length === 0 || rows.length < 2) return null;
  let at = rows.length - 1;
  const words = { ...app.words, part: (name) => named("metric", name), number: (value, n) =>
    number(value, n === 0 ? 0 : 3) };
  const floor = names[0] === "val_bits_per_byte"
    ? lines.find((line) => "floor_bits_per_byte" in line)?.floor_bits_per_byte : undefined;
  const chart = curveChart({ words, scale: app.scale, width: () => halfWidth(app.width()) },
    { x: rows.map(({ step }) => step), x_name: "step", log: true, floor,
      lines: present.map((name) => ({ name, values: joined(rows, name) })) },
    { label: present.map((name) => named("metric", name)).join(", "), place: () => at,
      onPlace(place) {
        const measured = range(rows.length).filter((i) => names[0] in rows[i]);
        const nearer = (best, i) => (Math.abs(i - place) < Math.abs(best - place) ? i : best);
        at = measured.reduce(nearer);
        chart.redraw();
      } });
  return el("section", { class: "card" }, el("h3", {}, say(`run.chart.${names[0]}`)), chart.node);
}

// Returns a figure of each line; evaluations are few, and a line joins them,
// straight on the axis of steps, which is logarithmic.
function joined(rows, name) {
  const scale = name === "learning_rate" ? 1000 : 1;
  const known = range(rows.length).filter((i) => name in rows[i]);
  return rows.map(({ step }, i) => {
    const [left, right] = [known.findLast((j) => j <= i), known.find((j) => j >= i)];
    if (left === undefined || right === undefined) return null;
    const [from, here, to] = [rows[left].step, step, rows[right].step].map(Math.log1p);
    const share = (here - from) / (to - from || 1);
    return scale * (rows[left][name] + share * (rows[right][name] - rows[left][name]));
  });
}

// Two charts stand side by side where there is room for them.
const halfWidth = (width) => (width > 860 ? (width - 38) / 2 : width - 22);

// Returns the figures of the evaluations as a table.
function tableOf(app, lines, isOpened) {
  const { say, number, named } = app.words;
  const rows = lines.filter((line) => "val_loss" in line);
  if (rows.length === 0) return null;
  const names = ["step", "val_loss", "val_bits_per_byte", "tokens", "seconds"]
    .filter((name) => rows.some((line) => name in line));
  const cell = (line, name) => number(line[name],
    name.startsWith("val") ? 4 : name === "seconds" ? 1 : 0);
  return el("details", { class: "card", open: isOpened }, el("summary", {}, say("run.table")),
    scroller(say("run.table"), el("table", {}, el("thead", {}, el("tr", {}, names.map((name) =>
      el("th", { scope: "col", class: "number" }, named("metric", name))))),
    el("tbody", {}, rows.map((line) => el("tr", {}, names.map((name) =>
      el("td", { class: "number" }, cell(line, name)))))))));
}
