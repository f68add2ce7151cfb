// One example: its texts, what changed in them, its scores, and where its time went.

const LONG = 2500;
const loaded = new Map();

// The last chunk of each kind is kept: neighbours are opened one after another.
function record(kind, row) {
  const index = Math.floor(row / table.chunk);
  if (!loaded.has(kind) || loaded.get(kind).index !== index) {
    loaded.set(kind, { index, content: data(`${kind}-${index}`) });
  }
  const content = loaded.get(kind).content;
  const place = row % table.chunk;
  if (kind === "texts") return content[place];
  return { names: content.names, nodes: content.runs[place][0], tools: content.runs[place][1] };
}

function details(row) {
  const [inputs, reference, outputs, metadata, comments, failures, error, earlier] = record("texts", row);
  return [
    facts(row),
    error ? block("Error", problem(error)) : null,
    earlier && earlier[2] ? block(`Error in ${table.before}`, problem(earlier[2])) : null,
    scoreBlock(row, comments),
    failures.length ? block("Evaluators that failed", list(failures.map(([name, type, said]) => `${name}: ${type}: ${said}`))) : null,
    block("Inputs", ...texts(fields(inputs))),
    fields(reference).length ? block("Reference outputs", ...texts(fields(reference))) : null,
    earlier ? changed(earlier[0], outputs) : null,
    outputs === null ? null : block("Outputs", ...texts(fields(outputs))),
    traceBlock(record("traces", row)),
    metadata && Object.keys(metadata).length ? block("Metadata", ...texts(fields(metadata))) : null,
  ];
}

