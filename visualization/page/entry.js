// The saved page: reads the data and the strings that stand in the document, and mounts the X-ray.
// The address keeps the view and the token, as in xray.html#lens/12, so that a link leads to them.
import { mount } from "./app.js";

const parse = (id) => JSON.parse(document.getElementById(id).textContent);
const [view, token] = location.hash.slice(1).split("/");

mount(document.getElementById("xray"), parse("xray-data"), parse("xray-strings"), {
  view,
  token: Number.parseInt(token, 10),
  onChange(state) {
    document.documentElement.lang = state.language;
    document.documentElement.dataset.theme = state.theme;
    document.title = state.title;
    history.replaceState(null, "", `#${state.view}/${state.token}`);
  },
});
