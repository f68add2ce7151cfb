// What all parts of the page share: making elements, and saying numbers, times and values.

export const NOTHING = "–";
const MOST_ITEMS = 200;

// Texts only ever become text nodes: nothing that a model said is read as HTML.
export function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined) continue;
    if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}

// Changes the page only where it differs: a selection, the focus and a reader's place stay.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function badge(word, tone) {
  return make("span", { className: `badge ${tone}` }, word);
}

export function unseen(text) {
  return make("span", { className: "unseen" }, text);
}

export function count(value) {
  return value.toLocaleString("en");
}

export function many(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

export function number(value) {
  return value < 10 ? value.toLocaleString("en", { maximumFractionDigits: 1 }) : count(Math.round(value));
}

export function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NOTHING;
  if (value < 0.9995) return `${Math.round(1000 * value)} ms`;
  if (value < 10) return `${value.toFixed(2)} s`;
  if (value < 100) return `${value.toFixed(1)} s`;
  const [minutes, rest] = [Math.floor(value / 60), Math.floor(value % 60)];
  return minutes < 120 ? `${minutes} min ${rest} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// Of a run that still goes: the digits after the point would only flicker.
export function elapsed(value) {
  return value < 100 ? `${value.toFixed(1)} s` : seconds(value);
}

export function usd(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value > 0 && value < 0.00005) return `$${value.toExponential(1)}`;
  return `$${value.toFixed(value >= 1 || value === 0 ? 2 : 4)}`;
}

export function ago(moment) {
  const passed = (Date.now() - moment.getTime()) / 1000;
  if (passed < 5) return "now";
  if (passed < 100) return `${Math.round(passed)} s ago`;
  if (passed < 6000) return `${Math.round(passed / 60)} min ago`;
  if (passed < 100_000) return `${Math.round(passed / 3600)} h ago`;
  return moment.toLocaleDateString("en", { day: "numeric", month: "short" });
}

// A value as text: a string as it is, anything else as JSON.
export function written(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

// Objects and lists by their parts, as far down as a reader follows; the rest as JSON.
export function shown(value, depth = 0) {
  if (value === null || value === undefined) return make("p", { className: "soft" }, "nothing");
  if (typeof value !== "object") return make("div", { className: "text" }, String(value));
  if (depth > 2) return make("pre", { className: "text" }, written(value));
  if (Array.isArray(value)) {
    if (!value.length) return make("p", { className: "soft" }, "none");
    const items = value.slice(0, MOST_ITEMS).map((part) => make("li", {}, shown(part, depth + 1)));
    const rest = value.length - items.length;
    if (rest > 0) items.push(make("li", { className: "soft" }, `and ${count(rest)} more: Copy JSON has them all`));
    return make("ol", { className: "values" }, ...items);
  }
  // Messages are mostly empty.
  const parts = Object.entries(value).filter(([, part]) => part !== null && !(depth && isEmpty(part)));
  if (!parts.length) return make("p", { className: "soft" }, "nothing");
  return make("dl", { className: "fields" }, ...parts.map(([name, part]) => named(name, part, depth)));
}

function isEmpty(part) {
  return typeof part === "object" && Object.keys(part).length === 0;
}

function named(name, part, depth) {
  const plain = typeof part !== "object" && String(part).length < 80;
  return make(
    "div",
    { className: plain ? "short" : "" },
    make("dt", {}, name),
    make("dd", {}, plain ? String(part) : shown(part, depth + 1)),
  );
}
