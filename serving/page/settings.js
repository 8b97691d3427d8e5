// The settings of a text, which are those of SamplingConfig. An empty field leaves the server's own
// default. Previous: keys.js.  Next: story.js.
import { button, el } from "./xray/dom.js";
import { keep, kept } from "./kept.js";

// name, lowest, highest, step, value at first; the first four are always in sight
const FIELDS = [
  ["temperature", 0, 5, 0.1, 0.8], ["max_tokens", 1, 100000, 1, 200],
  ["top_p", 0.01, 1, 0.01, null], ["seed", 0, 2 ** 31 - 1, 1, null],
  ["top_k", 1, 100000, 1, null], ["min_p", 0, 1, 0.01, null], ["min_tokens", 0, 100000, 1, null],
  ["repetition_penalty", 0.1, 10, 0.05, null], ["presence_penalty", -2, 2, 0.1, null],
  ["frequency_penalty", -2, 2, 0.1, null],
];
const IN_SIGHT = 4;
const FIRST = { stop: "",
  ...Object.fromEntries(FIELDS.map(([name, , , , first]) => [name, first])) };
const FIRST_OF = { chat: { max_tokens: null } }; // an answer may fill the context

// Returns the settings that were used last, or the first ones; `stop` is a text of lines.
export function lastSettings(place = "settings") {
  return { ...FIRST, ...FIRST_OF[place], ...kept(place, {}) };
}

// Returns settings as a request has them: what is empty is left out, a seed is drawn for it.
export function asRequest(settings) {
  const { stop, ...numbers } = settings;
  const given = Object.entries(numbers).filter(([, value]) => value !== null);
  const stops = stop.split("\n").filter(Boolean).map((line) => line.replaceAll("\\n", "\n"));
  const seed = settings.seed ?? Math.floor(Math.random() * 1e6);
  return { ...Object.fromEntries(given), seed, ...(stops.length && { stop: stops }) };
}

// Returns the fields, perhaps with another one first; they write into `settings`, which are kept
// under the name `place`.
export function settingsForm({ words: { say } }, settings, place = "settings", first = null) {
  function field([name, min, max, step]) {
    const id = `${place}-${name}`;
    const input = el("input", { id, type: "number", min, max, step: "any", inputmode: "decimal",
      value: settings[name], "data-focus": id, "aria-describedby": `${id}-hint`,
      placeholder: say(FIRST_OF[place]?.[name] === null ? "settings.rest"
        : `settings.${name}.empty`), on: { input() {
        if (!input.checkValidity()) return;
        settings[name] = input.value === "" ? null : Number(input.value);
        keep(place, settings);
      }, change() {
        input.reportValidity();
      } } });
    if (step === 1) input.step = 1;
    return el("div", { class: "field" }, el("label", { for: id }, say(`settings.${name}`)), input,
      el("small", { id: `${id}-hint` }, say(`settings.${name}.hint`)));
  }
  const stop = el("textarea", { id: `${place}-stop`, rows: 2, "data-focus": `${place}-stop`,
    on: { input() {
      settings.stop = stop.value;
      keep(place, settings);
    } } }, settings.stop);
  const reset = button({}, () => {
    Object.assign(settings, FIRST, FIRST_OF[place]);
    keep(place, settings);
    node.replaceWith(settingsForm({ words: { say } }, settings, place, first));
  }, say("settings.reset"));
  const node = el("div", { class: "settings" },
    el("div", { class: "fields" }, first, FIELDS.slice(0, IN_SIGHT).map(field)),
    el("details", {}, el("summary", {}, say("settings.more")),
      el("div", { class: "fields" }, FIELDS.slice(IN_SIGHT).map(field)),
      el("div", { class: "field" }, el("label", { for: stop.id }, say("settings.stop")), stop,
        el("small", {}, say("settings.stop.hint"))), reset));
  return node;
}
