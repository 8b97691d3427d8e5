// Compare: one prompt and one seed, continued by two models, two snapshots or under two settings.
// Previous: diff.js.  Next: run.js.
import { button, el } from "./xray/dom.js";
import { asRequest, lastSettings, settingsForm } from "./settings.js";
import { differences, wordsOf } from "./diff.js";
import { isStopped, Unreachable } from "./client.js";
import { keep, kept } from "./kept.js";
import { tokenize, writeTexts } from "./completions.js";
import { drawn } from "./write.js";

const SIDES = ["a", "b"];

// Returns a comparison without texts. `step` is that of a snapshot; null: the run's own weights.
export function newComparison() {
  const side = (name) => ({ name, model: null, step: null, text: "", n: 0, bits: 0, reason: null,
    settings: lastSettings(`compare-${name}`) });
  return { prompt: kept("compare-prompt", ""), seed: 1, sides: SIDES.map(side), running: null,
    error: "", changed() {} };
}

async function compare(app, comparison) {
  const { client } = app;
  comparison.running?.abort();
  const controller = new AbortController();
  Object.assign(comparison, { running: controller, error: "" });
  const empty = { text: "", n: 0, bits: 0, reason: null };
  for (const side of comparison.sides) Object.assign(side, empty);
  comparison.changed();
  const results = await Promise.allSettled(comparison.sides.map((side) =>
    writeSide(app, comparison, side, controller.signal)));
  if (comparison.running !== controller) return;
  const failed = results.map(({ reason }) => reason).find((error) => error && !isStopped(error));
  comparison.error = failed instanceof Unreachable ? app.words.say("server.lost")
    : failed?.message ?? "";
  comparison.running = null;
  comparison.changed();

  async function writeSide(_, { prompt, seed }, side, signal) {
    const run = app.runs.find(({ name }) => name === side.model);
    const vocabulary = await app.vocabulary(run.name);
    const typed = await tokenize(client, run.name, prompt, signal);
    const ids = typed.length ? typed : [run.end_of_text];
    const { stop, ...settings } = asRequest(side.settings);
    const room = Math.max(run.context_length - ids.length, 1);
    const max = Math.min(settings.max_tokens ?? 100, room);
    const bytes = [];
    const add = (id, p) => {
      if (id !== run.end_of_text) bytes.push(...bytesOf(vocabulary[id]));
      side.text = new TextDecoder().decode(new Uint8Array(bytes));
      side.n += 1;
      side.bits -= Math.log2(p);
    };
    if (side.step !== null) {
      const body = { model: run.name, step: side.step, tokens: ids, ...settings, seed,
        max_tokens: max };
      delete body.min_tokens;
      const answer = await client.json("/views/snapshot", body, signal);
      answer.tokens.forEach((id, i) => add(id, Math.exp(answer.log_probabilities[i])));
      side.reason = answer.tokens.length < max ? "stop" : "length";
      return;
    }
    await writeTexts(client, { model: run.name, prompt: ids, signal,
      settings: { ...settings, ...(stop && { stop }), seed, max_tokens: max } },
    (_index, tokens, reason) => {
      for (const { id, p } of tokens) add(id, p);
      side.reason = reason ?? side.reason;
      comparison.changed();
    });
  }
}

function bytesOf(token) {
  if (token?.bytes) return token.bytes.match(/../g).map((pair) => Number.parseInt(pair, 16));
  return new TextEncoder().encode(token?.text ?? "");
}

