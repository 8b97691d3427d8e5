// Chat: turns of a dialogue with a run that was finetuned for it. Previous: run.js.  Next: api.js.
import { button, el } from "./xray/dom.js";
import { asRequest, lastSettings, settingsForm } from "./settings.js";
import { isStopped, Unreachable } from "./client.js";
import { drawn } from "./write.js";

// Returns a dialogue without a turn.
export function newChat() {
  return { messages: [], model: "", running: null, error: "", typed: "", changed() {},
    settings: lastSettings("chat") };
}

async function answer(app, chat) {
  chat.running?.abort();
  const controller = new AbortController();
  Object.assign(chat, { running: controller, error: "" });
  const said = chat.messages.map(({ role, content }) => ({ role, content }));
  const reply = { role: "assistant", content: "", isCut: false };
  chat.messages.push(reply);
  chat.changed();
  const settings = asRequest(chat.settings);
  try {
    const body = { model: chat.model, messages: said, ...settings, stream: true };
    for await (const { choices } of app.client.events("/v1/chat/completions", body,
      controller.signal)) {
      for (const { delta, finish_reason: reason } of choices) {
        reply.content += delta?.content ?? "";
        reply.isCut = reason === "length";
      }
      chat.changed();
    }
  } catch (error) {
    reply.isCut = true;
    if (!isStopped(error)) {
      chat.error = error instanceof Unreachable ? app.words.say("server.lost") : error.message;
    }
  }
  if (!reply.content.trim()) chat.messages.splice(chat.messages.indexOf(reply), 1);
  if (chat.running === controller) chat.running = null;
  chat.changed();
}

export function chatPage(app) {
  const { chat, words: { say } } = app;
  const offered = app.runs.filter((run) => run.has_chat);
  const model = (app.run.has_chat ? app.run : offered[0]).name;
  if (chat.model !== model) Object.assign(chat, { model, messages: [], error: "" });
  const log = el("ol", { class: "turns", role: "log", "aria-label": say("chat.log"), tabindex: 0 });
  const error = el("p", { class: "error", role: "alert" });
  const text = el("textarea", { id: "question", rows: 2, "data-focus": "question", dir: "auto",
    placeholder: say("chat.placeholder"), on: { input() {
      chat.typed = text.value;
    } } });
  text.value = chat.typed;
  const halt = button({ "data-focus": "stop" }, stop, say("write.stop"));
  const fresh = button({ "data-focus": "fresh" }, () => {
    stop();
    Object.assign(chat, { messages: [], error: "" });
    draw();
    text.focus();
  }, say("chat.fresh"));
  const node = el("div", { class: "columns" },
    el("section", { class: "panel result" }, el("h2", {}, say("chat.title", { name: model })), log,
      error, el("form", { on: { submit(event) {
        event.preventDefault();
        write();
      } } }, el("label", { for: "question" }, say("chat.question")), text,
      el("div", { class: "actions" }, el("button", { class: "primary", type: "submit",
        "data-focus": "send" }, say("chat.send")), halt, fresh))),
    el("section", { class: "panel prompt", "aria-label": say("settings.title") },
      el("h2", {}, say("settings.title")), settingsForm(app, chat.settings, "chat")));

  function write() {
    const content = text.value.trim();
    if (!content || chat.running) return;
    chat.messages.push({ role: "user", content });
    chat.typed = "";
    text.value = "";
    answer(app, chat);
  }
  function stop() {
    chat.running?.abort();
  }
  function draw() {
    halt.disabled = !chat.running;
    fresh.disabled = chat.messages.length === 0;
    error.textContent = chat.error;
    const turns = chat.messages.map(({ role, content, isCut }) => el("li", { class: role },
      el("b", {}, say(`chat.${role}`)), el("p", {}, content || "…"),
      isCut && el("small", {}, say("chat.cut"))));
    log.replaceChildren(...(turns.length ? turns : [el("li", { class: "empty" },
      say("chat.empty"))]));
    log.scrollTop = log.scrollHeight;
  }
  chat.changed = drawn(draw);
  return { node, write, stop, shown: draw, close() {
    chat.changed = () => {};
  } };
}
