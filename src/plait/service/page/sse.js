// Reads server-sent events from a response's body (https://html.spec.whatwg.org/multipage/server-sent-events.html).

// Yields { event, data, id }; `id` is the last one that was sent, "" before the first.
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let id = "";
  let event = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      // A line is whole once the next one begins: the \n of a \r\n may come with the next chunk.
      const lines = (rest + (value ?? "")).split(/\r\n|\n|\r(?!\n|$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { event: event || "message", data: data.join("\n"), id };
          [event, data] = ["", []];
          continue;
        }
        const [name, text] = split(line);
        if (name === "event") event = text;
        else if (name === "data") data.push(text);
        else if (name === "id") id = text;
      }
      // What has no empty line after it was cut off and is no event.
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function split(line) {
  const colon = line.indexOf(":");
  if (colon < 0) return [line, ""];
  return [line.slice(0, colon), line.slice(colon + (line[colon + 1] === " " ? 2 : 1))];
}
