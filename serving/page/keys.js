// The list of keys. Previous: shell.js.  Next: write.js.
import { button, el } from "./xray/dom.js";

const KEYS = [["Ctrl + Enter", "write"], ["Esc", "stop"], ["← → ↑ ↓", "arrows"],
  ["Home / End", "ends"], ["Enter", "alternative"], ["?", "help"]];

// Returns the dialog with all keys, closed.
export function keysDialog({ words: { say } }) {
  const rows = KEYS.map(([key, name]) =>
    el("div", {}, el("dt", {}, el("kbd", {}, key)), el("dd", {}, say(`keys.${name}`))));
  const dialog = el("dialog", { "aria-label": say("keys.title") }, el("h2", {}, say("keys.title")),
    el("dl", { class: "keys" }, rows), button({ class: "primary" }, () => dialog.close(),
      say("close")));
  return dialog;
}
