// Strings with plural forms, on top of the X-ray's words. Previous: kept.js.  Next: completions.js.
import { makeWords } from "./xray/words.js";

// Returns the language of the address, of an earlier visit, or of the browser.
export function chosenLanguage(search, before, browser) {
  const asked = new URLSearchParams(search).get("lang");
  const known = [asked, before, browser?.slice(0, 2)];
  return known.find((name) => name === "en" || name === "ru") ?? "en";
}

// Returns the functions that write in one language; `count` chooses the form that a number takes.
export function makeLanguage(strings, language) {
  const words = makeWords(strings, language);
  const rules = new Intl.PluralRules(language);
  function count(key, n, values = {}) {
    const forms = strings[language][key];
    const text = forms[rules.select(n)] ?? forms.other;
    const all = { n: words.number(n, 0), ...values };
    return text.replace(/\{(\w+)\}/g, (mark, name) => all[name] ?? mark);
  }
  return { ...words, count };
}
