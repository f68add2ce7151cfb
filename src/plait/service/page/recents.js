// The latest runs of the server: what they were, how they went, Cancel for those that run.

import { ago, count, make, say, seconds, unseen, usd } from "./elements.js";

const STATES = { success: "done", error: "failed", timeout: "failed", running: "running", pending: "waiting", interrupted: "stopped" };
const WORDS = { pending: "waits for its turn", interrupted: "cancelled", timeout: "timed out", error: "failed", success: "done" };

// Draws the rows anew where they changed; `current` is the run that is on the page.
export function drawRecents(list, runs, { current, cancel }) {
  if (!runs.length) {
    list.replaceChildren(make("li", { className: "soft" }, "No runs yet."));
    return;
  }
  if (list.firstElementChild && !list.firstElementChild.dataset.run) list.replaceChildren();
  const known = new Map([...list.children].map((row) => [row.dataset.run, row]));
  const rows = runs.map((run) => update(known.get(run.run_id) ?? rowOf(run, cancel), run, current));
  const same = rows.length === list.children.length && rows.every((row, index) => list.children[index] === row);
  // Moving an element takes its focus away.
  if (!same) list.replaceChildren(...rows);
}

function rowOf(run, cancel) {
  const link = make("a", { href: `#/runs/${run.thread_id}/${run.run_id}` });
  link.append(make("span", { className: "state" }, ""), make("span", { className: "what" }, run.workflow));
  const stop = make("button", { type: "button", className: "cancel small" }, "Cancel", unseen(` the run of ${run.workflow}`));
  stop.addEventListener("click", async () => {
    stop.disabled = true;
    await cancel(run).catch(() => (stop.disabled = false));
  });
  const row = make("li", {}, link, stop, make("small", { className: "how" }));
  row.dataset.run = run.run_id;
  return row;
}

function update(row, run, current) {
  const [link, stop, how] = row.children;
  const goes = run.status === "running" || run.status === "pending";
  const state = run.waits ? "waiting" : (STATES[run.status] ?? "waiting");
  link.firstChild.className = `state dot ${state}`;
  if (run.run_id === current) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  stop.hidden = !goes;
  const parts = [run.waits ? "waits for an answer" : (WORDS[run.status] ?? run.status)];
  parts.push(ago(new Date(run.started_at)));
  if (!goes && run.duration_s !== null) parts.push(seconds(run.duration_s));
  if (run.usage?.calls) {
    parts.push(`${count((run.usage.input_tokens ?? 0) + (run.usage.output_tokens ?? 0))} tokens`);
  }
  if (run.cost_usd) parts.push(usd(run.cost_usd));
  say(how, parts.join(" · "));
  link.title = run.error?.message ?? "";
  return row;
}
