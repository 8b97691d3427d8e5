// Texts from the API: tokens with their probabilities, as /v1/completions streams them.
// Previous: language.js.  Next: shell.js.

const MARK = "token_id:"; // vLLM's form, which a request asks for
const idOf = (name) => Number(name.slice(MARK.length));
const N_TOP = 5; // alternatives of each token

// Returns the tokens of a choice's `logprobs`: { id, p, top }, `top` from the likeliest down.
export function tokensOf(logprobs) {
  return (logprobs?.tokens ?? []).map((name, i) => {
    const value = logprobs.token_logprobs[i];
    const top = Object.entries(logprobs.top_logprobs?.[i] ?? {})
      .map(([other, logarithm]) => [idOf(other), Math.exp(logarithm)])
      .sort((a, b) => b[1] - a[1]);
    return { id: idOf(name), p: value === null ? null : Math.exp(value), top };
  });
}

// Writes n texts; calls onTokens(index, tokens, reason) for each piece that comes.
export async function writeTexts(client, { model, prompt, settings, n = 1, signal }, onTokens) {
  const body = { model, prompt, ...settings, n, stream: true, logprobs: N_TOP,
    return_tokens_as_token_ids: true };
  for await (const { choices } of client.events("/v1/completions", body, signal)) {
    for (const { index, logprobs, finish_reason: reason } of choices) {
      onTokens(index, tokensOf(logprobs), reason);
    }
  }
}

// Returns the tokens of a text that is there, each with its probability; the first has none.
export async function readText(client, model, ids, signal) {
  const body = { model, prompt: ids, max_tokens: 0, echo: true, logprobs: N_TOP, temperature: 0,
    return_tokens_as_token_ids: true };
  const { choices } = await client.json("/v1/completions", body, signal);
  return tokensOf(choices[0].logprobs).slice(0, ids.length);
}

// Returns the ids of a text.
export async function tokenize(client, model, prompt, signal) {
  const body = { model, prompt, add_special_tokens: false };
  return (await client.json("/tokenize", body, signal)).tokens;
}
