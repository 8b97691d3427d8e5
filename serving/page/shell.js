// The frame: header, the chosen page, the keys that work everywhere, and the server's absence.
// Previous: completions.js.  Next: write.js.
import { button, choice, el } from "./xray/dom.js";
import { chosenLanguage, makeLanguage } from "./language.js";
import { keep, kept } from "./kept.js";
import { apiPage } from "./api.js";
import { chatPage, newChat } from "./chat.js";
import { comparePage, newComparison } from "./compare.js";
import { keysDialog } from "./keys.js";
import { makeScale } from "./xray/colour.js";
import { keepStory, newStory } from "./story.js";
import { writePage } from "./write.js";
import { runPage } from "./run.js";
import { newXray, xrayPage } from "./xray_page.js";

const PAGES = { write: writePage, xray: xrayPage, compare: comparePage, run: runPage,
  chat: chatPage, api: apiPage };
const RETRY = 1000; // milliseconds between two looks whether the server is back

// Starts the page in an element.
export async function startShell(root, strings, client) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const vocabularies = new Map();
  const app = { client, strings, runs: [], run: null, go, rebuild, vocabulary, setRun };
  let [open, frame, waiting] = [null, null, null];
  app.language = chosenLanguage(location.search, kept("language"), navigator.language);

  // Returns what each token of a model stands for.
  function vocabulary(name = app.run.name) {
    if (!vocabularies.has(name)) {
      const asked = client.json(`/views/vocabulary?model=${encodeURIComponent(name)}`);
      asked.catch(() => vocabularies.delete(name));
      vocabularies.set(name, asked);
    }
    return vocabularies.get(name);
  }
  function pageName() {
    const name = location.hash.slice(1);
    return Object.hasOwn(PAGES, name) && isOffered(name) ? name : "write";
  }
  const isOffered = (name) => name !== "chat" || app.runs.some((run) => run.has_chat);
  function go(name) {
    location.hash = name;
  }
  function setRun(name) {
    app.run = app.runs.find((run) => run.name === name) ?? app.runs[0];
    keep("run", app.run.name);
    rebuild();
  }
  function setLanguage(language) {
    app.language = language;
    keep("language", language);
    const address = new URL(location);
    address.searchParams.set("lang", language);
    history.replaceState(null, "", address);
    rebuild();
  }
  function rebuild() {
    const focus = document.activeElement?.dataset?.focus;
    app.words = makeLanguage(strings.page, app.language);
    app.scale = makeScale(dark.matches);
    const { say } = app.words;
    document.documentElement.lang = app.language;
    const name = pageName();
    document.title = `${say(`page.${name}`)} · ${app.run.name}`;
    open?.close?.();
    const main = el(name === "xray" ? "div" : "main", { class: `live ${name}`, id: "content" });
    frame = { main, banner: el("div", { class: "banner", role: "alert", hidden: true }) };
    app.width = () => Math.max(main.clientWidth - 60, 240);
    root.replaceChildren(header(app, name, isOffered, setLanguage), frame.banner, main,
      keysDialog(app));
    open = PAGES[name](app);
    main.replaceChildren(open.node);
    open.shown?.();
    if (waiting) showDown();
    if (focus) root.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus();
  }
  function showDown() {
    frame.banner.hidden = false;
    frame.banner.replaceChildren(app.words.say("server.gone"));
  }
  client.onDown = () => {
    if (waiting) return;
    waiting = setInterval(async () => {
      try {
        if ((await fetch("/health")).ok) client.onUp();
      } catch { /* it is still gone */ }
    }, RETRY);
    if (frame) showDown();
  };
  client.onUp = () => {
    if (!waiting) return;
    clearInterval(waiting);
    waiting = null;
    if (frame) frame.banner.hidden = true;
    open?.back?.();
  };
  client.onKey = () => askKey(root, app, start);

  async function start() {
    app.words = makeLanguage(strings.page, app.language);
    try {
      app.runs = await client.json("/views/runs");
    } catch (error) {
      if (error.status !== 401) root.replaceChildren(el("p", { class: "banner" }, error.message));
      return;
    }
    app.run = app.runs.find((run) => run.name === kept("run")) ?? app.runs[0];
    Object.assign(app, { story: newStory(), xray: newXray(), comparison: newComparison(),
      chat: newChat() });
    rebuild();
  }
  addEventListener("hashchange", rebuild);
  addEventListener("pagehide", () => app.story && keepStory(app.story));
  dark.addEventListener("change", rebuild);
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && open?.write) {
      event.preventDefault();
      open.write();
    } else if (event.key === "Escape") open?.stop?.();
    else if (event.key === "?" && !event.target.closest?.("input, textarea, select")) {
      root.querySelector("dialog")?.showModal();
    }
  });
  await start();
}

function header(app, page, isOffered, setLanguage) {
  const { say } = app.words;
  const links = Object.keys(PAGES).filter(isOffered).map((name) =>
    el("a", { href: `#${name}`, "aria-current": name === page && "page" }, say(`page.${name}`)));
  const names = app.runs.map(({ name }) =>
    el("option", { value: name, selected: name === app.run.name }, name));
  const model = el("select", { id: "model", "data-focus": "model",
    on: { change: ({ target }) => app.setRun(target.value) } }, names);
  return el("header", { class: "top" },
    el("a", { class: "skip", href: "#content", on: { click(event) {
      event.preventDefault();
      document.getElementById("content").querySelector("textarea, button, a, [tabindex]")?.focus();
    } } }, say("skip")),
    el("h1", { class: "hidden" }, say("title.page", { name: app.run.name })),
    el("label", { class: "model" }, el("span", { class: "hidden" }, say("model")), model),
    el("nav", { "aria-label": say("pages") }, links),
    el("div", { class: "switches" },
      choice(say("language"), [["en", "EN"], ["ru", "РУ"]], app.language, setLanguage),
      button({ "aria-label": say("keys.title"), title: say("keys.title"), class: "round",
        "data-focus": "keys" }, () => document.querySelector("dialog").showModal(), "?")));
}

// Asks for the key of the server, where it wants one.
function askKey(root, app, done) {
  const { say } = app.words;
  const input = el("input", { type: "password", autocomplete: "current-password", required: true,
    id: "key" });
  const form = el("form", { class: "panel key", on: { submit(event) {
    event.preventDefault();
    app.client.setKey(input.value.trim());
    done();
  } } }, el("label", { for: "key" }, say("key.ask")), input,
  el("button", { class: "primary" }, say("key.go")));
  root.replaceChildren(el("main", { class: "live" }, form));
  input.focus();
}
