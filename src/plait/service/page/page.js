// Puts the page together: which workflow or run is shown, what is begun, what is asked for again and again.

import { ApiError, get } from "./api.js";
import { byId, make, say } from "./elements.js";
import { buildForm } from "./forms.js";
import { askForKeys } from "./keys.js";
import { drawLimits } from "./limits.js";
import { buildRun } from "./outcomes.js";
import { drawRecents } from "./recents.js";
import { begin, cancel, join, newThread } from "./streams.js";

const RECENT_S = 3;
const LIMITS_S = 2;
const TICK_MS = 200;
const MOST_KEPT = 50;

const main = byId("main");
const forms = new Map();
const runs = new Map();
const latest = new Map();
let workflows = [];
let recent = [];
let asked = 0;

// --- where we are -----------------------------------------------------------------------------------

function place() {
  const [kind, ...names] = location.hash.slice(2).split("/").map(decodeURIComponent);
  if (kind === "runs" && names.length === 2) return { thread: names[0], run: names[1] };
  const found = kind === "workflows" && workflows.find((each) => each.name === names[0]);
  return { workflow: (found || workflows[0])?.name };
}

async function show() {
  const here = place();
  if (here.run) {
    const opened = runs.get(here.run) ?? (await open(here.thread, here.run));
    // Somebody may have gone on while it was fetched.
    if (opened && place().run === here.run) put(opened.workflow, opened.view, here.run);
  } else if (here.workflow) put(here.workflow, latest.get(here.workflow)?.view, null);
  else main.replaceChildren(make("p", { className: "soft" }, "This app has no workflows: name one in langgraph.json."));
}

function put(name, view, run) {
  const form = formOf(name);
  const parts = [form?.element, view?.element].filter(Boolean);
  // What is there already stays where it is, and keeps its focus.
  for (const old of [...main.children]) if (!parts.includes(old)) old.remove();
  parts.forEach((part, index) => main.children[index] === part || main.insertBefore(part, main.children[index] ?? null));
  document.title = `${name} · plait`;
  for (const link of byId("workflows").querySelectorAll("a")) {
    if (link.dataset.name === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  drawRuns(run);
  if (run && view.element.getBoundingClientRect().top > innerHeight / 2) view.element.scrollIntoView();
}

function formOf(name) {
  const workflow = workflows.find((each) => each.name === name);
  if (workflow && !forms.has(name)) forms.set(name, buildForm(workflow, (request) => start(workflow, request)));
  return forms.get(name);
}

function refill(name, values) {
  const form = formOf(name);
  form?.fill(values);
  form?.element.scrollIntoView();
}

// --- runs -------------------------------------------------------------------------------------------

// Resolves once the run has begun; rejects where the server refuses it.
async function start(workflow, { keep, ...request }, thread = null) {
  const place = { thread: thread ?? (await newThread()), run: "" };
  const entry = { workflow: workflow.name, view: null };
  const control = new AbortController();
  entry.view = buildRun({
    workflow: workflow.name,
    nodes: workflow.nodes,
    input: request.input,
    timed: true,
    cancel: () => (place.run ? cancel(place.thread, place.run) : control.abort()),
    resume: (value) => start(workflow, { command: { resume: value }, keep }, place.thread),
    again: (values) => refill(workflow.name, values),
  });
  await new Promise((resolve, reject) => {
    const found = (run) => {
      place.run = run;
      remember(run, entry);
      latest.set(workflow.name, entry);
      location.hash = `#/runs/${place.thread}/${run}`;
      resolve();
      refreshRuns();
    };
    const options = { told: entry.view.told, found, keep, signal: control.signal };
    watch(entry, place, begin(place.thread, workflow.name, request, options)).then(resolve, (error) =>
      place.run ? entry.view.broke(error.message) : reject(error),
    );
  });
}

async function watch(entry, place, following) {
  const timer = setInterval(entry.view.tick, TICK_MS);
  try {
    await following;
    const path = `threads/${place.thread}`;
    const [record, thread] = await Promise.all([get(`${path}/runs/${place.run}`), get(path)].map(orNull));
    entry.view.finish(record, thread);
  } finally {
    clearInterval(timer);
    if (place.run) refreshRuns();
  }
}

// Those that are over can be opened again.
function remember(run, entry) {
  runs.set(run, entry);
  for (const [old, { view }] of runs) if (runs.size > MOST_KEPT && view.ended) runs.delete(old);
}

function orNull(asking) {
  return asking.catch(() => null);
}

// A run of the list: what is stored of it comes first, what happens from now on follows.
async function open(thread, run) {
  try {
    const record = await get(`threads/${thread}/runs/${run}`);
    const name = recent.find((each) => each.run_id === run)?.workflow ?? record.kwargs?.config?.configurable?.graph_id;
    const workflow = workflows.find((each) => each.name === name) ?? { name: name ?? "a run", nodes: [] };
    const control = new AbortController();
    const view = buildRun({
      workflow: workflow.name,
      nodes: workflow.nodes,
      input: record.kwargs?.input,
      timed: false,
      cancel: () => cancel(thread, run),
      resume: (value) => start(workflow, { command: { resume: value } }, thread),
      again: (values) => refill(workflow.name, values),
    });
    const entry = { workflow: workflow.name, view };
    remember(run, entry);
    const following = join(thread, run, { told: view.told, signal: control.signal });
    watch(entry, { thread, run }, following).catch((error) => view.broke(error.message));
    return entry;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    main.replaceChildren(make("p", { className: "problem" }, error.message));
    return null;
  }
}

// --- what is asked for again and again ---------------------------------------------------------------

function drawRuns(current = place().run) {
  drawRecents(byId("recents"), recent, { current, cancel: (run) => cancel(run.thread_id, run.run_id).then(refreshRuns) });
  for (const run of recent) runs.get(run.run_id)?.view.recorded(run);
}

async function refreshRuns() {
  const mine = ++asked;
  try {
    const { runs: found } = await get("runs/recent?limit=20");
    // An answer that was overtaken is older.
    if (mine === asked) recent = found;
    drawRuns();
    say(byId("connection"), "");
  } catch (error) {
    say(byId("connection"), error.status === 401 ? "" : error.message);
  }
}

async function refreshLimits() {
  if (!byId("limits-part").open) return;
  const found = await get("limits").catch(() => null);
  if (found) drawLimits(byId("limits"), found);
}

function every(seconds, refresh) {
  setInterval(() => {
    if (!document.hidden && byId("key").hidden) refresh();
  }, 1000 * seconds);
}

async function load() {
  try {
    workflows = await get("workflows");
  } catch (error) {
    say(byId("loading"), error.status === 401 ? "" : error.message);
    return;
  }
  const links = workflows.map((workflow) => {
    const link = make("a", { href: `#/workflows/${encodeURIComponent(workflow.name)}` });
    link.dataset.name = workflow.name;
    link.append(make("b", {}, workflow.name), make("small", {}, workflow.description));
    return make("li", {}, link);
  });
  byId("workflows").replaceChildren(...links);
  byId("loading").hidden = true;
  byId("frame").hidden = false;
  await Promise.all([refreshRuns(), refreshLimits()]);
  await show();
}

askForKeys(load);
byId("skip").addEventListener("click", (event) => {
  // The part behind # says what is shown.
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
byId("limits-part").addEventListener("toggle", refreshLimits);
every(RECENT_S, refreshRuns);
every(LIMITS_S, refreshLimits);
load();
