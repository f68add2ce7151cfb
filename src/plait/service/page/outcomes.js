// One run on the page: what it streams, its nodes, what it waits for, how it ended.

import { badge, count, elapsed, make, many, say, seconds, shown, usd } from "./elements.js";
import { buildInterrupts } from "./interrupts.js";
import { buildNodes, pathOf } from "./nodes.js";
import { buildPanes } from "./panes.js";

const TONES = { success: "good", error: "bad", timeout: "bad", running: "busy", pending: "calm", interrupted: "calm" };
const PANES = { finished: "done", failed: "failed", interrupted: "stopped" };
const ENDINGS = { success: "done", error: "failed", timeout: "failed", interrupted: "stopped" };

// `timed`: the page began it, so its times are known here. `cancel`, `resume` and `again` are what the buttons do.
export function buildRun({ workflow, nodes: names, input, timed, cancel, resume, again }) {
  const status = make("span", { role: "status" });
  const [time, usage] = [make("span", { className: "soft" }), make("span", { className: "soft" })];
  const stop = make("button", { type: "button", className: "cancel" }, "Cancel");
  const copy = make("button", { type: "button", className: "small" }, "Copy JSON");
  const bar = make("div", { className: "bar" }, make("h2", {}, workflow), status, time, usage, stop);
  const problem = make("div", { className: "problem", role: "alert", hidden: true });
  const waits = make("div", {});
  const panes = buildPanes();
  const nodes = buildNodes(names, timed);
  const results = make("section", { className: "results", hidden: true });
  results.setAttribute("aria-label", "Results");
  const inputs = make("details", { className: "given", hidden: true }, make("summary", {}, "Inputs"));
  const parts = [bar, nodes.strip, problem, waits, panes.element, results, inputs, nodes.element];
  const element = make("section", { className: "run" }, ...parts);
  element.setAttribute("aria-label", `Run of ${workflow}`);

  const began = performance.now();
  let [stated, over, tells] = ["interrupted", false, false];
  const it = { element, status: "pending", outputs: undefined, ended: false, error: null };
  give(input);
  draw();

  stop.addEventListener("click", async () => {
    stop.disabled = true;
    say(stop, "Cancelling");
    try {
      await cancel();
    } catch (error) {
      fail({ message: error.message });
      stop.disabled = false;
      say(stop, "Cancel");
    }
  });
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(JSON.stringify(it.outputs, null, 2));
    say(copy, "Copied");
  });

  function give(values) {
    if (values === undefined || values === null) return;
    inputs.hidden = false;
    const reuse = make("button", { type: "button", className: "small" }, "Use these again");
    reuse.addEventListener("click", () => again(values));
    inputs.replaceChildren(inputs.firstChild, shown(values), reuse);
  }

  function draw() {
    const stopped = waits.firstChild ? "waiting for an answer" : it.ended ? "cancelled" : "interrupted";
    const word = it.status === "interrupted" ? stopped : it.status;
    if (status.textContent !== word) status.replaceChildren(badge(word, waits.firstChild ? "busy" : TONES[it.status] ?? "calm"));
    stop.hidden = it.ended || over;
    if (!stop.hidden && timed) say(time, elapsed((performance.now() - began) / 1000));
  }

  function fail({ error, message }) {
    it.error = message;
    problem.hidden = false;
    problem.replaceChildren(make("p", {}, message || "It failed and does not say why: look at the server's log."));
    if (error) problem.append(make("small", {}, error));
  }

  function result(outputs) {
    it.outputs = outputs;
    results.hidden = outputs === undefined || outputs === null;
    // Browsers have no clipboard for pages that came over plain HTTP from elsewhere.
    const tools = navigator.clipboard ? copy : null;
    if (!results.hidden) results.replaceChildren(make("header", {}, make("h3", {}, "Results"), tools ?? ""), shown(outputs));
  }

  function consumed(found, cost) {
    if (!found || !found.calls) return;
    const cached = found.cached_tokens ? ` (${count(found.cached_tokens)} cached)` : "";
    const parts = [many(found.calls, "model call")];
    const counted = found.input_tokens || found.output_tokens;
    if (counted) parts.push(`${count(found.input_tokens)}${cached} tokens read`);
    if (counted) parts.push(`${found.estimated ? "about " : ""}${count(found.output_tokens)} written`);
    else parts.push("cut off before their tokens were counted");
    const again = found.attempts - found.calls;
    if (again > 0) parts.push(many(again, "retry").replace("retrys", "retries"));
    if (found.replayed_calls) parts.push(`${found.replayed_calls} replayed`);
    if (counted && cost !== null && cost !== undefined) parts.push(usd(cost));
    say(usage, parts.join(" · "));
  }

  function ours(value) {
    const { type, branch = "", label } = value;
    if (type === "token") {
      nodes.note(branch, "token");
      panes.token(value);
    } else if (type === "node") {
      nodes.note(branch || value.node, value.state);
      if (value.state !== "started") panes.end(branch, PANES[value.state]);
    } else if (type === "update") {
      nodes.note(branch || value.node, "finished");
      panes.end(branch, "done");
    } else if (type === "custom") panes.note({ branch, label: label || pathOf(branch), data: value.data });
    else if (type === "usage") consumed(value.usage);
    else if (type === "error") fail(value);
    else if (type === "end") {
      it.status = stated = value.status;
      over = true;
      if (value.outputs !== null) result(value.outputs);
      consumed(value.usage);
      nodes.times(value.timings ?? {});
      if (value.duration_s !== undefined) say(time, seconds(value.duration_s));
    }
  }

  it.told = (event, value) => {
    if (it.status === "pending") it.status = "running";
    tells ||= event === "plait";
    if (event === "plait") ours(value);
    else if (event === "values") result(value);
    else if (event === "error") fail(value);
    draw();
  };
  it.tick = () => {
    draw();
    nodes.tick();
  };
  // `record` is the run as the server has it, `thread` what it left; both null where the server cannot tell.
  it.finish = (record, thread) => {
    it.ended = true;
    if (record) it.status = record.status;
    else if (it.status === "running" || it.status === "pending") it.status = it.error ? "error" : "interrupted";
    give(record?.kwargs?.input);
    const ending = ENDINGS[it.status] ?? "stopped";
    panes.finish(ending);
    nodes.finish(ending, tells);
    if (it.outputs === undefined && it.status === "success" && thread?.values) result(thread.values);
    if (!it.error && ["error", "timeout"].includes(it.status)) fail(thread?.error ?? record?.error ?? {});
    const open = Object.values(thread?.interrupts ?? {}).flat();
    // The API calls a run that waits for an answer a success, and its thread interrupted.
    if (open.length && thread.status === "interrupted" && stated === "interrupted" && !it.error) {
      it.status = "interrupted";
      waits.replaceChildren(buildInterrupts(open, resume));
    }
    draw();
  };
  it.broke = (message) => {
    it.ended = true;
    it.status = "error";
    fail({ message });
    panes.finish("stopped");
    nodes.finish("stopped", tells);
    draw();
  };
  // `run` as GET /runs/recent has it: the only place that knows what it cost.
  it.recorded = (run) => {
    if (!it.ended || !run.usage) return;
    consumed(run.usage, run.cost_usd);
    if (!tells) nodes.times(run.timings ?? {});
    if (!timed && !time.textContent) say(time, seconds(run.duration_s));
  };
  return it;
}