export function comparePage(app) {
  const { comparison, words } = app;
  const { say } = words;
  const text = el("textarea", { id: "compare-prompt", rows: 2, "data-focus": "compare-prompt",
    dir: "auto", placeholder: say("write.placeholder"), spellcheck: "false", on: { input() {
      comparison.prompt = text.value;
      keep("compare-prompt", text.value);
    } } });
  text.value = comparison.prompt;
  const seed = el("input", { id: "compare-seed", type: "number", min: 0, step: 1, required: true,
    value: comparison.seed, "data-focus": "compare-seed", on: { input() {
      if (seed.checkValidity()) comparison.seed = Number(seed.value);
    } } });
  const halt = button({ "data-focus": "stop" }, stop, say("write.stop"));
  const error = el("p", { class: "error", role: "alert" });
  const summary = el("p", { class: "note", role: "status" });
  const sides = comparison.sides.map((side) => sideCard(app, side));
  const form = el("form", { class: "panel look", on: { submit(event) {
    event.preventDefault();
    write();
  } } }, el("label", { for: "compare-prompt" }, say("write.prompt")), text,
  el("div", { class: "actions" },
    el("button", { class: "primary", type: "submit", "data-focus": "write" }, say("compare.go")),
    halt, el("label", { class: "inline" }, say("settings.seed"), seed)), summary, error);
  const node = el("div", {}, form, el("div", { class: "two" }, sides.map((side) => side.node)));

  async function write() {
    if (form.reportValidity()) await compare(app, comparison);
  }
  function stop() {
    comparison.running?.abort();
  }
  function draw() {
    halt.disabled = !comparison.running;
    error.textContent = comparison.error;
    const both = comparison.sides.map((side) => wordsOf(side.text));
    const found = comparison.running ? [null, null] : differences(...both);
    sides.forEach((side, i) => side.show(both[i], found[i]));
    const n = found[0] && found.flat().filter(Boolean).length;
    summary.textContent = n === null || !both[0].length ? ""
      : n === 0 ? say("compare.equal") : words.count("compare.differ", n);
  }
  comparison.changed = drawn(draw);
  return { node, write, stop, shown: draw, close() {
    comparison.changed = () => {};
  } };
}

// One side: its model, its snapshot, its settings and its text.
function sideCard(app, side) {
  const { say, count, number } = app.words;
  side.model = app.runs.some(({ name }) => name === side.model) ? side.model : app.run.name;
  const text = el("div", { class: "strip written compared", dir: "auto", tabindex: 0,
    role: "region", "aria-label": say(`compare.${side.name}`) });
  const facts = el("p", { class: "note" });
  const steps = el("select", { id: `step-${side.name}`, "data-focus": `step-${side.name}`, on: {
    change() {
      side.step = steps.value === "" ? null : Number(steps.value);
    } } });
  const model = el("select", { id: `model-${side.name}`, "data-focus": `model-${side.name}`, on: {
    change() {
      side.model = model.value;
      side.step = null;
      fillSteps();
    } } }, app.runs.map(({ name }) =>
    el("option", { value: name, selected: name === side.model }, name)));
  function fillSteps() {
    const { snapshots } = app.runs.find(({ name }) => name === side.model);
    const option = (step) => el("option", { value: step, selected: step === side.step },
      say("compare.step", { n: number(step, 0) }));
    steps.replaceChildren(el("option", { value: "" }, say("compare.newest")),
      ...snapshots.map(option));
    steps.disabled = snapshots.length === 0;
  }
  fillSteps();
  function show(pieces, differs) {
    text.replaceChildren(...pieces.flatMap((piece, i) => (differs?.[i]
      ? [piece.match(/^\s*/)[0], el("mark", {}, piece.trimStart())] : piece)));
    facts.textContent = side.n === 0 ? "" : [count("tokens", side.n),
      say("write.bits", { n: number(side.bits / side.n) })].join(" · ");
  }
  const node = el("section", { class: "panel", "aria-label": say(`compare.${side.name}`) },
    el("h2", {}, say(`compare.${side.name}`)), el("div", { class: "fields" },
      el("div", { class: "field" }, el("label", { for: model.id }, say("model")), model),
      el("div", { class: "field" }, el("label", { for: steps.id }, say("compare.weights")), steps)),
    text, facts, el("details", {}, el("summary", {}, say("settings.title")),
      settingsForm(app, side.settings, `compare-${side.name}`)));
  return { node, show };
}
