// Write: a prompt, its settings, the texts that the model writes, and what it could have written.
// Previous: verdict.js.  Next: xray_page.js.
import { button, el, press, replace } from "./xray/dom.js";
import { chosenBranch, goOn, stopStory, takeAlternative, verdictOf,
  writeStory } from "./story.js";
import { probabilityLegend, writtenText } from "./text.js";
import { alternatives } from "./alternatives.js";
import { branchTree } from "./tree.js";
import { keep } from "./kept.js";
import { settingsForm } from "./settings.js";
import { verdictCard } from "./verdict.js";

// Returns a page that draws itself again, once for each picture on the screen, when asked to.
export function drawn(draw) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      draw();
    });
  };
}

export function writePage(app) {
  const { story, words } = app;
  const { say } = words;
  const parts = { text: el("div"), side: el("div", { "aria-live": "polite" }), tree: el("div"),
    verdict: el("div"), error: el("p", { class: "error", role: "alert" }), facts: el("p",
      { class: "note facts-of-text", role: "status" }), actions: el("div", { class: "actions" }) };
  let [strip, vocabulary, verdict, drawnFor] = [null, null, null, ""];
  const form = promptForm(app, story, { write, stop });
  const node = el("div", { class: "columns" }, form.node, el("section", { class: "panel result",
    "aria-label": say("write.result") }, parts.error, parts.text, parts.facts, parts.actions,
  parts.side, parts.verdict, parts.tree));

  async function write() {
    if (!form.node.reportValidity()) return;
    const task = writeStory(app, story);
    if (isNarrow()) parts.text.parentElement.scrollIntoView();
    await task;
  }
  function stop() {
    stopStory(story);
  }
  function select(t) {
    story.token = t;
    draw();
  }
  function pick(t, alternative) {
    takeAlternative(app, story, chosenBranch(story), t, alternative);
  }
  function choose(id) {
    Object.assign(story, { chosen: id, token: story.branches[id].parent === null ? -1
      : story.branches[id].at });
    draw();
  }
  function newStrip() {
    strip = writtenText(app, vocabulary, { onSelect: select, label: say("write.text") });
    const count = el("div", { class: "tabs samples", role: "group",
      "aria-label": say("write.samples") });
    parts.samples = count;
    parts.text.replaceChildren(count, strip.node, probabilityLegend(app));
  }
  function showSamples() {
    const roots = story.branches.filter(({ parent }) => parent === null);
    if (roots.length < 2) return parts.samples.replaceChildren();
    const tabs = roots.map(({ id }) => button({ "data-focus": `sample-${id}` }, () => choose(id),
      say("tree.sample", { n: id + 1 })));
    let root = chosenBranch(story);
    while (root.parent !== null) root = story.branches[root.parent];
    press(tabs, roots.indexOf(root));
    return replace(parts.samples, ...tabs);
  }
  function draw() {
    const branch = chosenBranch(story);
    form.update();
    parts.error.textContent = story.error;
    if (branch && !vocabulary) return;
    if (!branch) {
      parts.text.replaceChildren(el("p", { class: "empty" }, say("write.empty")));
      for (const part of ["facts", "actions", "side", "tree", "verdict"]) {
        parts[part].replaceChildren();
      }
      strip = null;
      return;
    }
    if (!strip) newStrip();
    const key = branch.tokens.length && `${branch.id}/${branch.tokens.length}`;
    if (verdict && verdict.key !== key) verdict = null;
    strip.show(branch.tokens, { impossible: verdict?.impossible_from });
    strip.select(story.token);
    showSamples();
    showFacts(branch);
    replace(parts.side, alternatives(app, vocabulary, { tokens: branch.tokens, t: story.token,
      ideal: idealAt(story.token), onPick: pick }));
    replace(parts.tree, ...[branchTree(app, story, vocabulary, choose)].filter(Boolean));
    showVerdict(branch, key);
  }
  const idealAt = (t) => (!verdict || t < 0 ? null
    : (t === 0 ? verdict.start : verdict.top[t - 1]) ?? null);
  function showFacts(branch) {
    const written = branch.tokens.filter(({ by }) => by !== "prompt");
    const bits = written.reduce((sum, { p }) => sum - Math.log2(p || 1), 0);
    const isOver = branch.reason === "stop" || branch.tokens.at(-1).id === app.run.end_of_text;
    parts.facts.replaceChildren([words.count("tokens", written.length),
      written.length > 0 && say("write.bits", { n: words.number(bits / written.length) }),
      story.seed !== null && say("write.seed", { n: story.seed }),
      story.running ? say("write.running") : isOver ? say("write.over")
        : branch.reason === "length" ? say("write.length") : ""].filter(Boolean).join(" · "));
    const isFull = branch.tokens.length >= app.run.context_length;
    replace(parts.actions, ...(story.running || isFull || isOver ? [] : [
      button({ "data-focus": "go-on" }, () => goOn(app, story, branch), say("write.on"))]),
    button({ "data-focus": "look-inside" }, () => app.go("xray"), say("write.xray")));
  }
  async function showVerdict(branch, key) {
    if (story.running || !app.run.world) {
      if (!verdict) parts.verdict.replaceChildren();
      return;
    }
    if (drawnFor === `${key}/${story.running !== null}` && verdict) return;
    drawnFor = `${key}/${story.running !== null}`;
    try {
      const found = await verdictOf(app, story, branch);
      if (!found || chosenBranch(story) !== branch || story.running) return;
      verdict = { ...found, key };
      parts.verdict.replaceChildren(verdictCard(app, vocabulary, branch.tokens, found, select));
      draw();
    } catch (error) {
      parts.error.textContent = error.message;
    }
  }
  story.changed = drawn(draw);
  if (story.model && story.model !== app.run.name) {
    stopStory(story);
    Object.assign(story, { branches: [], chosen: 0, token: -1, error: "" });
  }
  return {
    node, write, stop,
    async shown() {
      draw();
      vocabulary = await app.vocabulary();
      draw();
    },
    close() {
      story.changed = () => {};
    },
  };
}