function facts(row) {
  const pairs = [["Status", table.statuses[row]], ["Latency", seconds(table.latencies[row])], ["Cost", usd(table.costs[row])]];
  if (table.repetitions) pairs.push(["Repetition", String(table.repetitions[row] + 1)]);
  return make("dl", { className: "facts" }, ...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function block(title, ...children) {
  return make("section", { className: "block" }, make("h3", {}, title), ...children);
}

function list(lines) {
  return make("ul", {}, ...lines.map((line) => make("li", {}, line)));
}

function problem([type, message, branch]) {
  const where = branch ? ` at ${branch}` : "";
  return make("p", { className: "problem" }, make("strong", {}, type + where), ": ", message);
}

function texts(pairs) {
  if (!pairs.length) return [make("p", { className: "soft" }, "None.")];
  return pairs.map(([name, text]) => field(name, text));
}

// A field's name and text; of a long text the beginning, and a button for the rest.
function field(name, text) {
  const shown = make("div", { className: "text" }, text.slice(0, LONG));
  const parts = [name ? make("h4", {}, name) : null, shown];
  if (text.length > LONG) {
    const more = make("button", { type: "button" }, `Show all ${count(text.length)} characters`);
    more.addEventListener("click", () => {
      shown.textContent = text;
      more.remove();
      shown.tabIndex = -1;
      shown.focus();
    });
    parts.push(more);
  }
  return make("div", { className: text.length < 70 && !text.includes("\n") ? "field short" : "field" }, ...parts);
}

function scoreBlock(row, comments) {
  const more = new Map(comments.map(([column, comment, category]) => [column, { comment, category }]));
  const lines = table.columns.map(([key, node, , lower], column) => {
    const value = table.scores[column][row];
    const before = table.earlier ? table.earlier[column][row] : null;
    const { comment, category } = more.get(column) || {};
    const name = node ? `${key} of ${node}` : key;
    const extra = category && category !== value ? ` (${category})` : "";
    return make("div", { className: "score" },
      make("dt", {}, name),
      make("dd", {}, make("span", { className: "value" }, said(value) + extra), change(before, value, lower),
        comment ? make("div", { className: "comment" }, comment) : null));
  });
  return lines.length ? block("Scores", make("dl", { className: "scores" }, ...lines)) : null;
}

// What a score was before, and whether it became better, in words.
function change(before, after, lower) {
  const way = moved(before, after, lower);
  if (way === null) return null;
  if (way === 0) return before === after ? null : make("span", { className: "soft" }, ` was ${said(before)}`);
  const word = way > 0 ? "better" : "worse";
  return make("span", { className: way > 0 ? "good" : "bad" }, ` ${way > 0 ? "▲" : "▼"} ${word}, was ${said(before)}`);
}

function changed(before, after) {
  const earlier = new Map(fields(before));
  const later = new Map(fields(after));
  const names = [...new Set([...earlier.keys(), ...later.keys()])];
  const parts = names.map((name) => {
    const [from, to] = [earlier.get(name) || "", later.get(name) || ""];
    const title = name ? make("h4", {}, name) : null;
    if (from === to) return make("div", { className: "field" }, title, make("p", { className: "soft" }, "The same in both."));
    return make("div", { className: "field" }, title, make("div", { className: "text" }, ...diff(from, to).map(piece)));
  });
  if (!parts.length) return null;
  return block(`Outputs: from ${table.before} to ${table.name}`,
    make("p", { className: "legend" }, make("del", {}, "only before"), " ", make("ins", {}, "only after")), ...parts);
}

function piece([kind, text]) {
  return kind === "=" ? document.createTextNode(text) : make(kind === "-" ? "del" : "ins", {}, text);
}

function traceBlock({ names, nodes, tools }) {
  if (!nodes.length && !tools.length) return null;
  const whole = Math.max(...nodes.map((node) => node[2] + node[3]), 1e-6);
  const shown = nodes.length ? make("div", { className: "waterfall", "aria-hidden": "true" }, ...nodes.map((node) => bars(node, names, whole))) : null;
  const legend = make("p", { className: "legend", "aria-hidden": "true" }, ...[["wait", "waiting"], ["first", "to the first token"],
    ["rest", "answering"], ["replayed", "replayed"], ["own", "the node's own time"]].map(([kind, text]) => make("span", {}, make("span", { className: `mark ${kind}` }), ` ${text}`)));
  const table_ = nodes.length ? make("details", {}, make("summary", {}, "The same as a table"), nodeTable(nodes, names)) : null;
  return block("Where the time went", nodes.length ? legend : null, shown, table_, tools.length ? toolList(tools, names) : null);
}

function bars([name, branch, began, duration, error, calls], names, whole) {
  const track = make("div", { className: "track" });
  const put = (kind, from, length, title) => {
    const bar = make("span", { className: `segment ${kind}`, title });
    bar.style.left = `${(100 * Math.min(from / whole, 1)).toFixed(2)}%`;
    bar.style.width = `${(100 * Math.max(Math.min(length, whole - from), 0) / whole).toFixed(2)}%`;
    track.append(bar);
  };
  put(error ? "own failed" : "own", began, duration, `${names[branch]}: ${seconds(duration)}`);
  for (const call of calls) callBars(call, names, put);
  // Below the node that holds its graph, the last part of a name says enough.
  const path = names[name].split("/");
  const within = names.includes(path.slice(0, -1).join("/"));
  const label = make("div", { className: "name", title: names[branch] }, within ? path.pop() : names[name]);
  if (within) label.style.paddingLeft = `${path.length * 0.8}em`;
  return make("div", { className: "bar-row" }, label, track, make("div", { className: "n" }, seconds(duration)));
}

function callBars([model, began, duration, waits, first, generation, , , , flags], names, put) {
  if (flags & 1) {
    put("replayed", began, duration, `${names[model]}, replayed`);
    return;
  }
  const waited = waits.reduce((sum, part, index) => (index % 2 ? sum + part : sum), 0);
  put("wait", began, waited, `waited: ${waitText(waits, names)}`);
  put("first", began + waited, first, `first token after ${seconds(first)}`);
  put("rest", began + waited + first, generation || Math.max(duration - waited - first, 0), `answered for ${seconds(generation)}`);
}

function waitText(waits, names) {
  const parts = [];
  for (let index = 0; index < waits.length; index += 2) parts.push(`${names[waits[index]]} ${seconds(waits[index + 1])}`);
  return parts.join(", ") || "none";
}

function nodeTable(nodes, names) {
  const heads = ["Node or call", "Began", "Took", "Waited", "First token", "Tokens in / out", "Cost"];
  const lines = nodes.flatMap(([name, branch, began, duration, error, calls]) => [
    [names[branch] + (error ? `: ${error}` : ""), seconds(began), seconds(duration), "", "", "", ""],
    ...calls.map(([model, start, took, waits, first, , input, cached, output, flags, cost]) => [
      `call of ${names[model]}${flags & 1 ? ", replayed" : ""}${flags & 2 ? ", failed" : ""}`,
      seconds(start), seconds(took), waitText(waits, names), seconds(first),
      `${count(input)}${cached ? ` (${count(cached)} cached)` : ""} / ${count(output)}`, usd(cost)]),
  ]);
  return make("table", { className: "plain wide", role: "table" },
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads.map((head) => make("th", { role: "columnheader", scope: "col" }, head)))),
    make("tbody", { role: "rowgroup" }, ...lines.map((line) => make("tr", { role: "row" }, ...line.map((cell, index) => (index
      ? make("td", { role: "cell", className: "n", "data-head": heads[index] }, cell)
      : make("th", { role: "rowheader", scope: "row" }, cell)))))));
}

function toolList(tools, names) {
  const lines = tools.map(([name, args, , took, error]) => make("li", {},
    make("strong", {}, names[name]), " ", make("code", {}, JSON.stringify(args)), ` ${seconds(took)}`,
    error ? make("span", { className: "bad" }, ` failed: ${error}`) : null));
  return make("div", { className: "field" }, make("h4", {}, "Tools, in order"), make("ol", {}, ...lines));
}
