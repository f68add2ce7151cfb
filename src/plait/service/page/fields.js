// One input of a workflow: the control that suits its JSON schema, what it holds, and what is wrong with it.

import { make, say } from "./elements.js";

const SHORT = 200;

// What a schema is about, without references and without null: { kind, schema, items }.
export function kindOf(schema, defs) {
  const found = resolved(schema, defs);
  if (found.enum || found.const !== undefined) return { kind: "choice", schema: found };
  const types = [].concat(found.type ?? []).filter((type) => type !== "null");
  if (types.length === 1) {
    if (["integer", "number"].includes(types[0])) return { kind: "number", schema: found };
    if (["string", "boolean"].includes(types[0])) return { kind: types[0], schema: found };
    const items = types[0] === "array" && found.items ? resolved(found.items, defs) : {};
    return { kind: items.type === "string" && !items.enum ? "lines" : "json", schema: found, items };
  }
  const kinds = (found.anyOf ?? found.oneOf ?? []).map((part) => kindOf(part, defs));
  const texts = kinds.find((each) => each.kind === "string");
  const lists = kinds.find((each) => each.kind === "lines");
  if (kinds.length === 2 && texts && lists) return { kind: "paths", schema: found, items: lists.items };
  return { kind: kinds.length ? "json" : "any", schema: found };
}

function resolved(schema, defs) {
  let found = schema ?? {};
  for (let hops = 0; hops < 10; hops++) {
    const name = /^#\/\$defs\/(.+)$/.exec(found.$ref ?? "")?.[1];
    const parts = (found.anyOf ?? []).filter((part) => part.type !== "null");
    if (name) found = { ...defs[name], ...without(found, "$ref") };
    else if (found.anyOf && parts.length === 1) found = { ...parts[0], ...without(found, "anyOf") };
    else if (found.allOf?.length === 1) found = { ...found.allOf[0], ...without(found, "allOf") };
    else return found;
  }
  return found;
}

function without(schema, name) {
  return Object.fromEntries(Object.entries(schema).filter(([key]) => key !== name));
}

// `field` is of GET /workflows: name, type, required, default, description.
export function buildField(field, schema, defs, prefix) {
  const found = kindOf(schema, defs);
  const id = `${prefix}-${field.name}`;
  const control = controlFor(found, field, id);
  const wrong = make("p", { className: "wrong", id: `${id}-wrong`, hidden: true });
  const about = [field.description, hint(found)].filter(Boolean).join("; ");
  const words = make("small", { id: `${id}-about` }, about);
  control.setAttribute("aria-describedby", `${id}-about ${id}-wrong`);
  if (field.required) control.setAttribute("aria-required", "true");
  const type = make("span", { className: "type" }, field.type);
  const mark = field.required ? make("span", { className: "required" }, "required") : null;
  const label = make("label", { htmlFor: id }, field.name);
  const narrow = ["choice", "boolean", "number"].includes(found.kind) ? "input narrow" : "input";
  const element = make("div", { className: narrow }, make("div", { className: "name" }, label, type, mark), control);
  element.append(make("div", { className: "below" }, words, wrong));
  const it = { name: field.name, element, control, read: () => read(found, control.value), touched: false };
  it.complain = (text) => {
    say(wrong, text ?? "");
    wrong.hidden = !text;
    control.setAttribute("aria-invalid", text ? "true" : "false");
  };
  it.problem = () => problemOf(found, field, control);
  it.check = () => {
    const problem = it.problem();
    it.complain(it.touched || found.kind === "json" ? problem && (it.touched || control.value) && problem : null);
    return problem;
  };
  it.fill = (value) => fill(found, control, value);
  control.addEventListener("input", () => it.check());
  control.addEventListener("change", () => {
    it.touched = true;
    it.check();
  });
  return it;
}

function controlFor({ kind, schema }, field, id) {
  const shared = { id, name: field.name, autocomplete: "off" };
  const preset = presetOf(schema, field);
  if (kind === "choice" || kind === "boolean") {
    const values = kind === "boolean" ? [true, false] : (schema.enum ?? [schema.const]);
    const standard = preset ? `as usual (${preset})` : "not set";
    const options = values.map((value) => make("option", { value: JSON.stringify(value) }, choice(value)));
    return make("select", shared, make("option", { value: "" }, field.required ? "choose" : standard), ...options);
  }
  if (kind === "number") {
    const step = schema.type === "integer" ? "1" : "any";
    const bounds = { min: schema.minimum, max: schema.maximum };
    return make("input", { ...shared, type: "number", inputMode: "decimal", placeholder: preset, step, ...bounds });
  }
  if (kind === "string" && schema.maxLength && schema.maxLength <= SHORT) {
    return make("input", { ...shared, type: "text", placeholder: preset });
  }
  const rows = { lines: 3, json: 3, any: 2 }[kind] ?? 1;
  const isCode = kind === "json";
  const example = kind === "json" && !preset ? shapeOf(schema) : preset;
  const area = make("textarea", { ...shared, rows, spellcheck: !isCode, placeholder: example });
  area.classList.toggle("code", isCode);
  return area;
}