// Whether one column stands below the other, as on a phone.
const isNarrow = () => matchMedia("(max-width: 860px)").matches;

// The prompt with its buttons and settings.
function promptForm(app, story, { write, stop }) {
  const { say } = app.words;
  const text = el("textarea", { id: "prompt", rows: 5, "data-focus": "prompt", dir: "auto",
    placeholder: say("write.placeholder"), spellcheck: "false", on: { input() {
      story.prompt = text.value;
      keep("prompt", story.prompt);
    } } });
  text.value = story.prompt;
  const n = el("input", { id: "n", type: "number", min: 1, max: 8, step: 1, required: true,
    value: story.n, "data-focus": "n", on: { input() {
      if (!n.checkValidity()) return;
      story.n = Number(n.value);
      keep("n", story.n);
    } } });
  const go = el("button", { class: "primary", type: "submit", "data-focus": "write" },
    say("write.go"));
  const halt = button({ "data-focus": "stop" }, stop, say("write.stop"));
  const node = el("form", { class: "panel prompt", "aria-label": say("write.form"), on: {
    submit(event) {
      event.preventDefault();
      write();
    } } }, el("label", { for: "prompt" }, say("write.prompt")), text,
  el("div", { class: "actions" }, go, halt), el("details", { open: !isNarrow() },
    el("summary", {}, say("settings.title")),
    settingsForm(app, story.settings, "settings", el("div", { class: "field" },
      el("label", { for: "n" }, say("write.n")), n, el("small", {}, say("write.n.hint"))))));
  return { node, update() {
    const active = document.activeElement;
    halt.disabled = !story.running;
    if (active === halt && halt.disabled) go.focus();
  } };
}
