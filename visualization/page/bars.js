// Bars and tables: every number is written out beside its bar.
import { button, clamp, el } from "./dom.js";

// Returns bars from rows of { label, value, text, second, secondText, mark }. `most` is the longest
// bar; with `signed` they leave a middle line to the right, or to the left for negative values.
export function bars(rows, { most, signed = false }) {
  const bar = (value, kind) => {
    const share = clamp(Math.abs(value) / (most || 1), 0, 1) * (signed ? 50 : 100);
    const start = signed ? 50 - (value < 0 ? share : 0) : 0;
    const style = { left: `${start}%`, width: `${share}%` };
    return el("span", { class: `bar ${kind}${value < 0 ? " below" : ""}`, style });
  };
  return el("ol", { class: signed ? "bars signed" : "bars" }, rows.map((row) =>
    el("li", { class: row.mark ? "marked" : null },
      el("span", { class: "label" }, row.label),
      el("span", { class: "track", "aria-hidden": "true" }, bar(row.value, "first"),
        typeof row.second === "number" && bar(row.second, "second")),
      el("span", { class: "value" }, row.text,
        row.secondText && el("small", {}, row.secondText)))));
}

// Returns a region with a name that scrolls by itself where its content is too wide.
export function scroller(label, ...content) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, content);
}

// Returns a table whose heads sort it: columns are { label, title, value, cell, fraction, isText },
// three of them functions of a row; isText keeps numbers at the left. `sort` is [column, isDown].
// onRow is called for a click on a row, whose first cell is a button; `foot` is a last row.
export function table({ label, columns, rows, sort, foot, onRow, isChosen }) {
  const body = el("tbody");
  let [by, descending] = sort ?? [null, false];
  const isNumeric = ({ value, isText }) => !isText && typeof value(rows[0] ?? {}) === "number";
  const heads = columns.map((column, i) => {
    const click = () => {
      [by, descending] = [i, by === i ? !descending : typeof column.value(rows[0]) === "number"];
      fillRows();
    };
    return el("th", { scope: "col", title: column.title, class: isNumeric(column) && "number" },
      rows.length > 1 ? button({ class: "plain" }, click, column.label) : column.label);
  });
  function cellOf(row, { value, cell, fraction }, i) {
    const content = cell ? cell(row) : String(value(row) ?? "–");
    const share = fraction?.(row) ?? null;
    const kind = [isNumeric(columns[i]) && "number", share !== null && "filled"];
    const style = share === null ? {} : { "--share": `${100 * clamp(share, 0, 1)}%` };
    if (i > 0) return el("td", { class: kind.filter(Boolean).join(" "), style }, content);
    const looks = { type: "button", class: "plain", "data-focus": `row-${rows.indexOf(row)}` };
    return el("th", { scope: "row" }, onRow ? el("button", looks, content) : content);
  }
  function fillRows() {
    heads.forEach((head, i) => {
      head.ariaSort = i !== by ? "none" : descending ? "descending" : "ascending";
    });
    const value = (row) => columns[by].value(row) ?? -Infinity;
    const order = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0);
    const way = descending ? -1 : 1;
    const sorted = by === null ? rows : rows.toSorted((a, b) => way * order(a, b));
    const on = (row) => (onRow ? { click: () => onRow(row) } : {});
    body.replaceChildren(...sorted.map((row) => el("tr", { class: isChosen?.(row) ? "chosen" : null,
      on: on(row) }, columns.map((column, i) => cellOf(row, column, i)))));
  }
  fillRows();
  return scroller(label, el("table", { class: onRow ? "rows" : null }, el("thead", {},
    el("tr", {}, heads)), body,
  foot && el("tfoot", {}, el("tr", {}, foot.map((text) => el("td", {}, text))))));
}
