// What all parts of the page share: making elements, saying numbers, reading the data that the page holds.

const NOTHING = "–";

// Texts only ever become text nodes: nothing that a model or a dataset said is read as HTML.
function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

function data(name) {
  const block = byId(`data-${name}`);
  return block ? JSON.parse(block.textContent) : null;
}

function number(value) {
  if (value === null || value === undefined) return NOTHING;
  const size = Math.abs(value);
  if (size >= 1000) return minus(Math.round(value).toLocaleString("en"));
  if (size > 0 && size < 0.001) return minus(value.toExponential(1));
  return minus(value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3));
}

function minus(text) {
  return text.replace("-", "−");
}

function count(value) {
  return value.toLocaleString("en");
}

function seconds(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value < 1) return `${(1000 * value).toFixed(0)} ms`;
  return value < 100 ? `${value.toFixed(2)} s` : `${(value / 60).toFixed(1)} min`;
}

function usd(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value > 0 && value < 0.00005) return `$${value.toExponential(1)}`;
  return `$${value.toFixed(value >= 1 || value === 0 ? 2 : 4)}`;
}

// A score as the table says it.
function said(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value === true) return "passed";
  if (value === false) return "failed";
  return typeof value === "number" ? number(value) : value;
}

// How a score moved: 1 better, -1 worse, 0 the same or another category; null where one of them is missing.
function moved(before, after, lowerIsBetter) {
  if (before === null || after === null || before === undefined || after === undefined) return null;
  if (typeof before === "string" || typeof after === "string") return 0;
  const sign = Math.sign(Number(after) - Number(before));
  return sign === 0 ? 0 : lowerIsBetter ? -sign : sign;
}

function hidden(text) {
  return make("span", { className: "unseen" }, text);
}

// A value as text: a string as it is, anything else as JSON.
function written(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

// The fields of inputs or outputs, as pairs of name and text.
function fields(value) {
  if (value === null || value === undefined) return [];
  if (typeof value === "object" && !Array.isArray(value)) {
    return Object.entries(value).map(([name, part]) => [name, written(part)]);
  }
  return [["", written(value)]];
}
