// The table of examples: find, filter, sort, page, and open one.

const PAGE = 100;
// So many score columns fit beside the texts; more are in the details, the filters and the sorting.
const MOST_SCORES = 6;
const table = data("table");
const collator = new Intl.Collator("en", { numeric: true });
const state = { rows: table.ids.map((_, row) => row), page: 0, sort: "", down: false, texts: [], indexed: 0, opener: null };

const heads = [
  { id: "id", label: "Id", value: (row) => table.ids[row] },
  { id: "inputs", label: "Inputs", value: (row) => table.inputs[row] },
  { id: "outputs", label: "Outputs", value: (row) => table.outputs[row] },
  ...table.columns.map(([key, node, kind], column) => ({
    id: `score-${column}`, label: node ? `${key} (${node})` : key, score: column, numeric: true, words: kind === "category", value: (row) => table.scores[column][row],
  })),
  { id: "latency", label: "Latency", numeric: true, value: (row) => table.latencies[row] },
  { id: "cost", label: "Cost", numeric: true, value: (row) => table.costs[row] },
  { id: "status", label: "Status", value: (row) => table.statuses[row] },
];
const shown = heads.filter(({ score }) => score === undefined || score < MOST_SCORES);
const changes = table.earlier
  ? table.columns.map((column, index) => ({ id: `change-${index}`, label: `change in ${heads[3 + index].label}`, value: (row) => gap(index, row) })).filter((_, index) => table.columns[index][2] !== "category")
  : [];

function gap(column, row) {
  const [before, after] = [table.earlier[column][row], table.scores[column][row]];
  return moved(before, after, false) === null ? null : Number(after) - Number(before);
}

// -- finding -------------------------------------------------------------------------------------------------------

// What the search looks through. Reading all texts takes a moment, so it is done in steps before anybody searches.
function index(until) {
  while (state.indexed < table.ids.length && (until === undefined || performance.now() < until)) {
    const content = data(`texts-${state.indexed / table.chunk}`);
    content.forEach(([inputs, reference, outputs, , , failures, error], place) => {
      const parts = [inputs, reference, outputs].flatMap(fields).map(([, text]) => text);
      state.texts.push([table.ids[state.indexed + place], ...parts, ...(error || []), ...failures.flat()].join("\n").toLowerCase());
    });
    state.indexed = Math.min(state.indexed + table.chunk, table.ids.length);
  }
}

function indexLater() {
  if (state.indexed >= table.ids.length) return;
  index(performance.now() + 8);
  setTimeout(indexLater, 0);
}

function filters() {
  const found = [];
  const words = byId("search").value.trim().toLowerCase();
  if (words) {
    index();
    found.push((row) => state.texts[row].includes(words));
  }
  const status = byId("status").value;
  if (status === "evaluator") found.push((row) => table.failures[row] > 0);
  else if (status) found.push((row) => table.statuses[row] === status);
  const metric = byId("metric").value;
  const which = byId("which").value;
  if (which) {
    const columns = metric === "" ? table.columns.map((_, column) => column) : [Number(metric)];
    const test = scoreTest(which);
    found.push((row) => columns.some((column) => test(column, row)));
  }
  return found;
}

function scoreTest(which) {
  const score = (column, row) => table.scores[column][row];
  const way = (column, row) => (table.earlier ? moved(table.earlier[column][row], score(column, row), table.columns[column][3]) : null);
  const bound = byId("bound").value === "" ? NaN : Number(byId("bound").value);
  if (which.startsWith("is ")) return (column, row) => score(column, row) === which.slice(3);
  const known = (column, row) => score(column, row) !== null;
  return {
    passed: (column, row) => score(column, row) === true,
    failed: (column, row) => score(column, row) === false,
    missing: (column, row) => score(column, row) === null,
    least: (column, row) => Number.isNaN(bound) || (known(column, row) && score(column, row) >= bound),
    most: (column, row) => Number.isNaN(bound) || (known(column, row) && score(column, row) <= bound),
    better: (column, row) => way(column, row) === 1,
    worse: (column, row) => way(column, row) === -1,
    changed: (column, row) => way(column, row) !== null && table.earlier[column][row] !== score(column, row),
  }[which];
}

function refresh() {
  const tests = filters();
  state.rows = table.ids.map((_, row) => row).filter((row) => tests.every((test) => test(row)));
  const by = [...heads, ...changes].find(({ id }) => id === state.sort);
  if (by) sortRows(by.value);
  state.page = 0;
  draw();
  const [some, all] = [count(state.rows.length), count(table.ids.length)];
  const what = table.repetitions ? "runs" : "examples";
  const rest = heads.length - shown.length;
  const more = rest ? `; ${rest} more scores stand in the details` : "";
  byId("found").textContent = (tests.length ? `${some} of ${all} ${what} found` : `${all} ${what}`) + more;
}

