// Requests to the server that sent this page. An answer that is no success becomes a Refused with
// its sentence, no answer an Unreachable. Previous: entry.js.  Next: shell.js.
import { kept, keep } from "./kept.js";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Unreachable extends Error {}

// Returns whether an error is that of a request which was stopped on purpose.
export const isStopped = (error) => error.name === "AbortError";

// Returns the functions that ask the server; onDown is called where it does not answer, onUp where
// it does, onKey where it wants another key.
export function makeClient() {
  const client = { onDown() {}, onUp() {}, onKey() {}, ask, json, events, setKey };

  function setKey(key) {
    keep("key", key);
  }

  async function ask(path, body, signal) {
    const headers = { ...(kept("key", "") && { Authorization: `Bearer ${kept("key", "")}` }),
      ...(body && { "Content-Type": "application/json" }) };
    let answer;
    try {
      answer = await fetch(path, { method: body ? "POST" : "GET", headers, signal,
        body: body && JSON.stringify(body) });
    } catch (error) {
      throw failed(error);
    }
    client.onUp();
    if (answer.ok) return answer;
    if (answer.status === 401) client.onKey();
    throw new Refused(answer.status, await sentence(answer));
  }

  // Returns the error of a request: it was stopped, or the server is gone.
  function failed(error) {
    if (isStopped(error)) return error;
    client.onDown();
    return new Unreachable(error.message);
  }

  // Returns the JSON of an answer; with a body the request is a POST.
  async function json(path, body, signal) {
    return (await ask(path, body, signal)).json();
  }

  // Yields the JSON of each event of a stream, as soon as it is there.
  async function* events(path, body, signal) {
    const answer = await ask(path, body, signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      let piece;
      try {
        piece = await reader.read();
      } catch (error) {
        throw failed(error);
      }
      if (piece.done) throw failed(new Error("the stream ended early"));
      const lines = (rest + piece.value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Refused(event.error.code ?? 500, event.error.message);
        yield event;
      }
    }
  }
  return client;
}

// Returns the server's own words for a refusal.
async function sentence(answer) {
  try {
    const { error, detail } = await answer.json();
    return error?.message ?? (typeof detail === "string" ? detail : JSON.stringify(detail));
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}
