// The page of `serve`: fetches the strings and the runs, and shows the page that the address names,
// as in /?lang=ru#compare. Previous: index.html.  Next: shell.js.
import { makeClient } from "./client.js";
import { startShell } from "./shell.js";

const LANGUAGES = ["en", "ru"];

const load = async (file) => (await fetch(file)).json();
const files = await Promise.all(LANGUAGES.flatMap((name) =>
  [load(`/page/xray/${name}.json`), load(`/page/${name}.json`)]));
const strings = { xray: {}, page: {} };
for (const [i, name] of LANGUAGES.entries()) {
  strings.xray[name] = files[2 * i];
  strings.page[name] = { ...files[2 * i], ...files[2 * i + 1] };
}
startShell(document.getElementById("page"), strings, makeClient());
