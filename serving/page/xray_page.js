// X-ray of this text: the views of `inspect` for what was just written, or for a text typed here.
// Previous: write.js.  Next: compare.js.
import { button, el } from "./xray/dom.js";
import { chosenBranch } from "./story.js";
import { isStopped } from "./client.js";
import { mount } from "./xray/app.js";
import { tokenize } from "./completions.js";

const ON_DEMAND = ["heads", "neurons", "embeddings", "growth"]; // seconds each

// Returns the state of the page: the data of the text that was looked into last.
export function newXray() {
  return { data: null, model: "", text: "", tokens: null, view: "surprise", token: -1 };
}

export function xrayPage(app) {
  const { client, words: { say }, xray } = app;
  const branch = chosenBranch(app.story);
  const error = el("p", { class: "error", role: "alert" });
  const status = el("p", { class: "note", role: "status" });
  const place = el("div", { class: "embedded" });
  const more = el("div", { class: "actions" });
  const text = el("textarea", { id: "xray-text", rows: 3, "data-focus": "xray-text", dir: "auto",
    spellcheck: "false" });
  const node = el("div", {}, el("form", { class: "panel look", on: { submit(event) {
    event.preventDefault();
    write();
  } } }, el("label", { for: "xray-text" }, say("xray.text")), text,
  el("div", { class: "actions" }, el("button", { class: "primary", type: "submit",
    "data-focus": "look" }, say("xray.look")), more), status, error), place);
  let asked = null; // the request under way

  async function ask(views, form = "json") {
    asked?.abort();
    asked = new AbortController();
    error.textContent = "";
    status.textContent = say("xray.wait");
    const body = { model: app.run.name, tokens: xray.tokens, language: app.language, views, form };
    try {
      return await client.ask("/views/xray", body, asked.signal);
    } catch (problem) {
      if (!isStopped(problem)) error.textContent = problem.message;
      return null;
    } finally {
      status.textContent = "";
    }
  }
  async function write() {
    try {
      const known = text.value === xray.text && xray.model === app.run.name && xray.tokens;
      const tokens = known || await tokenize(client, app.run.name, text.value);
      Object.assign(xray, { tokens: tokens.length ? tokens : [app.run.end_of_text],
        text: text.value, model: app.run.name });
    } catch (problem) {
      error.textContent = problem.message;
      return;
    }
    const answer = await ask(undefined);
    if (!answer) return;
    xray.data = await answer.json();
    show();
  }
  async function add(view) {
    const answer = await ask([view]);
    if (!answer) return;
    const { views, vocabulary } = await answer.json();
    if (!views[view]) {
      error.textContent = say("xray.none", { view: app.words.named("view", view) });
      return;
    }
    Object.assign(xray.data.views, views);
    Object.assign(xray.data.vocabulary, vocabulary);
    xray.view = view;
    show();
  }
  async function save() {
    const answer = await ask(Object.keys(xray.data.views), "html");
    if (!answer) return;
    const address = URL.createObjectURL(await answer.blob());
    el("a", { href: address, download: `xray-${app.run.name}.html` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }
  function show() {
    const data = { ...xray.data, language: app.language };
    const fresh = el("div", { class: "embedded" });
    place.replaceChildren(fresh);
    mount(fresh, data, app.strings.xray, { view: xray.view, token: xray.token,
      onChange({ view, token }) {
        Object.assign(xray, { view, token });
      } });
    const offered = ON_DEMAND.filter((name) => !data.views[name]
      && (name !== "growth" || app.run.snapshots.length > 0));
    more.replaceChildren(button({ "data-focus": "save" }, save, say("xray.save")),
      ...offered.map((name) => button({ "data-focus": `add-${name}` }, () => add(name),
        say("xray.add", { view: app.words.named("view", name) }))));
  }
  return {
    node, write,
    stop() {
      asked?.abort();
    },
    async shown() {
      const vocabulary = await app.vocabulary();
      const letters = (ids) => ids.map((id) => (id === app.run.end_of_text ? ""
        : vocabulary[id]?.text ?? "")).join("");
      const written = branch && app.story.model === app.run.name && !app.story.running
        ? branch.tokens.map(({ id }) => id).slice(0, app.run.context_length) : null;
      const isOther = written && String(written) !== String(xray.source);
      if (isOther) Object.assign(xray, { source: written, tokens: written, text: letters(written),
        model: app.run.name, data: null, token: -1 });
      text.value = xray.text;
      if (xray.data && xray.model === app.run.name) show();
      else if (xray.text) write();
    },
    close() {
      asked?.abort();
    },
  };
}
