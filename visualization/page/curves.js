// Curves over training steps or layers, in SVG. Each line has a button that says its value at the
// marked place and brings it forward; lines in front differ in dash as well as in colour.
import { button, clamp, el, range, svg } from "./dom.js";

const [WIDE, HIGH] = [760, 240]; // pixels, at most and always
const EDGE = { left: 46, right: 24, top: 14, bottom: 36 };
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 4", "12 4"];

// Returns a chart of { x, x_name, log, lines: [{ name, values }], chance or floor }.
export function curveChart(ctx, chart, { label, onPlace, place = () => chart.x.length - 1 }) {
  const { words, scale } = ctx;
  const { lines } = chart;
  const right = clamp(ctx.width() - 34, 180, WIDE) - EDGE.right;
  const level = chart.chance ?? chart.floor ?? null;
  const drawn = [...lines.flatMap((line) => line.values.filter((v) => v !== null)), level ?? 0];
  const [low, high] = [Math.min(0, ...drawn), Math.max(1e-9, ...drawn)];
  const along = (i) => (chart.log ? Math.log2(chart.x[i] + 1) : chart.x[i]);
  const [first, end] = [along(0), along(chart.x.length - 1)];
  const x = (i) => EDGE.left + (right - EDGE.left) * (along(i) - first) / (end - first || 1);
  const bottom = HIGH - EDGE.bottom;
  const y = (value) => bottom - (bottom - EDGE.top) * (value - low) / (high - low);
  const ends = lines.map((line) => Math.abs(line.values.findLast((v) => v !== null) ?? 0));
  const chosen = range(lines.length).sort((a, b) => ends[b] - ends[a]).slice(0, 4);
  const plot = svg("g");
  const buttons = lines.map((line, i) => button({ class: "series" }, () => {
    if (chosen.includes(i)) chosen.splice(chosen.indexOf(i), 1);
    else chosen.push(i);
    redraw();
  }));
  const flat = (kind, value) => svg("line", { class: kind, x1: EDGE.left, x2: right, y1: y(value),
    y2: y(value) });
  const text = (x_, y_, anchor, content) =>
    svg("text", { x: x_, y: y_, "text-anchor": anchor }, content);
  function redraw() {
    const look = (i) => {
      const at = chosen.indexOf(i) % 6;
      const style = { stroke: scale.series[at], "stroke-dasharray": DASHES[at] };
      return at < 0 ? { class: "line" } : { class: "line chosen", style };
    };
    const pen = (values, i) => (i > 0 && values[i - 1] !== null ? "L" : "M");
    const path = ({ values }) => values.map((value, i) => (value === null ? ""
      : `${pen(values, i)}${x(i).toFixed(1)} ${y(value).toFixed(1)}`)).join("");
    const back = range(lines.length).filter((i) => !chosen.includes(i));
    const at = x(place());
    plot.replaceChildren(svg("line", { class: "marker", x1: at, x2: at, y1: EDGE.top, y2: bottom }),
      ...[...back, ...chosen].map((i) => svg("path", { d: path(lines[i]), ...look(i) })));
    for (const [i, line] of lines.entries()) {
      buttons[i].setAttribute("aria-pressed", chosen.includes(i));
      buttons[i].replaceChildren(
        svg("svg", { width: 26, height: 8 }, svg("path", { d: "M0 4H26", ...look(i) })),
        words.part(line.name), el("b", {}, words.number(line.values[place()])));
    }
  }
  function click({ currentTarget, clientX }) {
    const at = clientX - currentTarget.getBoundingClientRect().left;
    const nearer = (best, i) => (Math.abs(x(i) - at) < Math.abs(x(best) - at) ? i : best);
    onPlace?.(range(chart.x.length).reduce(nearer, 0));
  }
  const labelled = range(chart.x.length).reverse().reduce((kept, i) => // 44 pixels apart
    (kept.length && x(kept.at(-1)) - x(i) < 44 ? kept : [...kept, i]), []);
  const axes = [
    range(5).map((i) => low + i / 4 * (high - low)).map((value) =>
      [flat("grid", value), text(EDGE.left - 6, y(value) + 4, "end", words.number(value))]),
    labelled.map((i) => text(x(i), HIGH - 18, "middle", words.number(chart.x[i], 0))),
    text((right + EDGE.left) / 2, HIGH - 3, "middle", words.named("column", chart.x_name)),
    level === null ? null : [flat("level", level), text(EDGE.left + 4, y(level) - 4, "start",
      words.say(chart.floor === level ? "floor" : "chance"))]];
  const picture = svg("svg", { class: "curves", width: right + EDGE.right, height: HIGH,
    role: "img", "aria-label": label, on: { click } }, axes, plot);
  redraw();
  return { redraw, node: el("div", {}, picture, el("div", { class: "lines" }, buttons)) };
}