// What holds where nothing is entered, as JSON has it, else as Python does.
function presetOf(schema, field) {
  const found = schema.default;
  if (found === undefined) return field.default === "None" ? "" : (field.default ?? "");
  if (found === null || (typeof found === "object" && !Object.keys(found).length)) return "";
  return typeof found === "boolean" ? choice(found) : typeof found === "string" ? found : JSON.stringify(found);
}

function choice(value) {
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

function shapeOf(schema) {
  return schema.type === "array" ? "[ ]" : '{"name": "value"}';
}

function hint({ kind, schema }) {
  if (kind === "lines") return "one per line";
  if (kind === "paths") return "several: one per line";
  if (kind === "json") return "as JSON";
  if (kind === "any") return "text, or JSON";
  if (kind !== "number") return "";
  const [low, high] = [schema.minimum, schema.maximum];
  if (low !== undefined && high !== undefined) return `${low} to ${high}`;
  if (low !== undefined) return `at least ${low}`;
  return high === undefined ? "" : `at most ${high}`;
}

// --- values ---------------------------------------------------------------------------------------

// What is sent; undefined where nothing was entered. Raises SyntaxError for JSON that is none.
function read({ kind }, text) {
  if (text.trim() === "") return undefined;
  if (kind === "choice" || kind === "boolean" || kind === "json") return JSON.parse(text);
  if (kind === "number") return Number(text);
  if (kind === "any") return /^\s*[[{"]/.test(text) ? JSON.parse(text) : text;
  // Texts of several lines fit into no line: a list may be written as JSON too.
  if ((kind === "lines" || kind === "paths") && /^\s*\[/.test(text)) return JSON.parse(text);
  if (kind === "lines") return lines(text);
  if (kind === "paths") return lines(text).length > 1 ? lines(text) : lines(text)[0];
  return text;
}

function lines(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}

function fill({ kind }, control, value) {
  const isPlain = Array.isArray(value) && value.every((each) => typeof each === "string" && !/\n|^\s*\[/.test(each));
  if (value === undefined || value === null) control.value = "";
  else if (kind === "choice" || kind === "boolean") control.value = JSON.stringify(value);
  else if (Array.isArray(value) && isPlain && kind !== "json") control.value = value.join("\n");
  else control.value = typeof value === "string" && kind !== "json" ? value : JSON.stringify(value, null, 2);
}

function problemOf(found, field, control) {
  if (control.validity?.badInput) return "expected a number";
  let value;
  try {
    value = read(found, control.value);
  } catch (error) {
    return `expected JSON: ${error.message.replace(/^JSON\.parse: /, "")}`;
  }
  if (value === undefined) return field.required ? "expected a value" : null;
  return wrongValue(found, value);
}

function wrongValue({ kind, schema, items }, value) {
  if (kind === "number") return wrongNumber(schema, value);
  if (kind === "string") return wrongText(schema, value);
  if (kind === "json" && schema.type === "object" && (typeof value !== "object" || Array.isArray(value))) {
    return 'expected an object, such as {"name": "value"}';
  }
  if (kind === "json" && schema.type === "object") {
    const missing = (schema.required ?? []).find((name) => !(name in value));
    if (missing) return `expected a value for ${missing}`;
    return Object.keys(value).length < (schema.minProperties ?? 0) ? `expected at least ${schema.minProperties}` : null;
  }
  if (kind === "lines" || schema.type === "array") return wrongList(schema, items ?? {}, value);
  return null;
}

function wrongNumber(schema, value) {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  if (schema.type === "integer" && !Number.isInteger(value)) return "expected a whole number";
  if (minimum !== undefined && value < minimum) return `expected at least ${minimum}, found ${value}`;
  if (maximum !== undefined && value > maximum) return `expected at most ${maximum}, found ${value}`;
  if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) return `expected more than ${exclusiveMinimum}`;
  if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) return `expected less than ${exclusiveMaximum}`;
  return null;
}

function wrongText(schema, value) {
  const length = [...value].length;
  if (length < (schema.minLength ?? 0)) return `expected at least ${schema.minLength} characters, found ${length}`;
  if (length > (schema.maxLength ?? Infinity)) return `expected at most ${schema.maxLength} characters, found ${length}`;
  return null;
}

function wrongList(schema, items, value) {
  if (!Array.isArray(value)) return "expected a list, such as [ ]";
  if (value.length < (schema.minItems ?? 0)) return `expected at least ${schema.minItems}, found ${value.length}`;
  if (value.length > (schema.maxItems ?? Infinity)) return `expected at most ${schema.maxItems}, found ${value.length}`;
  if (items.type !== "string") return null;
  for (const [index, each] of value.entries()) {
    const wrong = typeof each === "string" ? wrongText(items, each) : "expected a text";
    if (wrong) return `number ${index + 1}: ${wrong}`;
  }
  return null;
}
