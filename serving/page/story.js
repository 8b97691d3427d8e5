// A story: what was written from a prompt, and the tree of its branches. A branch holds all its
// tokens from the first of the prompt on, and where it left the one it comes from.
// Previous: settings.js.  Next: text.js.
import { asRequest, lastSettings } from "./settings.js";
import { isStopped, Refused } from "./client.js";
import { readText, tokenize, writeTexts } from "./completions.js";
import { keep, kept } from "./kept.js";

const WRITTEN = { branches: [], chosen: 0, token: -1, model: "", seed: null };

// Returns the story that this tab has written before it was loaded again, or one without text.
export function newStory() {
  return { prompt: kept("prompt", ""), n: kept("n", 1), settings: lastSettings(), ...WRITTEN,
    ...kept("story", {}, true), running: null, error: "", verdicts: new Map(), changed() {} };
}

// Keeps what was written, for this tab alone.
export function keepStory(story) {
  const names = Object.keys(WRITTEN);
  keep("story", Object.fromEntries(names.map((name) => [name, story[name]])), true);
}

export const chosenBranch = (story) => story.branches[story.chosen];

function addBranch(story, branch) {
  story.branches.push({ id: story.branches.length, reason: null, ...branch });
  return story.branches.at(-1);
}

// Writes the story anew from its prompt, n times.
export function writeStory(app, story) {
  return running(app, story, async (signal) => {
    const { end_of_text: end, name } = app.run;
    const typed = await tokenize(app.client, name, story.prompt, signal);
    const ids = typed.length ? typed : [end];
    const prompt = ids.map((id) => ({ id, p: null, top: [], by: "prompt" }));
    Object.assign(story, { branches: [], chosen: 0, token: -1, model: name, verdicts: new Map() });
    for (let i = 0; i < story.n; i += 1) {
      addBranch(story, { parent: null, at: ids.length, tokens: [...prompt] });
    }
    await extend(app, story, story.branches, signal);
    const seen = ids.length > 1 ? await readText(app.client, name, ids, signal) : [];
    for (const [i, { p, top }] of seen.entries()) Object.assign(prompt[i], { p, top });
  });
}

// Goes on from another token in the place of token t of a branch.
export function takeAlternative(app, story, branch, t, [id, p]) {
  return running(app, story, async (signal) => {
    const { top } = branch.tokens[t] ?? { top: [] };
    const tokens = [...branch.tokens.slice(0, t), { id, p, top, by: "hand" }];
    const added = addBranch(story, { parent: branch.id, at: t, tokens });
    Object.assign(story, { chosen: added.id, token: t });
    if (id !== app.run.end_of_text) await extend(app, story, [added], signal);
  });
}

// Goes on at the end of a branch.
export function goOn(app, story, branch) {
  return running(app, story, (signal) => extend(app, story, [branch], signal));
}

// Stops what is being written.
export function stopStory(story) {
  story.running?.abort();
}

// Runs one task at a time; the one before it is stopped, and its error is kept for the page.
async function running(app, story, task) {
  stopStory(story);
  const controller = new AbortController();
  Object.assign(story, { running: controller, error: "" });
  story.changed();
  try {
    await task(controller.signal);
  } catch (error) {
    const isKnown = isStopped(error) || error instanceof Refused;
    if (story.running === controller && !isStopped(error)) {
      story.error = isKnown ? error.message : app.words.say("server.lost");
    }
  }
  if (story.running !== controller) return;
  story.running = null;
  story.changed();
}

async function extend(app, story, branches, signal) {
  const [{ tokens: { length } }] = branches;
  const settings = asRequest(story.settings);
  const room = app.run.context_length - length;
  if (room < 1) throw new Refused(400, app.words.say("write.full", { n: app.run.context_length }));
  settings.max_tokens = Math.min(settings.max_tokens ?? 16, room);
  if (settings.min_tokens) settings.min_tokens = Math.min(settings.min_tokens, settings.max_tokens);
  story.seed = settings.seed;
  const prompt = branches[0].tokens.map(({ id }) => id);
  for (const branch of branches) branch.reason = null;
  story.changed();
  await writeTexts(app.client, { model: story.model, prompt, settings, n: branches.length, signal },
    (index, tokens, reason) => {
      const branch = branches[index];
      for (const token of tokens) branch.tokens.push({ ...token, by: "model" });
      branch.reason = reason ?? branch.reason;
      story.changed();
    });
}

// Asks the world that a run was trained on what it thinks of a branch; null where there is none.
export async function verdictOf(app, story, branch) {
  if (!app.run.world || story.model !== app.run.name) return null;
  const tokens = branch.tokens.map(({ id }) => id);
  const key = tokens.join(" ");
  if (!story.verdicts.has(key)) {
    const body = { model: story.model, tokens };
    story.verdicts.set(key, await app.client.json("/views/verdict", body));
  }
  return story.verdicts.get(key);
}
