// The nodes of a run as they work, and where the time of their model calls went.

import { NOTHING, elapsed, make, many, say, seconds } from "./elements.js";

const CAUSES = {
  concurrency: "calls at once",
  rpm: "requests/min",
  tpm: "tokens/min",
  quota: "the day's quota",
  retry: "retries",
};

const SHORT_S = 0.05;
const ENDS = { finished: "done", failed: "failed", interrupted: "stopped" };

// `timed`: the events come as they happen; of those that are replayed the times mean nothing.
export function buildNodes(names, timed) {
  const rows = make("tbody", { role: "rowgroup" });
  const titles = ["Node", "State", "Time", "Model calls", "Time of its model calls"];
  const cells = titles.map((title, index) =>
    make("th", { scope: "col", role: "columnheader", className: index === 2 || index === 3 ? "n" : "" }, title),
  );
  const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...cells));
  const table = make("table", { className: "nodes", role: "table" }, head, rows);
  table.setAttribute("aria-label", "Nodes");
  const legend = make("p", { className: "legend", hidden: true });
  for (const [name, words] of [["wait", "waiting for a permit"], ["first", "to the first token"], ["rest", "streaming"]]) {
    legend.append(make("span", {}, make("span", { className: `mark ${name}` }), ` ${words}`));
  }
  const title = make("h3", {}, "Where the time went");
  const element = make("section", { className: "times", hidden: true }, title, table, legend);
  const strip = make("ul", { className: "strip" });
  strip.setAttribute("aria-label", "Nodes and their states");
  const nodes = new Map();

  function nodeOf(path) {
    let node = nodes.get(path);
    if (!node) {
      node = buildNode(path, timed);
      nodes.set(path, node);
      // A node of a nested graph stands below the one it runs in.
      const inner = [...nodes.keys()].filter((each) => each.startsWith(`${path.split("/")[0]}/`) && each !== path);
      const above = path.includes("/") ? nodes.get(inner.at(-1) ?? path.split("/")[0]) : null;
      if (above?.row.parentNode) {
        above.row.after(node.row);
        above.chip.after(node.chip);
      } else {
        rows.append(node.row);
        strip.append(node.chip);
      }
    }
    return node;
  }

  for (const name of names) nodeOf(name);

  return {
    strip,
    element,
    note(branch, state) {
      nodeOf(pathOf(branch)).note(branch, state);
    },
    tick: () => nodes.forEach((node) => node.draw()),
    // `told`: whether it said which nodes ran; a run of another client may not have.
    finish(state, told) {
      nodes.forEach((node) => node.finish(state, told ? "not run" : NOTHING));
      strip.hidden = !told;
      element.hidden = !told && legend.hidden;
    },
    times(timings) {
      const totals = Object.values(timings).map(total);
      const most = Math.max(0, ...totals);
      legend.hidden = !most;
      if (most && strip.hidden) element.hidden = false;
      for (const [path, timing] of Object.entries(timings)) nodeOf(pathOf(path)).times(timing, most);
    },
  };
}

// `research[0]/search` is of the node research/search.
export function pathOf(branch) {
  return branch.replace(/\[\d+\]|@\d+/g, "");
}

function buildNode(path, timed) {
  const [state, time, calls, where] = ["", "n", "n", "where"].map((name) =>
    make("td", { role: "cell", className: name }),
  );
  const depth = path.split("/").length - 1;
  const name = make("th", { scope: "row", role: "rowheader", title: path }, path.split("/").at(-1));
  if (depth) name.className = "inner";
  [state, time, calls, where].forEach((cell, index) => {
    cell.dataset.head = ["State", "Time", "Model calls", "Where"][index];
  });
  const row = make("tr", { role: "row" }, name, state, time, calls, where);
  const mark = make("span", { className: "state waiting" }, "waiting");
  const [light, much] = [make("span", { className: "state dot waiting" }), make("span", { className: "soft" })];
  const chip = make("li", { title: path }, light, make("b", {}, path.split("/").at(-1)), " ", much);
  state.append(mark);
  say(time, NOTHING);
  const instances = new Map();
  let [runs, began, worked, passed, idle] = [0, null, null, 0, "waiting"];

  function draw() {
    const states = [...instances.values()];
    const of = (wanted) => states.filter((each) => each === wanted).length;
    const [running, failed, stopped] = [of("running"), of("failed"), of("stopped")];
    const word = running ? "running" : failed ? "failed" : stopped ? "stopped" : states.length ? "done" : idle;
    mark.className = `state ${states.length ? word : "waiting"}`;
    const rest = [];
    if (running && runs > 1) rest.push(`${running} of ${runs}`);
    else if (runs > 1) rest.push(`×${runs}`);
    if (failed && (running || failed < runs)) rest.push(`${failed} failed`);
    say(mark, [word, ...rest].join(" "));
    light.className = mark.className;
    if (timed && (began !== null || worked !== null)) {
      passed = (worked ?? 0) + (began === null ? 0 : (performance.now() - began) / 1000);
      say(time, began === null ? seconds(passed) : elapsed(passed));
    }
    const took = passed < SHORT_S ? [] : [`· ${time.textContent}`];
    say(much, [word, ...rest, ...took].join(" "));
  }

  function note(branch, wanted) {
    const known = instances.get(branch);
    if (known && wanted === "token") return;
    if (wanted === "started" || wanted === "token") {
      // A node that began anew, in a loop, counts once more.
      if (known !== "running") runs++;
      instances.set(branch, "running");
      began ??= performance.now();
    } else if (ENDS[wanted]) {
      if (!known) runs++;
      instances.set(branch, known === "failed" || known === "stopped" ? known : ENDS[wanted]);
    }
    if (![...instances.values()].includes("running") && began !== null) {
      worked = (worked ?? 0) + (performance.now() - began) / 1000;
      began = null;
    }
    draw();
  }

  function finish(how, otherwise) {
    idle = otherwise;
    for (const [branch, known] of instances) if (known === "running") instances.set(branch, how);
    if (began !== null) [worked, began] = [(worked ?? 0) + (performance.now() - began) / 1000, null];
    draw();
  }

  function times(timing, most) {
    say(calls, timing.calls ? String(timing.calls) : "");
    where.replaceChildren(...(most ? [bar(timing, most), make("small", {}, words(timing))] : []));
  }

  return { row, chip, note, draw, finish, times };
}

function total(timing) {
  return waits(timing) + timing.connect_s + timing.first_token_s + timing.generation_s;
}

function waits(timing) {
  return Object.values(timing.waits ?? {}).reduce((sum, each) => sum + each, 0);
}

function bar(timing, most) {
  const track = make("div", { className: "track" });
  track.setAttribute("aria-hidden", "true");
  const parts = { wait: waits(timing), first: timing.connect_s + timing.first_token_s, rest: timing.generation_s };
  for (const [name, length] of Object.entries(parts)) {
    const segment = make("span", { className: name });
    segment.style.width = `${(100 * length) / most}%`;
    if (length) track.append(segment);
  }
  return track;
}

function words(timing) {
  const causes = Object.entries(timing.waits ?? {}).filter(([, length]) => length >= 0.001);
  const waited = causes.map(([cause, length]) => `${seconds(length)} for ${CAUSES[cause] ?? cause}`).join(", ");
  const said = [`first token ${seconds(timing.connect_s + timing.first_token_s)}`, `streaming ${seconds(timing.generation_s)}`];
  if (waited) said.unshift(`waited ${waited}`);
  if (timing.calls > 1) said.push(`the sum of ${many(timing.calls, "call")}`);
  return said.join(" · ");
}
