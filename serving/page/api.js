// API: lines to copy, with this server's address and this model. Previous: chat.js.
// Next: page.css.
import { button, el } from "./xray/dom.js";
import { kept } from "./kept.js";

const quoted = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

// Returns the examples as [name, lines].
function examples({ name, has_chat: hasChat }, origin, hasKey) {
  const header = hasKey ? ' \\\n  -H "Authorization: Bearer $KEY"' : "";
  const body = JSON.stringify({ model: name, prompt: "Once upon a time", max_tokens: 50 });
  const model = `model=${quoted(name)}`;
  const open = ["from openai import OpenAI", "", `client = OpenAI(base_url="${origin}/v1", `
    + `api_key=${hasKey ? 'open("key").read().strip()' : '"none"'})`];
  const text = `${model}, prompt="Once upon a time", max_tokens=50`;
  const whole = hasChat
    ? ['messages = [{"role": "user", "content": "Who are you?"}]',
      `answer = client.chat.completions.create(${model}, messages=messages)`,
      "print(answer.choices[0].message.content)"]
    : [`answer = client.completions.create(${text})`, "print(answer.choices[0].text)"];
  const parts = [`for part in client.completions.create(${text}, seed=1, stream=True):`,
    '    print(part.choices[0].text, end="", flush=True)'];
  return [
    ["curl", `curl ${origin}/v1/completions${header} \\\n  -H "Content-Type: application/json" `
      + `\\\n  -d '${body}'`],
    ["openai", [...open, ...whole].join("\n")],
    ["stream", [...open, ...parts].join("\n")],
    ["llm", `llm openai endpoint ${origin}/v1 -m ${name}${hasKey ? ' --key "$KEY"' : ""} `
      + '"Once upon a time"'],
    ["harness", "lm_eval --model local-completions --tasks lambada_openai \\\n  --model_args "
      + `model=${name},base_url=${origin}/v1/completions,tokenizer_backend=remote`],
  ];
}

export function apiPage(app) {
  const { say } = app.words;
  const status = el("p", { class: "note", role: "status" });
  const shown = examples(app.run, location.origin, Boolean(kept("key", "")));
  const blocks = shown.map(([name, lines]) => {
    const code = el("pre", { class: "code", tabindex: 0, "aria-label": say(`api.${name}`) }, lines);
    const copy = button({ "data-focus": `copy-${name}` }, async () => {
      const isCopied = await copied(lines, code);
      const what = { name: say(`api.${name}`) };
      status.textContent = say(isCopied ? "api.copied" : "api.marked", what);
    }, say("api.copy"));
    return el("section", { class: "card" }, el("div", { class: "actions" },
      el("h3", {}, say(`api.${name}`)), copy), code);
  });
  return { node: el("div", { class: "panel" }, el("h2", {}, say("page.api")),
    el("p", { class: "claim" }, say("api.claim", { origin: location.origin, name: app.run.name })),
    status, blocks) };
}

// Copies a text; where the browser does not allow it, as on an address without TLS, marks it.
async function copied(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return false;
  }
}
