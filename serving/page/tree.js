// The tree of branches: texts that part from each other, each under the one it left.
// Previous: alternatives.js.  Next: verdict.js.
import { button, el } from "./xray/dom.js";
import { plain } from "./xray/words.js";

// Returns the tree of a story, or null while it has one branch alone.
export function branchTree(app, story, vocabulary, onChoose) {
  const { say, count } = app.words;
  if (story.branches.length < 2) return null;
  const nameOf = (token) => (token ? plain(vocabulary[token.id] ?? { text: `#${token.id}` }) : "∅");
  function title({ id, parent, at, tokens }) {
    if (parent === null) return say("tree.sample", { n: id + 1 });
    const before = story.branches[parent].tokens[at];
    return say("tree.branch", { token: nameOf(tokens[at]), before: nameOf(before) });
  }
  function item(branch) {
    const children = story.branches.filter(({ parent }) => parent === branch.id);
    const isChosen = branch.id === story.chosen;
    return el("li", { role: "treeitem", "aria-selected": String(isChosen),
      "aria-expanded": children.length > 0 && "true" },
    button({ class: "branch", "aria-pressed": String(isChosen),
      "data-focus": `branch-${branch.id}` }, () => onChoose(branch.id),
    el("span", {}, title(branch)),
      el("small", {}, branch.parent === null ? ""
        : say("tree.at", { t: branch.at }), " ", count("tokens", branch.tokens.length))),
    children.length > 0 && el("ul", { role: "group" }, children.map(item)));
  }
  const roots = story.branches.filter(({ parent }) => parent === null);
  return el("section", { class: "card" }, el("h3", {}, say("tree.title")),
    el("ul", { class: "tree", role: "tree", "aria-label": say("tree.title"), on: {
      keydown: walk } }, roots.map(item)));
}

// Up and down move between the branches.
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const buttons = [...event.currentTarget.querySelectorAll("button")];
  const to = buttons[buttons.indexOf(event.target) + step];
  if (!to) return;
  event.preventDefault();
  to.focus();
}
