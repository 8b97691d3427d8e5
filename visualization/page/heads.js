// Heads: scores beside their chance levels.
import { el } from "./dom.js";
import { table } from "./bars.js";

const SCORES = ["previous", "duplicate", "induction", "sink", "entropy", "copying", "fact"];

export const headsView = {
  name: "heads",
  build(ctx) {
    const { words, data, state } = ctx;
    const { rows, chance = {} } = data.views.heads;
    const label = words.say("heads.scores");
    const scores = SCORES.filter((name) => rows.some((row) => typeof row[name] === "number"));
    const help = (name) => words.say(`head.${name}.help`);
    const head = { label: words.say("column.head"), value: (row) => 1000 * row.layer + row.head,
      cell: (row) => `${row.layer}.${row.head}` };
    const columns = [head, ...scores.map((name) => ({
      label: words.say(`head.${name}`), title: help(name), value: (row) => row[name],
      cell: (row) => words.number(row[name]),
      fraction: name === "entropy" ? undefined : (row) => row[name] }))];
    const foot = [words.say("chance"), ...scores.map((name) => words.number(chance[name]))];
    const onRow = data.views.attention
      ? ({ layer, head: h }) => ctx.set({ layer, head: h, view: "attention" }) : undefined;
    const isChosen = (row) => row.layer === state.layer && row.head === state.head;
    return { node: el("div", {}, table({ label, columns, rows, foot, onRow, isChosen }),
      el("dl", { class: "help" }, scores.map((name) => el("div", {},
        el("dt", {}, words.say(`head.${name}`)), el("dd", {}, help(name)))))) };
  },
};
