// Colour: one scale from the paper to the strongest, after cividis (Nuñez et al. 2018), which looks
// the same to colour-blind readers. Light pages run it backwards, so that more is always further
// from the paper; lightness alone tells the order.
import { clamp, range } from "./dom.js";

const LIGHT = {
  stops: [[0, 255, 255, 255], [0.1, 252, 243, 200], [0.3, 236, 214, 110], [0.5, 180, 167, 112],
    [0.7, 124, 123, 120], [0.85, 66, 78, 107], [1, 0, 32, 77]],
  future: [229, 231, 235], // what the causal mask hides
  series: ["#0072b2", "#c14b00", "#007a5a", "#a8457f", "#7a5c00", "#4b4b4b"],
};
const DARK = {
  stops: [[0, 28, 31, 38], [0.12, 16, 48, 96], [0.3, 58, 73, 108], [0.5, 108, 110, 116],
    [0.7, 160, 150, 118], [0.85, 212, 192, 96], [1, 255, 234, 70]],
  future: [54, 58, 66],
  series: ["#56b4e9", "#f0a35c", "#2fc49a", "#e59cc6", "#f0e442", "#d0d0d0"],
};

function mix(stops, fraction) {
  const next = Math.max(1, stops.findIndex(([place]) => place >= fraction));
  const [from, to] = [stops[next - 1], stops[next]];
  const share = (fraction - from[0]) / (to[0] - from[0]);
  return range(3).map((i) => Math.round(from[i + 1] + share * (to[i + 1] - from[i + 1])));
}

// Returns the scale of a page: colours `at` fractions, as `css`, and the `ink` that reads on them.
export function makeScale(isDark) {
  const { stops, future, series } = isDark ? DARK : LIGHT;
  const steps = range(256).map((i) => mix(stops, i / 255));
  const at = (fraction) => steps[Math.round(255 * clamp(fraction, 0, 1))];
  const css = (fraction) => `rgb(${at(fraction).join(" ")})`;
  const linear = (x) => (x <= 10 ? x / 3295 : ((x / 255 + 0.055) / 1.055) ** 2.4);
  const ink = (fraction) => {
    const [r, g, b] = at(fraction).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#10131a" : "#fff"; // equal contrast
  };
  return { at, css, ink, future, series };
}

// Returns the colour and the background of an element as style properties.
export function painted(scale, fraction) {
  return { "background-color": scale.css(fraction), color: scale.ink(fraction) };
}
