// Elements: text goes in as text nodes and attributes, never as HTML, so that no token is markup.

function fill(element, { on = {}, style = {}, ...attributes }, children) {
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child === 0 || child));
  return element;
}

// Returns an element. `on` holds listeners, `style` properties; null and false are left out.
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// The same in SVG.
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

// Returns a button.
export function button(attributes, click, ...children) {
  return el("button", { type: "button", ...attributes, on: { click } }, ...children);
}

// Gives an element other children; what had the focus in it has it afterwards too.
export function replace(node, ...children) {
  const { activeElement: active } = node.getRootNode();
  const name = node.contains(active) && active.dataset.focus;
  node.replaceChildren(...children);
  if (name) node.querySelector(`[data-focus="${name}"]`)?.focus();
}

// Marks the one of several elements that is pressed.
export function press(elements, chosen) {
  elements.forEach((element, i) => element.setAttribute("aria-pressed", i === chosen));
}

// Returns a group of buttons of which one is pressed; `options` are [value, text].
export function choice(label, options, chosen, onChoose) {
  const buttons = options.map(([value, text], i) => button({ "data-focus": value }, () => {
    press(buttons, i);
    onChoose(value);
  }, text));
  press(buttons, options.findIndex(([value]) => value === chosen));
  return el("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
export const range = (n) => Array.from({ length: n }, (_, i) => i);

// Returns the step of an arrow key as [across, down], or null for any other key.
export function arrow({ key, altKey, ctrlKey, metaKey }) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  return altKey || ctrlKey || metaKey ? null : steps[key] ?? null;
}