// Rows without a value come last, whichever way.
function sortRows(value) {
  const keys = new Map(state.rows.map((row) => [row, value(row)]));
  const sign = state.down ? -1 : 1;
  state.rows.sort((left, right) => {
    const [a, b] = [keys.get(left), keys.get(right)];
    if (a === null || b === null) return (a === null) - (b === null) || left - right;
    const order = typeof a === "string" && typeof b === "string" ? collator.compare(a, b) : a < b ? -1 : Number(a > b);
    return sign * order || left - right;
  });
}

// -- drawing -------------------------------------------------------------------------------------------------------

function draw() {
  const rows = state.rows.slice(state.page * PAGE, (state.page + 1) * PAGE);
  byId("runs").tBodies[0].replaceChildren(...(rows.length ? rows.map(line) : [nobody()]));
  const pages = Math.max(Math.ceil(state.rows.length / PAGE), 1);
  byId("previous").disabled = state.page === 0;
  byId("next").disabled = state.page >= pages - 1;
  byId("page").textContent = `Page ${count(state.page + 1)} of ${count(pages)}`;
  document.querySelector(".pages").hidden = pages === 1;
  for (const cell of byId("runs").tHead.rows[0].cells) {
    const mine = cell.dataset.column === state.sort;
    if (mine) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  byId("sort").value = state.sort ? `${state.sort} ${state.down ? "down" : "up"}` : "";
}

function nobody() {
  const text = table.ids.length ? "No example is like that." : "This experiment has no examples.";
  return make("tr", { role: "row" }, make("td", { role: "cell", colSpan: shown.length, className: "soft" }, text));
}

function line(row) {
  const link = make("a", { href: `#${hash(row)}`, title: table.ids[row] }, table.ids[row]);
  const repetition = table.repetitions ? make("span", { className: "soft" }, ` #${table.repetitions[row] + 1}`) : null;
  const cells = shown.slice(1).map((head) => {
    const cell = make("td", { role: "cell", className: `${head.numeric ? "n " : ""}${head.words ? "words " : ""}${head.id}`, "data-head": head.label });
    cell.append(...content(head, row));
    return cell;
  });
  return make("tr", { role: "row", "data-row": row }, make("th", { role: "rowheader", scope: "row", className: "id" }, link, repetition), ...cells);
}

function content(head, row) {
  const value = head.value(row);
  if (head.score !== undefined) {
    const way = table.earlier ? moved(table.earlier[head.score][row], value, table.columns[head.score][3]) : null;
    if (!way) return [said(value)];
    const mark = make("span", { className: way > 0 ? "good" : "bad" }, way > 0 ? " ▲" : " ▼", hidden(way > 0 ? " better" : " worse"));
    mark.title = `${way > 0 ? "better" : "worse"}, was ${said(table.earlier[head.score][row])}`;
    return [said(value), mark];
  }
  if (head.id === "latency") return [seconds(value)];
  if (head.id === "cost") return [usd(value)];
  if (head.id !== "status") return [make("div", { className: "clip" }, value)];
  const failures = table.failures[row];
  const note = failures ? make("span", { className: "badge bad" }, `${failures} evaluator${failures > 1 ? "s" : ""} failed`) : null;
  return [value === "success" ? value : make("span", { className: "badge bad" }, value), note ? " " : "", note].filter(Boolean);
}

// -- one example ---------------------------------------------------------------------------------------------------

function hash(row) {
  const repetition = table.repetitions && table.repetitions[row] ? `&repetition=${table.repetitions[row] + 1}` : "";
  return `example=${encodeURIComponent(table.ids[row])}${repetition}`;
}

function wanted() {
  const found = /^#example=([^&]*)(?:&repetition=(\d+))?$/.exec(location.hash);
  if (!found) return -1;
  let id = found[1];
  try {
    id = decodeURIComponent(id);
  } catch {
    return -1;
  }
  const repetition = Number(found[2] || 1) - 1;
  return table.ids.findIndex((other, row) => other === id && (!table.repetitions || table.repetitions[row] === repetition));
}

function follow() {
  const row = wanted();
  const dialog = byId("details");
  if (row < 0) {
    if (dialog.open) dialog.close();
    return;
  }
  if (!dialog.open) {
    state.opener = document.activeElement;
    dialog.showModal();
  }
  const place = state.rows.indexOf(row);
  const step = (label, to) => {
    const button = make("button", { type: "button", disabled: place < 0 || to < 0 || to >= state.rows.length }, label);
    button.addEventListener("click", () => go(state.rows[to], label));
    return button;
  };
  const close = make("button", { type: "button", id: "close" }, "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    make("div", { className: "bar" }, step("Previous", place - 1), step("Next", place + 1), close),
    make("h2", { id: "details-title", tabIndex: -1 }, table.ids[row]),
    ...details(row).filter(Boolean));
  dialog.scrollTop = 0;
  byId("details-title").focus();
}

function go(row, label) {
  history.replaceState(null, "", `#${hash(row)}`);
  follow();
  const again = [...byId("details").querySelectorAll(".bar button")].find((button) => button.textContent === label && !button.disabled);
  if (again) again.focus();
}

function closed() {
  // The address loses its hash without a jump to the top, which an empty hash would cause.
  if (wanted() >= 0) history.replaceState(null, "", location.pathname + location.search);
  const opener = state.opener;
  if (opener && opener.isConnected && opener !== document.body) opener.focus();
}

// -- starting ------------------------------------------------------------------------------------------------------

function options(select, pairs) {
  const kept = select.value;
  select.replaceChildren(...pairs.map(([value, label]) => make("option", { value }, label)));
  select.value = pairs.some(([value]) => value === kept) ? kept : "";
}

function whichOptions() {
  const metric = byId("metric").value;
  const kind = metric === "" ? "" : table.columns[Number(metric)][2];
  const pairs = [["", "any"]];
  if (kind === "share") pairs.push(["passed", "passed"], ["failed", "failed"]);
  if (kind === "mean") pairs.push(["least", "at least"], ["most", "at most"]);
  if (kind === "category") {
    const names = new Set(table.scores[Number(metric)].filter((value) => typeof value === "string"));
    pairs.push(...[...names].sort(collator.compare).slice(0, 100).map((name) => [`is ${name}`, name]));
  }
  pairs.push(["missing", "no score"]);
  if (table.earlier) pairs.push(["better", "better than before"], ["worse", "worse than before"], ["changed", "changed"]);
  options(byId("which"), pairs);
  byId("bound-label").hidden = !["least", "most"].includes(byId("which").value);
}

function start() {
  const cells = shown.map((head) => {
    const button = make("button", { type: "button" }, head.label);
    button.addEventListener("click", () => {
      state.down = state.sort === head.id ? !state.down : false;
      state.sort = head.id;
      refresh();
    });
    return make("th", { role: "columnheader", scope: "col", className: `${head.numeric ? "n " : ""}${head.label.length > 14 ? "" : "tight "}${head.id}`, "data-column": head.id }, button);
  });
  byId("runs").tHead.replaceChildren(make("tr", { role: "row" }, ...cells));
  const statuses = [...new Set(table.statuses)].sort();
  options(byId("status"), [["", "any"], ...statuses.map((status) => [status, status]), ...(table.failures.some(Boolean) ? [["evaluator", "evaluator failed"]] : [])]);
  options(byId("metric"), [["", "any"], ...table.columns.map((_, column) => [String(column), heads[3 + column].label])]);
  options(byId("sort"), [["", "dataset"], ...[...heads, ...changes].flatMap(({ id, label }) => [[`${id} up`, `${label}, rising`], [`${id} down`, `${label}, falling`]])]);
  whichOptions();
  listen();
  parts();
  refresh();
}

function listen() {
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { state.sort = ""; whichOptions(); refresh(); }, 0));
  for (const name of ["search", "bound"]) byId(name).addEventListener("input", refresh);
  for (const name of ["status", "metric", "which"]) byId(name).addEventListener("change", () => { whichOptions(); refresh(); });
  byId("sort").addEventListener("change", () => {
    const [id, way] = byId("sort").value.split(" ");
    Object.assign(state, { sort: id, down: way === "down" });
    refresh();
  });
  const turn = (pages) => { state.page += pages; draw(); byId("examples").scrollIntoView(); };
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("runs").tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-row]");
    // A click on the link follows it anyway; one that ends a selection of text wants the text.
    if (!row || event.target.closest("a") || String(getSelection())) return;
    row.querySelector("a").focus();
    location.hash = hash(Number(row.dataset.row));
  });
  for (const button of document.querySelectorAll("button[data-example]")) {
    button.addEventListener("click", () => { location.hash = `example=${encodeURIComponent(button.dataset.example)}`; });
  }
  for (const button of document.querySelectorAll("button[data-search]")) {
    button.addEventListener("click", () => {
      byId("search").value = button.dataset.search;
      refresh();
      byId("examples").focus();
    });
  }
  byId("details").addEventListener("close", closed);
  byId("details").addEventListener("click", (event) => { if (event.target === byId("details")) byId("details").close(); });
  addEventListener("hashchange", follow);
}

function parts() {
  const links = [...document.querySelectorAll("main section[id]")].map((section) => make("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
  byId("parts").replaceChildren(...links);
}

start();
document.addEventListener("DOMContentLoaded", () => { follow(); indexLater(); });
