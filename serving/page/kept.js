// What the browser keeps between visits: settings, the language, the key. A browser that keeps
// nothing is served all the same. Previous: client.js.  Next: words.js.

const memory = new Map();

// Returns what was kept under a name, or a default.
export function kept(name, otherwise) {
  if (memory.has(name)) return memory.get(name);
  try {
    const text = localStorage.getItem(`gpt2.${name}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

// Keeps a value that JSON can hold.
export function keep(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(`gpt2.${name}`, JSON.stringify(value));
  } catch { /* a full or forbidden storage: the value lasts as long as the page */ }
}
