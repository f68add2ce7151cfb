// What a run streams: a pane for each branch, filled as the tokens come.

import { count, make, say } from "./elements.js";

const MOST_PANES = 60;
const MOST_NOTES = 200;

export function buildPanes() {
  const grid = make("div", { className: "panes" });
  const more = make("p", { className: "soft", hidden: true });
  const element = make("div", { hidden: true }, grid, more);
  const panes = new Map();
  const [full, beyond] = [new Set(), new Set()];
  let due = false;

  function flush() {
    due = false;
    for (const pane of full) pane.flush();
    full.clear();
  }

  function paneOf(branch, label) {
    const found = panes.get(branch);
    if (found) return found;
    if (panes.size >= MOST_PANES) {
      beyond.add(branch);
      more.hidden = false;
      say(more, `and ${count(beyond.size)} more at once; their results are below at the end`);
      return null;
    }
    const made = buildPane(label || branch || "answer", branch);
    panes.set(branch, made);
    element.hidden = false;
    // In the order of the branches, whichever answers first.
    const names = [...panes.keys()].sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
    const next = names[names.indexOf(branch) + 1];
    grid.insertBefore(made.element, next === undefined ? null : panes.get(next).element);
    grid.classList.toggle("one", panes.size === 1);
    return made;
  }

  return {
    element,
    token({ branch, label, text, message_id }) {
      const pane = paneOf(branch, label);
      if (!pane) return;
      pane.add(text, message_id);
      full.add(pane);
      // Frames are not drawn where nobody looks; the texts wait there.
      if (!due) requestAnimationFrame(flush);
      due = true;
    },
    note({ branch, label, data }) {
      paneOf(branch, label)?.note(data);
    },
    end(branch, state) {
      panes.get(branch)?.end(state);
    },
    finish(state) {
      flush();
      for (const pane of panes.values()) pane.end(state);
    },
  };
}

function buildPane(label, branch) {
  const state = make("span", { className: "state running" }, "writing");
  const head = make("header", {}, make("h3", { title: branch }, label), state);
  const body = make("div", { className: "stream", tabIndex: 0, role: "region" });
  body.setAttribute("aria-label", `Output of ${label}`);
  const element = make("article", { className: "pane" }, head, body);
  let [message, text, waiting, notes, ended] = ["", null, "", 0, false];

  function flush() {
    if (!waiting) return;
    const atEnd = body.scrollTop + body.clientHeight >= body.scrollHeight - 24;
    if (!text) {
      text = document.createTextNode("");
      body.append(make("p", {}, text));
    }
    text.appendData(waiting);
    waiting = "";
    if (atEnd) body.scrollTop = body.scrollHeight;
  }

  return {
    element,
    flush,
    add(piece, id) {
      if (id !== message) {
        flush();
        [message, text] = [id, null];
      }
      waiting += piece;
      if (ended) this.end("running");
    },
    note(data) {
      if (++notes > MOST_NOTES) return;
      flush();
      text = null;
      body.append(make("p", { className: "note" }, typeof data === "string" ? data : JSON.stringify(data)));
      body.scrollTop = body.scrollHeight;
    },
    end(how) {
      // What failed once is not done because the run is over.
      if (ended && how !== "running") return;
      ended = how !== "running";
      state.className = `state ${how}`;
      say(state, { running: "writing", done: "done", failed: "failed", stopped: "stopped" }[how]);
    },
  };
}
