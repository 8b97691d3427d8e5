// The X-ray: the text, its selected token, and one view at a time. It takes the data, the strings
// and an element, and touches nothing else of the document, so that a live page can hold it too.
import { alternativesView, surpriseView } from "./surprise.js";
import { arrow, button, choice, clamp, el } from "./dom.js";
import { growthView, neuronsView } from "./growth.js";
import { legend, selectedBar, tokenStrip } from "./tokens.js";
import { attentionView } from "./attention.js";
import { attributionView } from "./attribution.js";
import { blockView } from "./blocks.js";
import { embeddingsView } from "./embeddings.js";
import { headsView } from "./heads.js";
import { idealView } from "./ideal.js";
import { lensView } from "./lens.js";
import { makeScale } from "./colour.js";
import { makeWords } from "./words.js";
import { twinView } from "./twin.js";

const VIEWS = [
  surpriseView, alternativesView, idealView, attentionView, headsView, lensView, attributionView,
  twinView, blockView("patching"), neuronsView, embeddingsView, blockView("probes"),
  blockView("steering"), growthView,
];

// Shows the X-ray in an element; options are { view, token, onChange(state) }.
export function mount(root, data, strings, options = {}) {
  const { defaultView: window } = root.ownerDocument;
  const present = VIEWS.filter(({ name }) => data.views[name]);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const token = options.token >= 0 ? options.token : data.views.surprise?.worst[0] ?? 0;
  const state = {
    view: (present.find(({ name }) => name === options.view) ?? present[0])?.name,
    token: clamp(token, 0, data.tokens.length - 1), language: data.language, theme: "auto",
    layer: null, head: null, key: null, measure: "weight", offset: 0, order: "size",
  };
  const read = new Map(data.tokens.map((it) => [it.id, it]));
  const text = (id) => data.vocabulary[id] ?? read.get(id) ?? { text: `#${id}` };
  let [page, open] = [null, null]; // what build() made, and the open view
  function build() {
    const focus = root.ownerDocument.activeElement?.dataset?.focus;
    const words = makeWords(strings, state.language);
    const panel = el("div", { class: "panel", id: "xray-panel", role: "tabpanel" });
    const scale = makeScale(state.theme === "auto" ? dark.matches : state.theme === "dark");
    const width = () => Math.max(panel.clientWidth - 42, 200);
    const ctx = { data, words, scale, state, text, set, repaint, width };
    const [strip, bar, key] = [tokenStrip(ctx), selectedBar(ctx), el("div")];
    const tabs = tabList(ctx, present);
    const numbers = el("input", { type: "checkbox", "data-focus": "numbers" });
    page = { ctx, strip, bar, tabs, key, panel };
    root.replaceChildren(pageHeader(ctx, (changes) => {
      Object.assign(state, changes);
      build();
    }), el("main", {},
      el("section", { class: "text", "aria-label": words.say("text") }, bar.node, strip.node, key,
        el("label", { class: "note" }, numbers, " ", words.say("text.numbers"))),
      el("section", { class: "views" }, tabs.node, panel)), el("footer", {}, words.say("footer")));
    openView();
    if (focus) root.querySelector(`[data-focus="${focus}"]`)?.focus();
  }
  function openView() {
    const { ctx, panel, tabs } = page;
    const view = present.find(({ name }) => name === state.view);
    const { say } = ctx.words;
    tabs.choose(state.view);
    page.width = root.clientWidth;
    open = view?.build(ctx);
    panel.replaceChildren(...(view ? [el("h2", {}, say(`view.${view.name}`)),
      el("p", { class: "claim" }, say(`${view.name}.shows`), " ",
        el("span", { class: "pale" }, say(`${view.name}.not`))), open.node] : [say("no_views")]));
    select();
  }
  function select(changes) {
    options.onChange?.({ ...state, title: page.ctx.words.say("title", data.run) });
    page.strip.select(state.token);
    page.bar.select(state.token);
    open?.update?.(changes);
    repaint();
  }
  function repaint() {
    const colouring = open?.colouring?.();
    if (page.painted === colouring) return;
    page.painted = colouring;
    page.strip.paint(colouring);
    page.key.replaceChildren(...(colouring ? [legend(page.ctx, colouring)] : []));
  }
  function set(changes) {
    const isOther = changes.view !== undefined && changes.view !== state.view;
    Object.assign(state, "token" in changes ? { key: null } : {}, changes);
    if (isOther) openView();
    else select(changes);
  }
  build();
  dark.addEventListener("change", build);
  new window.ResizeObserver(() => {
    if (Math.abs(root.clientWidth - page.width) > 8) openView();
  }).observe(root);
}

function tabList(ctx, present) {
  const { words } = ctx;
  const names = present.map(({ name }) => name);
  const tabs = names.map((name) => button({ role: "tab", id: `xray-tab-${name}`,
    "aria-controls": "xray-panel", "data-focus": name }, () => ctx.set({ view: name }),
  words.say(`view.${name}`)));
  function keydown(event) {
    const to = names.indexOf(ctx.state.view) + (arrow(event)?.[0] ?? NaN);
    if (!tabs[to]) return;
    event.preventDefault();
    ctx.set({ view: names[to] });
    tabs[to].focus();
  }
  const choose = (chosen) => tabs.forEach((tab, i) => {
    tab.ariaSelected = names[i] === chosen;
    tab.tabIndex = names[i] === chosen ? 0 : -1;
  });
  const attributes = { class: "tabs", role: "tablist", "aria-label": words.say("views") };
  return { choose, node: el("div", { ...attributes, on: { keydown } }, tabs) };
}

function pageHeader({ data: { run, tokens, text_source: source }, words, state }, change) {
  const fact = (name, n) => (typeof n === "number"
    ? el("li", {}, words.say(`run.${name}`, { n: words.number(n, 0) })) : null);
  const themes = ["auto", "light", "dark"].map((theme) => [theme, words.say(`theme.${theme}`)]);
  return el("header", {}, el("div", {}, el("h1", {}, words.say("title", run)),
    el("ul", { class: "facts" }, fact("story", source?.number), fact("tokens", tokens.length),
      fact("cut", source?.cut || null), el("li", {}, words.say("run.shape", run)),
      fact("parameters", run.parameters), fact("step", run.step))),
  el("div", { class: "switches" },
    choice(words.say("language"), [["en", "English"], ["ru", "Русский"]], state.language,
      (language) => change({ language })),
    choice(words.say("theme"), themes, state.theme, (theme) => change({ theme }))));
}
