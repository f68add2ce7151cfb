// What a run waits for: the value of each interrupt, and a field for the answer it goes on with.

import { make, say, shown } from "./elements.js";

// `interrupts`: { id, value } each. `resume` gets what LangGraph's Command(resume=...) takes.
export function buildInterrupts(interrupts, resume) {
  const problem = make("p", { className: "problem", role: "alert", hidden: true });
  const send = make("button", { type: "submit", className: "primary" }, "Resume");
  const fields = interrupts.map(({ id, value }, index) => {
    const name = `resume-${id || index}`;
    const control = make("textarea", { id: name, rows: 1, placeholder: "true" });
    const label = make("label", { htmlFor: name }, "Your answer");
    const words = make("small", {}, "JSON, or plain text");
    const element = make("div", { className: "input" }, shown(value), make("div", { className: "name" }, label), control, words);
    return { id, control, element };
  });
  const heading = make("h2", {}, "It waits for an answer");
  const form = make("form", { className: "waiting-for", noValidate: true }, heading);
  form.setAttribute("aria-label", "Answer");
  form.append(...fields.map((field) => field.element), problem, make("div", { className: "actions" }, send));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answers = fields.map((field) => [field.id, answerOf(field.control.value)]);
    send.disabled = true;
    try {
      await resume(answers.length === 1 ? answers[0][1] : Object.fromEntries(answers));
    } catch (error) {
      say(problem, error.message);
      problem.hidden = false;
      send.disabled = false;
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  return form;
}

function answerOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
