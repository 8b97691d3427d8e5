// Blocks: tables, maps, curves and sentences that a view's data bring along, drawn as they come.
import { el, range } from "./dom.js";
import { curveChart } from "./curves.js";
import { heatGrid } from "./heat.js";
import { table } from "./bars.js";

// Returns everything generic in a view's data; place() is the marked step of the curves.
export function blocks(ctx, view, { place, onPlace } = {}) {
  const { words } = ctx;
  const charts = (view.curves ?? []).map((chart) => [chart, curveChart(ctx, chart,
    { label: words.named("chart", chart.name), place, onPlace })]);
  const titled = (group, name, ...nodes) =>
    el("section", { class: "card" }, el("h3", {}, words.named(group, name)), nodes);
  return {
    nodes: [
      (view.sentences ?? []).map((it) => el("p", { class: "finding" }, it[words.language])),
      charts.map(([chart, { node }]) => titled("chart", chart.name, node)),
      (view.maps ?? []).map((map) => titled("map", map.name, mapOf(ctx, map))),
      (view.tables ?? []).map((it) => titled("table", it.name, tableOf(ctx, it))),
    ],
    redraw: () => charts.forEach(([, { redraw }]) => redraw()),
  };
}

function mapOf(ctx, { name, rows, columns, values, bottom_up: bottomUp }) {
  const most = Math.max(...values.flat(), 1e-9);
  const cell = (r, c) => {
    const value = values[r][c];
    const fraction = value === null ? null : Math.max(value, 0) / most;
    return { fraction, content: ctx.words.number(value) };
  };
  const grid = { label: ctx.words.named("map", name), rows: rows.map(ctx.words.part),
    columns: columns.map(ctx.words.part), cell, bottomUp };
  return heatGrid(ctx, grid);
}

function tableOf(ctx, { name, columns, rows }) {
  const { words } = ctx;
  const digits = (c) => (rows.every((row) => row[c] === null || Number.isInteger(row[c])) ? 0 : 3);
  const text = (value, c) => (typeof value === "string" ? words.part(value)
    : words.number(value, digits(c)));
  const column = (c) => ({ label: words.named("column", columns[c]), value: (row) => row[c],
    cell: (row) => text(row[c], c) });
  return table({ label: words.named("table", name), rows,
    columns: range(columns.length).map(column) });
}

// A view of blocks alone.
export function blockView(name) {
  const build = (ctx) => ({ node: el("div", {}, blocks(ctx, ctx.data.views[name]).nodes) });
  return { name, build };
}
