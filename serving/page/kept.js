// What the browser keeps between visits: settings, the language, the key; and the text of a tab
// while it is open. A browser that keeps nothing is served all the same.
// Previous: client.js.  Next: language.js.

const memory = new Map();
const place = (isOfTab) => (isOfTab ? sessionStorage : localStorage);

// Returns what was kept under a name, or a default; `isOfTab` means what this tab alone keeps.
export function kept(name, otherwise, isOfTab = false) {
  if (memory.has(name)) return memory.get(name);
  try {
    const text = place(isOfTab).getItem(`gpt2.${name}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

// Keeps a value that JSON can hold.
export function keep(name, value, isOfTab = false) {
  memory.set(name, value);
  try {
    place(isOfTab).setItem(`gpt2.${name}`, JSON.stringify(value));
  } catch { /* a full or forbidden storage: the value lasts as long as the page */ }
}
