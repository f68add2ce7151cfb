// The API key: asked for where the server wants one, kept for this tab only.

import { key, keepKey, whenRefused } from "./api.js";
import { byId, say } from "./elements.js";

const WANTED = "This server asks for an API key. Whoever runs it makes one: plait keys create NAME";
const REFUSED = "This key is not accepted: check it, or ask for another.";

// `again` is called when there is another key to try.
export function askForKeys(again) {
  const names = ["key", "key-field", "key-words", "key-detail", "key-forget"];
  const [form, field, words, detail, forget] = names.map(byId);

  whenRefused((problem) => {
    say(words, key() ? REFUSED : WANTED);
    say(detail, problem.message);
    form.hidden = false;
    forget.hidden = true;
    keepKey("");
    field.focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!field.value.trim()) return;
    keepKey(field.value.trim());
    field.value = "";
    form.hidden = true;
    forget.hidden = false;
    again();
  });
  forget.addEventListener("click", () => {
    keepKey("");
    forget.hidden = true;
    location.reload();
  });
  forget.hidden = !key();
}
