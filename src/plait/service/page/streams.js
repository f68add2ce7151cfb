// A run's events as they come: begins runs, joins those that run, and goes on where a connection broke.

import { ApiError, ask, get, post } from "./api.js";
import { eventsOf } from "./sse.js";

const TRIES = 6;
const OURS = ["pending", "running"];

export async function newThread() {
  return (await post("threads", {})).thread_id;
}

// Begins a run and calls `told` with each event's name and data until the run is over.
// `request` has what a run begins with: input and context, or command. Returns when nothing more will come.
export async function begin(thread, workflow, request, { told, found, keep, signal }) {
  const body = {
    assistant_id: workflow,
    ...request,
    stream_mode: ["plait"],
    stream_resumable: true,
    on_disconnect: keep ? "continue" : "cancel",
  };
  const headers = { Accept: "text/event-stream" };
  const response = await ask(`threads/${thread}/runs/stream`, { method: "POST", body, headers, signal });
  const place = /runs\/([^/?]+)/.exec(response.headers.get("Content-Location") ?? "");
  await follow({ thread, run: place ? place[1] : "", response, told, found, signal });
}

// The same for a run that was begun elsewhere, from its first event on.
export async function join(thread, run, { told, signal }) {
  await follow({ thread, run, response: null, told, found: () => {}, signal });
}

export async function cancel(thread, run) {
  await ask(`threads/${thread}/runs/${run}/cancel?wait=false`, { method: "POST" });
}

async function follow({ thread, run, response, told, found, signal }) {
  let [last, failed, known] = ["-1", 0, run];
  if (known) found(known);
  for (;;) {
    try {
      const open = response ?? (await again(thread, known, last, signal));
      response = null;
      for await (const { event, data, id } of eventsOf(open)) {
        if (id) [last, failed] = [id, 0];
        const value = JSON.parse(data);
        if (event === "metadata" && value.run_id && value.run_id !== known) found((known = value.run_id));
        told(event, value);
      }
    } catch (error) {
      const hopeless = error instanceof ApiError && error.status >= 400 && error.status < 500;
      if (signal.aborted || hopeless || !known || ++failed >= TRIES) throw error;
    }
    if (!known || (await isOver(thread, known, signal))) return;
    // It still runs: the connection broke, or the server was restarted.
    await pause(Math.min(8000, 250 * 2 ** failed), signal);
  }
}

function again(thread, run, last, signal) {
  const headers = { Accept: "text/event-stream", "Last-Event-ID": last };
  return ask(`threads/${thread}/runs/${run}/stream?stream_mode=plait`, { headers, signal });
}

async function isOver(thread, run, signal) {
  try {
    return !OURS.includes((await get(`threads/${thread}/runs/${run}`, { signal })).status);
  } catch (error) {
    if (error instanceof ApiError && (error.status === 0 || error.status >= 500)) return false;
    throw error;
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
