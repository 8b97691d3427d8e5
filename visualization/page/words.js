// Words: strings in the page's language, numbers as it writes them, and tokens made visible.
import { el } from "./dom.js";

const MARKS = { " ": "·", "\n": "↵", "\t": "→", "\r": "␍", "\u00a0": "⍽" };

// Returns the functions that write in one language.
export function makeWords(strings, language) {
  const texts = strings[language];
  const numbers = new Map();
  function number(value, digits = 2) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (!numbers.has(digits)) {
      const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
      numbers.set(digits, new Intl.NumberFormat(language, options));
    }
    const text = numbers.get(digits).format(value).replace("-", "\u2212");
    return /[1-9]/.test(text) ? text : text.replace("\u2212", "");
  }
  // Returns the text of a key with its {names} filled in; a missing key stands for itself.
  function say(key, values = {}) {
    const text = Object.hasOwn(texts, key) ? texts[key] : key;
    return text.replace(/\{(\w+)\}/g, (mark, name) => values[name] ?? mark);
  }
  // Returns the text of the key group.name, or the name itself where there is none.
  function named(group, name) {
    const key = `${group}.${name}`;
    return Object.hasOwn(texts, key) ? texts[key] : String(name);
  }
  // Returns the name of a part: "2.1" is a head of layer 2, "2.feedforward" a half of its block.
  function part(name) {
    const [, layer, half] = /^(\d+)\.([a-z]\w*|\d+)$/.exec(name) ?? [];
    if (half === undefined) return named(`part.${name}` in texts ? "part" : "kind", name);
    return say(/\d/.test(half) ? "head.name" : `part.${half}`, { layer, head: half });
  }
  function percent(share) {
    if (share === null || share === undefined) return "–";
    const digits = share >= 0.1 || share === 0 ? 0 : 1;
    const text = share > 0 && share < 0.001 ? `<${number(0.1, 1)}` : number(100 * share, digits);
    return `${text}${language === "ru" ? "\u00a0" : ""}%`;
  }
  const bits = (value) => say("bits", { n: number(value) });
  return { language, say, named, number, part, percent, bits };
}

// Returns a token in one line: visible spaces and line ends, or bytes where it is no character.
export function plain(token) {
  if (token.bytes) return `⟨${token.bytes.match(/../g).join(" ")}⟩`;
  return Array.from(token.text, (letter) => visible(letter)).join("") || "∅";
}

function visible(letter) {
  if (Object.hasOwn(MARKS, letter)) return MARKS[letter];
  const hidden = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Zs}\p{Co}\p{Cn}]/u.test(letter);
  return hidden ? `⟨U+${letter.codePointAt(0).toString(16).toUpperCase()}⟩` : letter;
}

// Returns a token as an element: the marks of spaces and line ends are paler than its letters.
export function glyph(token) {
  const letters = token.bytes ? [plain(token)] : plain(token).split(/([·↵→␍⍽])/);
  return el("code", { class: token.bytes ? "bytes" : "glyph" }, /^\s/.test(token.text) && el("wbr"),
    letters.map((piece, i) => (i % 2 ? el("i", {}, piece) : piece)));
}
