// The form of a workflow: its inputs, the context folded away, Run.

import { make, say } from "./elements.js";
import { buildField } from "./fields.js";

// `begin(request)` gets { input, context, keep } and rejects with what the server says is wrong.
export function buildForm(workflow, begin) {
  const title = make("h1", {}, workflow.name);
  const about = workflow.description ? make("p", { className: "about" }, workflow.description) : null;
  if (workflow.error) {
    const problem = make("p", { className: "problem" }, workflow.error);
    return { element: make("section", { className: "workflow" }, title, about, problem), fill: () => {} };
  }
  const inputs = inputFields(workflow);
  const context = fieldsOf(workflow.context_fields ?? [], workflow.context_schema, `context-${workflow.name}`);
  const keep = make("input", { type: "checkbox", id: `keep-${workflow.name}` });
  const keepLabel = make("label", { className: "keep" }, keep, "keep running when this page is closed");
  const problem = make("p", { className: "problem", role: "alert", hidden: true });
  const run = make("button", { type: "submit", className: "primary" }, "Run");
  const keys = make("span", { className: "soft keys" }, "Ctrl+Enter");
  const form = make("form", { noValidate: true, autocomplete: "off" });
  form.setAttribute("aria-label", `Inputs of ${workflow.name}`);
  form.append(make("div", { className: "inputs" }, ...inputs.map((field) => field.element)));
  if (!inputs.length) form.append(make("p", { className: "soft" }, "It takes no inputs."));
  form.append(folded(context, keepLabel), problem, make("div", { className: "actions" }, run, keys));

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.hidden = true;
    const request = valuesOf(inputs, context);
    if (!request || run.disabled) return;
    run.disabled = true;
    try {
      await begin({ ...request, input: workflow.plain ? request.input.input : request.input, keep: keep.checked });
    } catch (error) {
      complain(problem, error.message, [...inputs, ...context]);
    } finally {
      run.disabled = false;
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  return {
    element: make("section", { className: "workflow" }, title, about, form),
    fill: (values) => inputs.forEach((field) => field.fill(workflow.plain ? values : values?.[field.name])),
  };
}

function inputFields(workflow) {
  if (!workflow.plain) return fieldsOf(workflow.fields, workflow.input_schema, `input-${workflow.name}`);
  // A functional graph takes one value, which has no name.
  const field = { name: "input", type: "", required: false, default: null, description: "" };
  return [buildField(field, workflow.input_schema, workflow.input_schema.$defs ?? {}, `input-${workflow.name}`)];
}

function fieldsOf(fields, schema, prefix) {
  const [properties, defs] = [schema?.properties ?? {}, schema?.$defs ?? {}];
  return fields.map((field) => buildField(field, properties[field.name], defs, prefix));
}

function folded(context, keepLabel) {
  const [summary, inner] = [make("summary", {}, "Options"), make("div", { className: "inputs" })];
  if (context.length) inner.append(make("h4", {}, "Context"), ...context.map((field) => field.element));
  inner.append(keepLabel);
  const details = make("details", { className: "options" }, summary, inner);
  // A field that is wrong must be seen.
  details.addEventListener("invalid-inside", () => (details.open = true));
  return details;
}

// What both groups hold, or null where something is wrong: the first such field gets the focus.
function valuesOf(inputs, context) {
  const all = [...inputs, ...context];
  for (const field of all) field.touched = true;
  const wrong = all.filter((field) => field.check());
  if (wrong.length) {
    wrong[0].control.dispatchEvent(new Event("invalid-inside", { bubbles: true }));
    wrong[0].control.focus();
    return null;
  }
  const input = given(inputs);
  const more = given(context);
  return { input, ...(Object.keys(more).length ? { context: more } : {}) };
}

function given(fields) {
  return Object.fromEntries(fields.map((field) => [field.name, field.read()]).filter(([, value]) => value !== undefined));
}

// The server's lines `name: what is wrong` go to the fields they are about.
function complain(problem, message, fields) {
  const rest = [];
  for (const line of message.split("\n")) {
    const field = fields.find((each) => line.startsWith(`${each.name}:`) || line.startsWith(`${each.name}[`));
    if (field) field.complain(line);
    else rest.push(line);
  }
  say(problem, rest.join("\n"));
  problem.hidden = !rest.length;
}
